using Tutti.Boot;

namespace Tutti.Guests;

/// <summary>A root file system in memory: BusyBox and a handful of files of ours.</summary>
internal static class BusyBoxInitramfs
{
    private const uint Executable = 0x1ED; // 0755

    /// <summary>Folders, parents first.</summary>
    private static readonly string[] Folders =
    [
        "bin", "dev", "etc", "mnt", "proc", "root", "run", "sbin", "sys", "tmp", "usr",
        "usr/bin", "usr/sbin", "var",
    ];

    /// <summary>Where each embedded file goes.</summary>
    private static readonly (string Path, string Resource, bool Executable)[] Files =
    [
        ("init", "init", true),
        ("etc/console", "console", true),
        ("etc/devices", "devices", true),
        ("etc/dhcp", "dhcp", true),
        ("etc/inittab", "inittab", false),
        ("etc/profile", "profile", false),
    ];

    /// <summary>Writes the archive; the same BusyBox gives the same bytes.</summary>
    /// <param name="output">Written to and left open.</param>
    /// <param name="busyBox">A statically linked BusyBox for x86-64.</param>
    public static void Write(Stream output, ReadOnlySpan<byte> busyBox)
    {
        CpioWriter cpio = new(output);
        foreach (string folder in Folders)
        {
            cpio.AddDirectory(folder);
        }

        // The kernel opens this for process 1 before anything can mount a device file system.
        cpio.AddCharacterDevice("dev/console", 5, 1);
        cpio.AddFile("bin/busybox", busyBox, Executable);
        foreach ((string path, string resource, bool executable) in Files)
        {
            cpio.AddFile(path, Read(resource), executable ? Executable : 0x1A4);
        }

        cpio.AddFile("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"u8);
        cpio.AddFile("etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"u8);
        cpio.AddFile("etc/hostname", "tutti\n"u8);
        cpio.AddFile("etc/hosts", "127.0.0.1 localhost tutti\n::1 localhost\n"u8);
        cpio.AddSymbolicLink("etc/mtab", "/proc/mounts");
        cpio.AddSymbolicLink("var/run", "/run");
        cpio.Finish();
    }

    private static byte[] Read(string resource)
    {
        using Stream stream = typeof(BusyBoxInitramfs).Assembly.GetManifestResourceStream("Userland/" + resource)
            ?? throw new InvalidOperationException($"The embedded file '{resource}' is missing.");
        byte[] bytes = new byte[stream.Length];
        stream.ReadExactly(bytes);
        return bytes;
    }
}
