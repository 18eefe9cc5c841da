namespace Tutti.Compare;

/// <summary>Where a program runs.</summary>
internal enum Place
{
    Tutti,
    Qemu,
    Native,

    /// <summary>Another build of Tutti.</summary>
    Against,
}

/// <summary>What a figure of Tutti's is held against.</summary>
internal enum Yardstick
{
    /// <summary>QEMU's figure in the same run.</summary>
    Qemu,

    /// <summary>The host's own figure in the same run.</summary>
    Native,

    /// <summary>Nothing: the figure itself.</summary>
    Itself,
}

/// <summary>What Tutti should reach.</summary>
/// <param name="Against">What its figure is divided by; the quotient grows as Tutti gets better.</param>
/// <param name="Least">The least quotient that is good enough.</param>
/// <param name="Text">The same in words.</param>
internal sealed record Threshold(Yardstick Against, double Least, string Text)
{
    internal static Threshold TimesQemu(double least) => new(Yardstick.Qemu, least, FormattableString.Invariant($"≥ {least} × QEMU"));

    /// <param name="most">Of QEMU's time or memory, above 0.</param>
    internal static Threshold PartOfQemu(double most) => new(Yardstick.Qemu, 1 / most, FormattableString.Invariant($"≤ {most} of QEMU's"));

    internal static Threshold ShareOfNative(double least) => new(Yardstick.Native, least, FormattableString.Invariant($"≥ {least * 100} % of native"));
}

/// <summary>A natural unit for what is measured in nanoseconds an operation.</summary>
/// <param name="Text">Its sign.</param>
/// <param name="FromNanoseconds">Converts.</param>
/// <param name="MoreIsBetter">True for a rate, false for a time.</param>
internal sealed record Unit(string Text, Func<double, double> FromNanoseconds, bool MoreIsBetter)
{
    internal static Unit Rate(string text, double perNanosecond) => new(text, ns => perNanosecond / ns, true);

    internal static Unit Time(string text, double nanoseconds) => new(text, ns => ns / nanoseconds, false);
}

/// <summary>One line of the table.</summary>
/// <param name="Name">For <c>--only</c>; a program's own name where one program is the whole of it.</param>
/// <param name="What">For people.</param>
/// <param name="Unit">Of its figures.</param>
/// <param name="Bar">What has to hold; null where nothing does.</param>
/// <param name="Aim">What would be good; null where the bar is all.</param>
internal sealed record Benchmark(string Name, string What, Unit Unit, Threshold? Bar = null, Threshold? Aim = null)
{
    internal const string TwoProcessors = "two-vcpus";
    internal const string Boot = "boot";
    internal const string Memory = "memory";

    internal const string Login = "login";

    /// <summary>Behind the name of a measurement of disk or network: the host's processor time for it.</summary>
    internal const string ProcessorTime = "-cpu";

    /// <summary>The program that <see cref="TwoProcessors"/> is made of, run alone and as a pair.</summary>
    internal const string Integer = "integer";
    internal const string Pair = "pair";

    private const string ProcessorGroup = "cpu";
    private const string IoGroup = "io";

    /// <summary>Of nanoseconds a byte.</summary>
    private static Unit MegabytesPerSecond { get; } = Unit.Rate("MB/s", 1e3);

    /// <summary>Of nanoseconds an operation.</summary>
    private static Unit ThousandPerSecond { get; } = Unit.Rate("1000/s", 1e6);

    /// <summary>Of processor nanoseconds a byte.</summary>
    private static Unit SecondsPerGigabyte { get; } = Unit.Time("s/GB", 1);

    /// <summary>All, in the order of the table.</summary>
    internal static IReadOnlyList<Benchmark> All { get; } =
    [
        new(Integer, "integer mix", Unit.Rate("runs/s", 1e9), Threshold.TimesQemu(3), Threshold.ShareOfNative(0.8)),
        new("sha256", "SHA-256 of 256 KiB", Unit.Rate("MB/s", 1e3), Threshold.TimesQemu(3), Threshold.ShareOfNative(0.8)),
        new("deflate", "deflate of 256 KiB of text", Unit.Rate("MB/s", 1e3), Threshold.TimesQemu(2), Threshold.ShareOfNative(0.8)),
        new("inflate", "inflate of the same", Unit.Rate("MB/s", 1e3), Threshold.TimesQemu(3), Threshold.ShareOfNative(0.8)),
        new("matrix-sse2", "matrix product, SSE2", Unit.Rate("GFLOP/s", 1), Threshold.TimesQemu(30), Threshold.ShareOfNative(0.95)),
        new("matrix-avx2", "matrix product, AVX2+FMA", Unit.Rate("GFLOP/s", 1), Threshold.TimesQemu(30), Threshold.ShareOfNative(0.95)),
        new("x87", "extended precision", Unit.Rate("MFLOP/s", 1e3), Threshold.TimesQemu(10)),
        new("memcpy", "copy of 64 MiB", Unit.Rate("GB/s", 1), Threshold.TimesQemu(4)),
        new("touch", "first touch of 64 MiB, a page", Unit.Time("µs", 1e3), Threshold.TimesQemu(4)),
        new("touch-again", "later touch of 64 MiB, a page", Unit.Time("ns", 1), Threshold.TimesQemu(4)),
        new("chase", "pointer chase in 8 MiB, a hop", Unit.Time("ns", 1)),
        new("getpid", "system call", Unit.Time("ns", 1), Threshold.TimesQemu(1.5), Threshold.TimesQemu(2)),
        new("fork-exec", "fork, exec, exit, wait", Unit.Time("µs", 1e3), Threshold.TimesQemu(1.5), Threshold.TimesQemu(2)),
        new("pipe", "pipe, there and back", Unit.Time("µs", 1e3), Threshold.TimesQemu(1.2)),
        new("mmap", "map, touch, unmap 16 pages", Unit.Time("µs", 1e3), Threshold.TimesQemu(2)),
        new(TwoProcessors, "integer mix, two vCPUs to one", new Unit("×", scaling => scaling, true), new Threshold(Yardstick.Itself, 1.9, "≥ 1.9 × one")),
        new(Boot, "process start to init", Unit.Time("s", 1e9), Threshold.PartOfQemu(0.7), Threshold.PartOfQemu(0.5)),
        new(Memory, "host memory beyond guest", new Unit("MiB", bytes => bytes / (1 << 20), false), Threshold.PartOfQemu(0.5)),
        Io("disk-read", "read 1 MiB after 1 MiB", MegabytesPerSecond),
        Io("disk-read-cpu", "host's processor for that", SecondsPerGigabyte),
        Io("disk-write", "write 1 MiB after 1 MiB", MegabytesPerSecond),
        Io("disk-write-cpu", "host's processor for that", SecondsPerGigabyte),
        Io("disk-randread-1", "read 4 KiB anywhere, one at once", ThousandPerSecond, Threshold.TimesQemu(1.5)),
        Io("disk-randread-32", "the same, 32 at once", ThousandPerSecond, Threshold.TimesQemu(1.5)),
        Io("disk-randread-32-cpu", "host's processor for that", SecondsPerGigabyte),
        Io("disk-randwrite-1", "write 4 KiB anywhere, one at once", ThousandPerSecond, Threshold.TimesQemu(1.5)),
        Io("disk-randwrite-32", "the same, 32 at once", ThousandPerSecond, Threshold.TimesQemu(1.5)),
        Io("disk-randwrite-32-cpu", "host's processor for that", SecondsPerGigabyte),
        Io("net-ping", "ping of the gateway", Unit.Time("µs", 1e3)),
        Io("net-request", "HTTP, on one connection", ThousandPerSecond),
        Io("net-connect", "HTTP, a connection each", ThousandPerSecond),
        Io("net-send", "TCP, guest to host", MegabytesPerSecond, Threshold.TimesQemu(3)),
        Io("net-send-cpu", "host's processor for that", SecondsPerGigabyte),
        Io("net-receive", "TCP, host to guest", MegabytesPerSecond, Threshold.TimesQemu(3)),
        Io("net-receive-cpu", "host's processor for that", SecondsPerGigabyte),
        new(Login, "process start to Debian's login", new Unit("s", seconds => seconds, false), Threshold.PartOfQemu(0.5)) { Group = IoGroup },
    ];

    /// <summary>Names that stand for several in <c>--only</c>.</summary>
    internal static IReadOnlyList<string> Groups { get; } = [ProcessorGroup, IoGroup];

    /// <summary>The one of <see cref="Groups"/> that it belongs to.</summary>
    internal string Group { get; private init; } = ProcessorGroup;

    /// <summary>Whether it is a program that runs in a machine with one processor, under its own name.</summary>
    internal bool IsProgram => Group == ProcessorGroup && Name is not (TwoProcessors or Boot or Memory);

    /// <summary>The measurement of bench/compare-io that it is a figure of; null where it is another's.</summary>
    internal string? IoMeasurement =>
        Group != IoGroup || Name == Login ? null : Name.EndsWith(ProcessorTime, StringComparison.Ordinal) ? Name[..^ProcessorTime.Length] : Name;

    /// <summary>Whether its figure is of bytes, not of operations.</summary>
    internal bool CountsBytes => Unit == MegabytesPerSecond || Unit == SecondsPerGigabyte;

    private static Benchmark Io(string name, string what, Unit unit, Threshold? bar = null) => new(name, what, unit, bar) { Group = IoGroup };
}
