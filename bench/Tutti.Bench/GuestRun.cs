using System.Diagnostics;
using System.Text;
using Tutti.Guests;

namespace Tutti.Bench;

/// <summary>A VMM as a process with a real kernel in it, watched from outside as a user would.</summary>
internal sealed class GuestRun : IDisposable
{
    /// <summary>What the image's /init prints first when the kernel command line holds <c>tutti.marker</c>.</summary>
    public const string Marker = "tutti-guest: init";

    private readonly Process _process;
    private readonly Stopwatch _watch;
    private readonly StringBuilder _output = new();

    private GuestRun(string file, IEnumerable<string> arguments)
    {
        var start = new ProcessStartInfo(file, arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        _watch = Stopwatch.StartNew();
        _process = Process.Start(start) ?? throw new InvalidOperationException($"{file} did not start");
        _process.ErrorDataReceived += (_, _) => { };
        _process.BeginErrorReadLine();
    }

    public int ProcessId => _process.Id;

    public static GuestRun Tutti(GuestImage image, string memory) => new(
        Path.Combine(RepositoryRoot(), "tutti"),
        ["run", "--kernel", image.KernelPath, "--initrd", image.InitrdPath, "--append", CommandLine(image), "--memory", memory]);

    public static GuestRun Qemu(GuestImage image, string memory) => new(
        "qemu-system-x86_64",
        ["-accel", "tcg", "-cpu", "max", "-m", memory, "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio", "-kernel", image.KernelPath, "-initrd", image.InitrdPath, "-append", CommandLine(image)]);

    /// <summary>Waits until the guest prints a text; gives seconds since the process was started, or null when the time ran out.</summary>
    public double? WaitFor(string text, TimeSpan timeout)
    {
        var buffer = new char[4096];
        while (true)
        {
            if (_output.ToString().Contains(text, StringComparison.Ordinal))
            {
                return _watch.Elapsed.TotalSeconds;
            }

            Task<int> read = _process.StandardOutput.ReadAsync(buffer, 0, buffer.Length);
            TimeSpan left = timeout - _watch.Elapsed;
            if (left <= TimeSpan.Zero || !read.Wait(left) || read.Result == 0)
            {
                return null;
            }

            _output.Append(buffer, 0, read.Result);
        }
    }

    /// <summary>Processor seconds that the process has used.</summary>
    public double ProcessorSeconds()
    {
        _process.Refresh();
        return _process.TotalProcessorTime.TotalSeconds;
    }

    /// <summary>Resident bytes that are not the mapping of guest memory: what the VMM itself costs.</summary>
    public long OverheadBytes(long guestMemory)
    {
        long resident = 0;
        long mapping = 0;
        bool isGuest = false;
        foreach (string line in File.ReadLines($"/proc/{_process.Id}/smaps"))
        {
            if (line.Length > 0 && char.IsAsciiHexDigitLower(line[0]) && line.Contains('-', StringComparison.Ordinal) && !line.StartsWith("Rss", StringComparison.Ordinal))
            {
                string[] bounds = line.Split(' ')[0].Split('-');
                long size = Convert.ToInt64(bounds[1], 16) - Convert.ToInt64(bounds[0], 16);
                isGuest = size >= guestMemory;
            }
            else if (line.StartsWith("Rss:", StringComparison.Ordinal))
            {
                long bytes = long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], null) * 1024;
                resident += bytes;
                mapping += isGuest ? bytes : 0;
            }
        }

        return resident - mapping;
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

    private static string CommandLine(GuestImage image) => $"{image.CommandLine} tutti.marker";

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
}
