using System.Diagnostics;
using System.Text;
using Tutti.Guests;

namespace Tutti.Bench;

/// <summary>A guest that Tutti and QEMU can both run.</summary>
/// <param name="Image">Its kernel and the kernel's command line.</param>
/// <param name="InitrdPath">The initial RAM disk.</param>
/// <param name="Words">What follows the image's own command line.</param>
internal sealed record GuestSetup(GuestImage Image, string InitrdPath, string Words)
{
    /// <summary>Guest memory in MiB; the default of <c>tutti run</c>.</summary>
    public int MemoryMegabytes { get; init; } = 512;

    public int Processors { get; init; } = 1;

    /// <summary>An image, the guest's only disk; null for none.</summary>
    public string? DiskPath { get; init; }

    /// <summary>The image's format.</summary>
    public string DiskFormat { get; init; } = "raw";

    /// <summary>Whether what the guest writes goes to a new qcow2 image over the disk, which is thrown away.</summary>
    public bool IsDiskThrownAway { get; init; }

    /// <summary>How QEMU gets at the disk's file: "io_uring", as Tutti does, or "threads", which is its own choice.</summary>
    public string QemuAio { get; init; } = "io_uring";

    /// <summary>Whether there is a network card, in a user-mode network where the host's services are at the gateway's address.</summary>
    public bool HasNetwork { get; init; }

    /// <summary>The program that is Tutti; null for the clone's own.</summary>
    public string? TuttiPath { get; init; }

    /// <summary>Whether Tutti says at the end what its engine has counted.</summary>
    public bool HasCounters { get; init; }
}

/// <summary>A VMM as a process with a real kernel in it, watched from outside as a user would.</summary>
internal sealed class GuestRun : IDisposable
{
    /// <summary>What the image's /init prints first when the kernel command line holds <see cref="MarkerWord"/>.</summary>
    public const string Marker = "tutti-guest: init";

    public const string MarkerWord = "tutti.marker";

    /// <summary>Guard pages and the like; far less than anything else of that size differs by.</summary>
    private const long MappingSlack = 4 << 20;

    private readonly Process _process;
    private readonly Stopwatch _watch;
    private readonly StringBuilder _output = new();
    private readonly StringBuilder _errors = new();
    private readonly char[] _buffer = new char[4096];
    private readonly long _guestMemory;

    /// <summary>A read that somebody has waited for in vain: the next one goes on with it.</summary>
    private Task<int>? _read;

    private GuestRun(string file, IEnumerable<string> arguments, int memoryMegabytes)
    {
        var start = new ProcessStartInfo(file, arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        _guestMemory = (long)memoryMegabytes << 20;
        _watch = Stopwatch.StartNew();
        _process = Process.Start(start) ?? throw new InvalidOperationException($"{file} did not start");
        _process.ErrorDataReceived += (_, line) => AddError(line.Data);
        _process.BeginErrorReadLine();
    }

    /// <summary>What the guest has printed, as far as somebody has waited for it.</summary>
    public string Output => _output.ToString();

    /// <summary>The first lines that the VMM itself has printed.</summary>
    public string Errors
    {
        get
        {
            lock (_errors)
            {
                return _errors.ToString();
            }
        }
    }

    /// <summary>The last line that came, from the VMM itself where it said anything.</summary>
    public string LastWords => (Errors.Trim().Length > 0 ? Errors : Output)
        .Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries).LastOrDefault() ?? "it printed nothing";

    /// <summary>Since the process was started.</summary>
    public TimeSpan Elapsed => _watch.Elapsed;

    public bool HasEnded => _process.HasExited;

    /// <param name="setup">The guest.</param>
    /// <param name="engine">A name for <c>--engine</c>; null for the command's own choice.</param>
    public static GuestRun Tutti(GuestSetup setup, string? engine = null) => new(
        setup.TuttiPath ?? Path.Combine(RepositoryRoot(), "tutti"),
        [
            // An image on a disk would get a machine of its own, whose disk is kept.
            "run", .. setup.Image.DiskPath is null ? (string[])[setup.Image.Name] : ["--kernel", setup.Image.KernelPath],
            "--initrd", setup.InitrdPath, "--append", setup.Image.DiskPath is null ? setup.Words : $"{setup.Image.CommandLine} {setup.Words}",
            "--memory", $"{setup.MemoryMegabytes}M", "--cpus", $"{setup.Processors}", "--net", setup.HasNetwork ? "user,host=allow" : "none",
            .. setup.DiskPath is string disk ? (string[])["--disk", $"{disk.Replace(",", ",,", StringComparison.Ordinal)},format={setup.DiskFormat}{(setup.IsDiskThrownAway ? ",overlay" : "")}"] : [],
            .. engine is null ? Array.Empty<string>() : ["--engine", engine],
            .. setup.HasCounters ? (string[])["--verbose"] : [],
        ],
        setup.MemoryMegabytes);

    /// <summary>The same with QEMU's own translator. Its disk is in the mode of Tutti's: the host's page cache, asynchronous calls.</summary>
    public static GuestRun Qemu(GuestSetup setup) => new(
        "qemu-system-x86_64",
        [
            "-accel", "tcg", "-cpu", "max", "-m", $"{setup.MemoryMegabytes}M", "-smp", $"{setup.Processors}",
            "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio",
            .. setup.DiskPath is string disk
                ? (string[])[
                    "-drive", $"file={disk.Replace(",", ",,", StringComparison.Ordinal)},if=none,id=disk,format={setup.DiskFormat},cache=writeback,aio={setup.QemuAio}{(setup.IsDiskThrownAway ? ",snapshot=on" : "")}",
                    "-device", "virtio-blk-pci,drive=disk"]
                : [],
            .. setup.HasNetwork ? (string[])["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="] : [],
            "-kernel", setup.Image.KernelPath, "-initrd", setup.InitrdPath, "-append", $"{setup.Image.CommandLine} {setup.Words}",
        ],
        setup.MemoryMegabytes);

    /// <summary>A program of the host's own, watched in the same way.</summary>
    public static GuestRun Native(string file, IEnumerable<string> arguments) => new(file, arguments, 0);

    /// <summary>Waits until the guest prints a text; gives seconds since the process was started, or null when the time since then ran out or the process ended.</summary>
    public double? WaitFor(string text, TimeSpan timeout) => WaitFor(output => output.Contains(text, StringComparison.Ordinal), timeout);

    /// <summary>The same for any condition on all that the guest has printed.</summary>
    public double? WaitFor(Predicate<string> isThere, TimeSpan timeout)
    {
        while (true)
        {
            if (isThere(_output.ToString()))
            {
                return _watch.Elapsed.TotalSeconds;
            }

            _read ??= _process.StandardOutput.ReadAsync(_buffer, 0, _buffer.Length);
            TimeSpan left = timeout - _watch.Elapsed;
            if (left <= TimeSpan.Zero || !_read.Wait(left) || _read.Result == 0)
            {
                return null;
            }

            _output.Append(_buffer, 0, _read.Result);
            _read = null;
        }
    }

    /// <summary>Types a line at the guest's console.</summary>
    /// <exception cref="IOException">The process has ended.</exception>
    public void Type(string line)
    {
        _process.StandardInput.Write(line + "\n");
        _process.StandardInput.Flush();
    }

    /// <summary>Types a line that switches the guest off, and waits for the process to end by itself.</summary>
    /// <returns>Whether it did.</returns>
    public bool End(string line, TimeSpan timeout)
    {
        try
        {
            Type(line);
        }
        catch (IOException)
        {
            return HasEnded;
        }

        // What it still prints has to be read, or it waits for that.
        WaitFor(_ => false, _watch.Elapsed + timeout);
        return _process.WaitForExit(TimeSpan.FromSeconds(5));
    }

    /// <summary>Processor seconds that the process has used.</summary>
    public double ProcessorSeconds()
    {
        _process.Refresh();
        return _process.TotalProcessorTime.TotalSeconds;
    }

    /// <summary>
    /// Resident bytes that are not guest memory, each physical page once: what the VMM itself costs. Guest memory is one mapping
    /// of its size in either VMM (several, where the same pages are mapped more than once), writable and not executable, which
    /// tells it from QEMU's buffer for translated code: that may be larger. Its resident pages are those the guest has touched.
    /// </summary>
    /// <exception cref="InvalidOperationException">No mapping looks like guest memory.</exception>
    public long OverheadBytes()
    {
        (long guest, long own) = ResidentMemory.Measure(
            _process.Id,
            mapping => mapping.Size >= _guestMemory && mapping.Size < _guestMemory + MappingSlack
                && mapping.Rights.StartsWith("rw-", StringComparison.Ordinal));
        return guest > 0 ? own : throw new InvalidOperationException("none of the process's mappings looks like guest memory");
    }

    public void Dispose()
    {
        if (!_process.HasExited)
        {
            _process.Kill(entireProcessTree: true);
            _process.WaitForExit();
        }

        _process.Dispose();
    }

    /// <summary>The root of the clone that this program was built in.</summary>
    public static string RepositoryRoot()
    {
        string? folder = AppContext.BaseDirectory;
        while (folder is not null && !File.Exists(Path.Combine(folder, "tutti.slnx")))
        {
            folder = Path.GetDirectoryName(folder);
        }

        return folder ?? throw new InvalidOperationException("bench must be run from a clone of the repository");
    }

    private void AddError(string? line)
    {
        lock (_errors)
        {
            if (line is not null && _errors.Length < 4096)
            {
                _errors.Append(line).Append('\n');
            }
        }
    }
}
