using System.Collections.Immutable;
using System.Globalization;
using Tutti.Guests;
using Tutti.Host;
using Tutti.Memory;
using Tutti.Network;
using Tutti.Storage;
using Tutti.X86;

namespace Tutti.Cli;

/// <summary>The words of <c>tutti run</c> as the user wrote them.</summary>
internal sealed record RunArguments
{
    internal string? Image { get; init; }

    internal string? Kernel { get; init; }

    internal string? Initrd { get; init; }

    internal string? Append { get; init; }

    internal string? BootEntry { get; init; }

    internal IReadOnlyList<string> Disks { get; init; } = [];

    internal string? Network { get; init; }

    internal string? Console { get; init; }

    internal bool FiltersConsole { get; init; }

    internal IReadOnlyList<string> Publish { get; init; } = [];

    internal MachineArguments Machine { get; init; } = new();

    internal string? Memory { get; init; }

    internal string? Cpus { get; init; }

    internal string? Cpu { get; init; }

    internal string? Engine { get; init; }

    internal string? Timeout { get; init; }

    internal bool NoReboot { get; init; }

    internal bool Verbose { get; init; }

    internal string? Trace { get; init; }
}

/// <summary>Which of the guest's consoles the user's terminal is.</summary>
internal enum ConsoleKind
{
    /// <summary>The first serial port, ttyS0.</summary>
    Serial,

    /// <summary>A virtio console, hvc0.</summary>
    Virtio,
}

/// <summary>The same, checked, with its files read; nothing is made yet.</summary>
internal sealed record RunOptions
{
    internal const string DefaultMemory = "512M";
    internal const string DefaultNetwork = "user";
    internal const string DefaultConsole = "serial";
    internal const long MinMemory = 64L << 20;
    private const long PageSize = 4096;

    /// <summary>The names of all consoles, each at its kind's number.</summary>
    internal static readonly ImmutableArray<string> ConsoleKinds = [DefaultConsole, "virtio"];

    /// <summary>Longest command line that x86 Linux takes, without its NUL (COMMAND_LINE_SIZE).</summary>
    private const int MaxCommandLine = 2047;

    /// <summary>The image, or null where a kernel file takes its place.</summary>
    internal string? Image { get; private init; }

    /// <summary>The kernel file; null for the image's.</summary>
    internal InputFile? Kernel { get; private init; }

    /// <summary>The initial RAM disk file; null for the image's, or for none.</summary>
    internal InputFile? Initrd { get; private init; }

    internal string Append { get; private init; } = string.Empty;

    /// <summary>Which entry of a disk's boot menu is started, by name or number; null for the one that its boot loader would start.</summary>
    internal string? BootEntry { get; private init; }

    /// <summary>Disks in the order of their names in the guest. The guest boots from the first one when it has neither image nor kernel file.</summary>
    internal IReadOnlyList<DiskOptions> Disks { get; private init; } = [];

    /// <summary>What the guest's network card is plugged into.</summary>
    internal required NetworkSpec Network { get; init; }

    internal ConsoleKind Console { get; private init; }

    /// <summary>Whether only text, colours and cursor moves of the guest's reach the terminal.</summary>
    internal bool FiltersConsole { get; private init; }

    /// <summary>Which machine's disk it is, and what its guest is told at its first start.</summary>
    internal MachineChoice Machine { get; private init; } = new();

    internal long MemorySize { get; private init; }

    internal int ProcessorCount { get; private init; }

    internal CpuModel Cpu { get; private init; } = CpuModel.Host;

    internal required EngineChoice Engine { get; init; }

    internal bool NoReboot { get; private init; }

    /// <summary>Whether the counters are shown at the end.</summary>
    internal bool Verbose { get; private init; }

    /// <summary>What is traced and where to; null for nothing.</summary>
    internal TraceRequest? Trace { get; private init; }

    /// <exception cref="UserException">A word is wrong.</exception>
    internal static RunOptions Check(RunArguments words, HostMemory host)
    {
        EngineChoice engine = Engines.Choose(words.Engine ?? Engines.Auto);
        bool isDisk = words.Image != null && IsDisk(words.Image);
        if (words.Image != null && !isDisk && words.Kernel != null)
        {
            throw new UserException("give either an image or --kernel, not both");
        }

        string? image = words.Kernel == null && !isDisk ? words.Image ?? ImageCatalog.DefaultImage : null;
        if (image != null)
        {
            CheckImage(image);
        }

        if (isDisk && words.Initrd != null && words.Kernel == null)
        {
            throw new UserException("--initrd goes with --kernel: a disk's kernel brings its own");
        }

        if (words.BootEntry != null && (words.Kernel != null || image == ImageCatalog.DefaultImage))
        {
            throw new UserException("--boot-entry goes with a disk, whose own kernel is started");
        }

        CpuModel cpu = CheckModel(words.Cpu ?? CpuModel.Host.Name);
        long memory = CheckMemory(words.Memory ?? DefaultMemory, host, cpu);
        return new RunOptions
        {
            Engine = engine,
            Image = image,
            Append = CheckAppend(words.Append ?? string.Empty),
            BootEntry = words.BootEntry,
            Network = CheckNetwork(words),
            Console = CheckConsole(words.Console ?? DefaultConsole),
            FiltersConsole = words.FiltersConsole,
            Machine = MachineChoice.Check(words.Machine, image, isDisk ? words.Image : null),
            Disks = [.. (isDisk ? words.Disks.Prepend(words.Image!) : words.Disks).Select(DiskOption.Parse)],
            MemorySize = memory,
            ProcessorCount = CheckProcessors(words.Cpus ?? "1", engine),
            Cpu = cpu,
            NoReboot = words.NoReboot,
            Verbose = words.Verbose,
            Trace = words.Trace == null ? null : TraceRequest.Parse(words.Trace, engine.Engine),
            Kernel = words.Kernel == null ? null : InputFile.Open("--kernel", words.Kernel, memory),
            Initrd = words.Initrd == null ? null : InputFile.Open("--initrd", words.Initrd, memory),
        };
    }

    /// <summary>Whether a word names a disk: images' names have neither slash nor dot.</summary>
    private static bool IsDisk(string word) => !word.StartsWith('-') && (word.AsSpan().ContainsAny('/', '.') || (!ImageCatalog.Names.Contains(word) && File.Exists(word)));

    private static void CheckImage(string image)
    {
        if (image.StartsWith('-'))
        {
            throw new UserException($"unknown option '{image}'. See 'tutti run --help'.");
        }

        if (!ImageCatalog.Names.Contains(image))
        {
            throw new UserException($"there is no image '{image}'; images: {string.Join(", ", ImageCatalog.Names)} (a disk is given by its path, a kernel file with --kernel)");
        }
    }

    private static NetworkSpec CheckNetwork(RunArguments words)
    {
        try
        {
            NetworkSpec network = NetworkSpec.Parse(words.Network ?? DefaultNetwork);
            return network.Kind == NetworkKind.User || words.Publish.Count == 0
                ? network with { Published = [.. words.Publish.SelectMany(PublishRule.Parse)], HostName = words.Machine.HostName ?? string.Empty }
                : throw new UserException("--publish goes with --net user, where the guest is behind this host");
        }
        catch (NetworkException e)
        {
            throw new UserException(e.Message);
        }
    }

    private static string CheckAppend(string append)
    {
        if (append.Any(c => c is < ' ' or > '~'))
        {
            throw new UserException("--append takes printable ASCII only");
        }

        return append.Length <= MaxCommandLine
            ? append
            : throw new UserException(Invariant($"--append is {append.Length} characters long; the kernel takes at most {MaxCommandLine}"));
    }

    private static ConsoleKind CheckConsole(string word) => ConsoleKinds.IndexOf(word) is >= 0 and int kind
        ? (ConsoleKind)kind
        : throw new UserException($"there is no console '{word}'; consoles: {string.Join(", ", ConsoleKinds)}");

    private static CpuModel CheckModel(string text)
    {
        try
        {
            return CpuModel.Parse(text);
        }
        catch (FormatException e)
        {
            throw new UserException(e.Message);
        }
    }

    private static long CheckMemory(string text, HostMemory host, CpuModel cpu)
    {
        if (!Quantity.TryParseSize(text, out long size))
        {
            throw new UserException($"--memory '{text}' is no size; write for example 512M or 4G (a bare number is MiB)");
        }

        if (size < MinMemory)
        {
            throw new UserException($"--memory {text} is too small; the least is {MinMemory >> 20}M");
        }

        if (size > host.Total)
        {
            throw new UserException($"--memory {text} is more than this host has ({Quantity.FormatSize(host.Total)}); give less");
        }

        // Part of the addresses below 4 GiB is not memory, which therefore ends higher than it is large.
        long end = size + (long)(GuestMemoryLayout.HighMemoryStart - GuestMemoryLayout.LowMemoryLimit);
        return cpu.PhysicalAddressBits is int bits && end > 1L << bits
            ? throw new UserException($"--memory {text} is more than {cpu} has addresses for ({Quantity.FormatSize(1L << bits)}); give less, or --cpu {CpuModel.Host}")
            : size / PageSize * PageSize;
    }

    private static int CheckProcessors(string text, EngineChoice engine)
    {
        bool isNumber = int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int count);
        if (isNumber && count >= 1 && count <= engine.MaxProcessors)
        {
            if (count > 1 && Environment.GetEnvironmentVariable("TUTTI_DIRECT") == "1")
            {
                throw new UserException($"TUTTI_DIRECT=1 works with one processor only, not with --cpus {text}");
            }

            return count;
        }

        string range = engine.MaxProcessors == 1 ? "1" : Invariant($"1 to {engine.MaxProcessors}");
        throw new UserException($"--cpus '{text}' does not work; the {engine.Engine.Name} engine takes {range}");
    }

    /// <exception cref="UserException">It is no time.</exception>
    internal static TimeSpan? CheckTimeout(string? text) =>
        text == null ? null : Quantity.TryParseTime(text, out TimeSpan time) && time > TimeSpan.Zero
            ? time
            : throw new UserException($"--timeout '{text}' is no time above 0; write for example 30s, 5m or 500ms");

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
