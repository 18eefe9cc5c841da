using System.Diagnostics;
using Tutti.Compare;
using Tutti.Guests;

namespace Tutti.Programs;

/// <summary>The root folder with Debian's packages, and the disk that holds the same; made by bench/debian-programs/make-image.</summary>
/// <param name="sources">The folder bench/debian-programs.</param>
/// <param name="folder">Where all is kept.</param>
internal sealed class ProgramImage(string sources, string folder)
{
    /// <summary>$XDG_CACHE_HOME/tutti-bench, or ~/.cache/tutti-bench.</summary>
    internal static string DefaultFolder
    {
        get
        {
            string? cache = Environment.GetEnvironmentVariable("XDG_CACHE_HOME");
            return Path.Combine(
                Path.IsPathFullyQualified(cache ?? string.Empty) ? cache! : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache"),
                "tutti-bench");
        }
    }

    internal string Root => Path.Combine(folder, "root");

    /// <summary>Starts a command in the root folder.</summary>
    internal string Enter => Path.Combine(sources, "enter");

    /// <summary>Of the kernel package in it.</summary>
    private string KernelVersion => Directory.EnumerateFiles(Path.Combine(Root, "boot"), "vmlinuz-*").Select(path => Path.GetFileName(path)["vmlinuz-".Length..]).First();

    /// <summary>What guests are started from. The disk is only read.</summary>
    internal GuestImage Guest => new()
    {
        Name = "programs",
        Description = "Debian 12 with the programs that are measured",
        Version = KernelVersion,
        KernelPath = Path.Combine(folder, "vmlinuz"),
        InitrdPath = Path.Combine(folder, "initrd.img"),
        DiskPath = Path.Combine(folder, "disk.img"),
        DiskSize = new FileInfo(Path.Combine(folder, "disk.img")).Length,
        CommandLine = "root=/dev/vda ro console=ttyS0,115200n8r panic=-1 quiet init=/bench/init",
        Size = 0,
    };

    /// <summary>Makes what is missing or out of date.</summary>
    /// <exception cref="CompareException">It failed; the script has said why.</exception>
    internal void Make()
    {
        using Process process = Process.Start(Path.Combine(sources, "make-image"), [folder]);
        process.WaitForExit();
        if (process.ExitCode != 0)
        {
            throw new CompareException($"the image in {folder} could not be made");
        }
    }
}
