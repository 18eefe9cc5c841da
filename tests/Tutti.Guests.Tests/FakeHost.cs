using System.Formats.Tar;
using System.Text;

[assembly: System.Runtime.Versioning.SupportedOSPlatform("linux")]

namespace Tutti.Guests.Tests;

/// <summary>A cache folder and a set of apt programs that are small scripts, so that every failure can be had at will.</summary>
internal sealed class FakeHost : IDisposable
{
    private readonly string _root = Directory.CreateTempSubdirectory("tutti-guests").FullName;

    public FakeHost()
    {
        Directory.CreateDirectory(Tools);
        WritePackage("linux-image-9.9.9-1-cloud-amd64_9.9.9-1_amd64.deb", ("./boot/System.map-9.9.9-1-cloud-amd64", "map"), ("./boot/vmlinuz-9.9.9-1-cloud-amd64", "KERNEL BYTES"));
        WritePackage("busybox-static_1.2.3_amd64.deb", ("./bin/busybox", "BUSYBOX BYTES"));
        Tool("apt-get", Succeed);
        Tool("apt-cache", """
            case "$*" in
                *linux-image-cloud-amd64) printf 'Package: linux-image-cloud-amd64\nVersion: 9.9.9-1\nDepends: linux-image-9.9.9-1-cloud-amd64 (= 9.9.9-1)\nDescription: x\n more\n\nVersion: 1\n' ;;
                *) printf 'Package: y\nVersion: 9.9.9-1\n' ;;
            esac
            """);
        Tool("dpkg-deb", "cat \"$2\"");
        Catalog = new ImageCatalog(Cache, Tools);
    }

    /// <summary>What apt-get does when all is well.</summary>
    public string Succeed => $$"""
        echo "$*" >> '{{Log}}'
        case "$*" in
            *update*) echo dlstatus:1:80.0:Retrieving; echo dlstatus:2:20.5:Retrieving ;;
            *download*) cp '{{_root}}'/*.deb . ; echo dlstatus:1:100.0000:done ;;
        esac
        """;

    public string Cache => Path.Combine(_root, "cache");

    public string Tools => Path.Combine(_root, "tools");

    public string Entry => Path.Combine(Cache, "images", "debian");

    public ImageCatalog Catalog { get; }

    /// <summary>How often apt-get has downloaded packages.</summary>
    public int Downloads => File.Exists(Log) ? File.ReadLines(Log).Count(line => line.Contains("download", StringComparison.Ordinal)) : 0;

    /// <summary>Unfinished work in the cache folder.</summary>
    public IEnumerable<string> Leftovers => Directory.Exists(Cache) ? Directory.EnumerateDirectories(Cache, "work-*") : [];

    private string Log => Path.Combine(_root, "log");

    public void Tool(string name, string script)
    {
        string path = Path.Combine(Tools, name);
        File.WriteAllText(path, "#!/bin/sh\n" + script + "\n");
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
    }

    public void WritePackage(string name, params (string Path, string Content)[] files)
    {
        using FileStream stream = File.Create(Path.Combine(_root, name));
        using TarWriter tar = new(stream, TarEntryFormat.Gnu);
        tar.WriteEntry(new GnuTarEntry(TarEntryType.Directory, "./"));
        foreach ((string path, string content) in files)
        {
            tar.WriteEntry(new GnuTarEntry(TarEntryType.RegularFile, path) { DataStream = new MemoryStream(Encoding.ASCII.GetBytes(content)) });
        }
    }

    public void Dispose() => Directory.Delete(_root, recursive: true);
}
