using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Text;

namespace Tutti.Guests.Server;

/// <summary>
/// Builds a Debian system from the distribution's packages and writes it into a disk. mmdebstrap does it with apt, which checks signatures; it needs
/// root, or the kernel's leave for a user to play root. Nothing on the host changes but the temporary folder.
/// </summary>
internal sealed class ServerBuild(string work, string searchPath)
{
    public const string Suite = "bookworm";

    /// <summary>Of the disk, in bytes; what is not written takes no room.</summary>
    public const long DiskSize = 10L << 30;

    /// <summary>Lines that are kept for an error.</summary>
    private const int MaxErrors = 300;

    /// <summary>How often packages are unpacked and set up, about.</summary>
    private const int ExpectedSteps = 400;

    /// <summary>What tools say when all is well.</summary>
    private static readonly string[] s_chatter = ["Get:", "Selecting ", "Preparing ", "(Reading ", "Processing ", "Fetched ", "Hit:", " ", "Created symlink"];

    /// <summary>What tools say of an error that they have told before.</summary>
    private static readonly string[] s_echoes = ["setup failed", "system failed", "Exiting with failure status"];

    /// <summary>How long building may say nothing: unpacking is quiet, and a busy host slow.</summary>
    private static readonly TimeSpan s_silence = TimeSpan.FromMinutes(20);

    private static readonly string[] s_scripts = ["build", "excludes", "initramfs", "pack", "setup"];

    /// <summary>What is asked for beside what Debian calls required.</summary>
    private static readonly string[] s_packages =
    [
        "systemd-sysv", "udev", "dbus", "libpam-systemd", "systemd-resolved", "systemd-timesyncd", "linux-image-cloud-amd64", "initramfs-tools", "zstd",
        "openssh-server", "cloud-init", "cloud-guest-utils", "fdisk", "e2fsprogs", "dosfstools", "sudo", "ca-certificates", "apt-utils", "tzdata",
        "iproute2", "iputils-ping", "netbase", "curl", "procps", "kmod", "cron", "logrotate", "less", "nano", "vim-tiny", "file", "bash-completion",
    ];

    /// <summary>Stages that mmdebstrap and our own scripts announce, with how far the whole is then.</summary>
    private static readonly (string Sign, string Stage, double Fraction)[] s_stages =
    [
        ("I: running apt-get update", "Fetching package lists", 0.05),
        ("I: downloading packages", "Fetching Debian's base packages", 0.1),
        ("I: extracting archives", "Unpacking the base system", 0.15),
        ("I: installing essential", "Installing the base system", 0.2),
        ("I: installing remaining", "Fetching and installing packages", 0.3),
        ("I: running --customize-hook", "Setting up the server", 0.8),
        ("I: creating tarball", "Writing the file system", 0.83),
        ("tutti: packed", "Writing the file system", 0.9),
        ("tutti: formatted", "Writing the disk", 0.95),
    ];

    /// <summary>What dpkg leaves out of this image, by its options path-exclude and path-include, of which the last that fits a path counts.</summary>
    internal static IReadOnlyList<string> Excludes { get; } = ReadScript("excludes").Split('\n', StringSplitOptions.RemoveEmptyEntries);

    /// <summary>Text that changes with anything that decides what is built.</summary>
    public static string Recipe { get; } = string.Join('\n', [Suite, DiskSize.ToString(CultureInfo.InvariantCulture), .. s_packages, .. s_scripts.Select(ReadScript)]);

    /// <summary>Finds what is missing before any work is done.</summary>
    /// <exception cref="ImageException">The host cannot build; the message says how to mend that.</exception>
    public static void Check(string searchPath, bool isRoot)
    {
        foreach ((string tool, string package) in ((string, string)[])[("mmdebstrap", "mmdebstrap"), ("bash", "bash"), ("mke2fs", "e2fsprogs"), ("tar", "tar"), ("perl", "perl")])
        {
            if (Find(tool, searchPath) == null)
            {
                throw new ImageException($"Building this image needs {tool}, which this host does not have: apt install {package}");
            }
        }

        if (isRoot)
        {
            return;
        }

        if (Find("newuidmap", searchPath) == null)
        {
            throw new ImageException("Building this image without root needs newuidmap, which this host does not have: apt install uidmap");
        }

        if (ReadNumber("/proc/sys/user/max_user_namespaces") == 0 || ReadNumber("/proc/sys/kernel/unprivileged_userns_clone") == 0)
        {
            throw new ImageException("Building this image without root needs user namespaces, which this host's kernel is told to refuse: sysctl user.max_user_namespaces=10000 kernel.unprivileged_userns_clone=1, or run 'tutti image pull' as root");
        }

        if (ReadNumber("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == 1)
        {
            throw new ImageException("Building this image without root needs user namespaces, which AppArmor restricts here: sysctl kernel.apparmor_restrict_unprivileged_userns=0, or run 'tutti image pull' as root");
        }
    }

    /// <summary>Builds into a file that must not exist. The partition's file system has the number <paramref name="id"/>.</summary>
    /// <exception cref="ImageException">It failed; the message gives the first error in a line.</exception>
    public async Task RunAsync(string target, Guid id, IReadOnlyList<string> sources, Action<string, double> report, CancellationToken cancellationToken)
    {
        foreach (string name in s_scripts)
        {
            File.WriteAllText(Path.Combine(work, name), ReadScript(name));
        }

        long size = DiskSize - GptWriter.PartitionOffset - GptWriter.Tail;
        using FileStream disk = new(target, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.None, 1 << 16);
        disk.SetLength(DiskSize);
        using Process process = Start(size, id, sources);
        await using CancellationTokenRegistration registration = cancellationToken.Register(() => process.StandardInput.Close());
        using CancellationTokenSource silent = new(s_silence);
        await using CancellationTokenRegistration watchdog = silent.Token.Register(() => process.StandardInput.Close());
        Task<string> errors = WatchAsync(process, report, () => silent.CancelAfter(s_silence));
        string? damage = null;
        try
        {
            await ReadExtentsAsync(process.StandardOutput.BaseStream, disk, size, cancellationToken).ConfigureAwait(false);
        }
        catch (InvalidDataException e)
        {
            damage = e.Message;
        }
        finally
        {
            await EndAsync(process, damage != null || cancellationToken.IsCancellationRequested).ConfigureAwait(false);
        }

        cancellationToken.ThrowIfCancellationRequested();
        string text = await errors.ConfigureAwait(false);
        if (process.ExitCode != 0 || damage != null)
        {
            throw DiskSpace.IsReportedIn(text) ? new ImageException(DiskSpace.Message)
                : new ImageException($"Building the image failed: {(silent.IsCancellationRequested ? "it hung and was ended" : FirstError(text, damage)).TrimEnd('.')}.");
        }

        GptWriter.Write(disk, DiskSize, size, Guid.NewGuid(), Guid.NewGuid());
        disk.Flush(flushToDisk: true);
    }

    /// <summary>The line that tells most of what went wrong.</summary>
    internal static string FirstError(string text, string? otherwise)
    {
        string[] lines = [.. text.Split('\n').Select(line => line.Trim()).Where(line => line.Length > 0)];
        return Array.Find(lines, line => line.StartsWith("E: ", StringComparison.Ordinal) && !s_echoes.Any(line.Contains)) is { } error ? error[3..]
            : Array.FindLast(lines, line => !line.StartsWith("I: ", StringComparison.Ordinal) && !s_echoes.Any(line.Contains))
            ?? otherwise ?? "it gave no reason";
    }

    /// <summary>Takes "offset length" and that many bytes, again and again, into the partition.</summary>
    internal static async Task ReadExtentsAsync(Stream from, Stream disk, long size, CancellationToken cancellationToken)
    {
        await using BufferedStream input = new(from, 1 << 16);
        byte[] buffer = new byte[1 << 18];
        while (ReadLine(input) is { } line)
        {
            if (line.Split(' ') is not [string first, string second]
                || !long.TryParse(first, NumberStyles.None, CultureInfo.InvariantCulture, out long offset)
                || !long.TryParse(second, NumberStyles.None, CultureInfo.InvariantCulture, out long length)
                || offset > size || length > size - offset)
            {
                throw new InvalidDataException("what was packed cannot be read");
            }

            for (disk.Position = GptWriter.PartitionOffset + offset; length > 0;)
            {
                int count = await input.ReadAsync(buffer.AsMemory(0, (int)Math.Min(buffer.Length, length)), cancellationToken).ConfigureAwait(false);
                if (count == 0)
                {
                    throw new InvalidDataException("what was packed is cut off");
                }

                disk.Write(buffer.AsSpan(0, count));
                length -= count;
            }
        }
    }

    private static string? ReadLine(Stream input)
    {
        StringBuilder line = new();
        for (int value; (value = input.ReadByte()) != '\n';)
        {
            if (value < 0)
            {
                return line.Length == 0 ? null : throw new InvalidDataException("what was packed is cut off");
            }

            if (line.Append((char)value).Length > 64)
            {
                throw new InvalidDataException("what was packed cannot be read");
            }
        }

        return line.ToString();
    }

    private static string? Find(string tool, string searchPath) => ExternalTool.Find(tool, searchPath + ":/usr/sbin:/sbin");

    private static int ReadNumber(string path)
    {
        try
        {
            return int.TryParse(File.ReadAllText(path), out int value) ? value : -1;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return -1;
        }
    }

    private static string ReadScript(string name)
    {
        using Stream stream = typeof(ServerBuild).Assembly.GetManifestResourceStream("Server/" + name)
            ?? throw new InvalidOperationException($"The embedded file '{name}' is missing.");
        using StreamReader reader = new(stream);
        return reader.ReadToEnd();
    }

    private static async Task<string> WatchAsync(Process process, Action<string, double> report, Action onLine)
    {
        Queue<string> last = new();
        (string Stage, double Fraction) current = (string.Empty, 0);
        int steps = 0;
        while (await process.StandardError.ReadLineAsync().ConfigureAwait(false) is string line)
        {
            onLine();
            if (line.StartsWith("Unpacking ", StringComparison.Ordinal) || line.StartsWith("Setting up ", StringComparison.Ordinal))
            {
                // Packages are most of the time, and of a number that hardly changes.
                steps = Math.Min(steps + 1, ExpectedSteps);
                report(current.Stage, current.Fraction + ((0.8 - current.Fraction) * steps / ExpectedSteps));
                continue;
            }

            if (s_chatter.Any(sign => line.StartsWith(sign, StringComparison.Ordinal)))
            {
                continue;
            }

            last.Enqueue(line.Length > 1000 ? line[..1000] : line);
            if (last.Count > MaxErrors)
            {
                last.Dequeue();
            }

            foreach ((string sign, string stage, double fraction) in s_stages)
            {
                if (line.StartsWith(sign, StringComparison.Ordinal))
                {
                    current = (stage, fraction);
                    report(stage, fraction);
                }
            }
        }

        return string.Join('\n', last);
    }

    /// <summary>Lets it clear up behind itself when it is to end early, for a while.</summary>
    private static async Task EndAsync(Process process, bool isEarly)
    {
        using CancellationTokenSource patience = new(isEarly ? TimeSpan.FromSeconds(20) : Timeout.InfiniteTimeSpan);
        try
        {
            if (isEarly)
            {
                process.StandardInput.Close();
                process.StandardOutput.Close();
            }

            await process.WaitForExitAsync(patience.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            await process.WaitForExitAsync(CancellationToken.None).ConfigureAwait(false);
        }
    }

    private Process Start(long size, Guid id, IReadOnlyList<string> sources)
    {
        bool isRoot = Environment.IsPrivilegedProcess;
        ProcessStartInfo start = new(
            Find("bash", searchPath)!,
            [
                Path.Combine(work, "build"), work, size.ToString(CultureInfo.InvariantCulture), id.ToString("D"),
                isRoot ? "--mode=root" : "--mode=unshare", "--verbose", "--variant=minbase", "--architectures=amd64", "--format=tar",
                "--dpkgopt=force-unsafe-io", .. Excludes.Select(line => "--dpkgopt=" + line),
                "--include=" + string.Join(',', s_packages),
                $"--essential-hook=sh '{work}/initramfs' \"$1\"", $"--customize-hook=sh '{work}/setup' \"$1\"",
                Suite, "-", .. sources,
            ])
        {
            WorkingDirectory = work,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            StandardErrorEncoding = Encoding.UTF8,
        };
        start.Environment["LC_ALL"] = "C";
        start.Environment["PATH"] = searchPath;
        if (isRoot)
        {
            // Below the cache, so that a crash leaves nothing elsewhere. Who only plays root may not enter a home folder.
            start.Environment["TMPDIR"] = work;
        }

        try
        {
            return Process.Start(start) ?? throw new ImageException("bash could not be started.");
        }
        catch (Win32Exception error)
        {
            throw new ImageException($"bash could not be started: {error.Message}.", error);
        }
    }
}
