using System.Diagnostics;
using System.Security.Cryptography;
using Tutti.Boot;
using Tutti.Guests;

namespace Tutti.Compare;

/// <summary>The executable of bench/compare-io, the initial RAM disk that has it as its init and the kernel's drivers, and the disk it works on.</summary>
internal sealed class IoMeasurements
{
    /// <summary>How long each is measured.</summary>
    internal const int Milliseconds = 1500;

    /// <summary>What the host's page cache has room for: the way to the disk is measured, not the disk.</summary>
    private const int DiskSize = 512 << 20;

    private IoMeasurements(string executable, string initrd, string disk, string format) => (Executable, Initrd, Disk, DiskFormat) = (executable, initrd, disk, format);

    internal string Executable { get; }

    internal string Initrd { get; }

    /// <summary>An image, whose contents don't matter.</summary>
    internal string Disk { get; }

    /// <summary>Its format, one of <see cref="DiskFormats"/>.</summary>
    internal string DiskFormat { get; }

    internal static IReadOnlyList<string> DiskFormats { get; } = ["raw", "qcow2"];

    /// <param name="sources">The folder bench/compare-io.</param>
    /// <param name="folder">Where everything goes; made where it is missing.</param>
    /// <param name="image">Whose drivers the initial RAM disk gets.</param>
    /// <param name="format">The disk's format.</param>
    /// <exception cref="CompareException">There is no compiler, or it fails.</exception>
    internal static IoMeasurements Build(string sources, string folder, GuestImage image, string format)
    {
        Directory.CreateDirectory(folder);
        IoMeasurements made = new(Path.Combine(folder, "io"), Path.Combine(folder, "io-initrd.img"), Path.Combine(folder, $"disk.{format}"), format);
        StaticCompiler.Compile(sources, made.Executable);
        using (FileStream initrd = File.Create(made.Initrd))
        {
            CpioWriter cpio = new(initrd);
            cpio.AddDirectory("dev");
            cpio.AddCharacterDevice("dev/console", 5, 1);
            cpio.AddFile("init", File.ReadAllBytes(made.Executable), 0x1ED /* 0755 */);
            cpio.Finish();

            // Another archive may follow at a multiple of four bytes.
            initrd.SetLength((initrd.Length + 3) & ~3);
            initrd.Position = initrd.Length;
            initrd.Write(File.ReadAllBytes(image.ModulesPath ?? throw new CompareException($"the image {image.Name} has no drivers for disk and network")));
        }

        string raw = Path.Combine(folder, "disk.raw");
        FillDisk(raw);
        if (format != "raw")
        {
            using Process convert = Process.Start("qemu-img", ["convert", "-O", format, raw, made.Disk]);
            convert.WaitForExit();
            if (convert.ExitCode != 0)
            {
                throw new CompareException($"qemu-img could not make a disk in the format {format}");
            }

            File.Delete(raw);
        }

        return made;
    }

    /// <summary>Starts the network's other side.</summary>
    internal IoServer StartServer() => new(Executable);

    /// <summary>Anew in each run, and no hole in it: its blocks are allocated, and in the page cache.</summary>
    private static void FillDisk(string path)
    {
        using FileStream disk = File.Create(path);
        byte[] piece = new byte[1 << 20];
        for (int written = 0; written < DiskSize; written += piece.Length)
        {
            RandomNumberGenerator.Fill(piece);
            disk.Write(piece);
        }

        disk.Flush(flushToDisk: true);
    }
}

/// <summary>The other side of the network's measurements, on the host's loopback.</summary>
internal sealed class IoServer : IDisposable
{
    private readonly Process _process;

    internal IoServer(string executable)
    {
        _process = Process.Start(new ProcessStartInfo(executable, ["serve"]) { RedirectStandardOutput = true })!;
        string line = _process.StandardOutput.ReadLine() ?? string.Empty;
        Port = line.StartsWith("port ", StringComparison.Ordinal)
            ? int.Parse(line[5..], System.Globalization.CultureInfo.InvariantCulture)
            : throw new CompareException("the server of bench/compare-io did not start");
    }

    internal int Port { get; }

    public void Dispose()
    {
        _process.Kill();
        _process.WaitForExit();
        _process.Dispose();
    }
}
