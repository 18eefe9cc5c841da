using System.Xml.Linq;

namespace Tutti.Architecture.Tests;

/// <summary>The written rules of the house, as data, and the tree that they are held against.</summary>
internal static class House
{
    /// <summary>
    /// Every source project, lowest first, with the projects that it may reference. A project may name only what
    /// stands above it in this list.
    /// </summary>
    public static readonly (string Project, string[] MayReference)[] Layers =
    [
        ("Tutti.Host", []),
        ("Tutti.X86", []),
        ("Tutti.Memory", []),
        ("Tutti.Cpu", ["Tutti.Memory", "Tutti.X86"]),
        ("Tutti.Devices", ["Tutti.Cpu", "Tutti.Memory", "Tutti.X86"]),
        ("Tutti.Virtio", ["Tutti.Cpu", "Tutti.Devices", "Tutti.Memory", "Tutti.X86"]),
        ("Tutti.Workers", ["Tutti.Devices", "Tutti.Host"]),
        ("Tutti.Storage", ["Tutti.Devices", "Tutti.Host", "Tutti.Memory", "Tutti.Workers"]),
        ("Tutti.Network", ["Tutti.Devices", "Tutti.Host", "Tutti.Memory", "Tutti.Workers"]),
        ("Tutti.Cpu.Software", ["Tutti.Cpu", "Tutti.Host", "Tutti.Memory", "Tutti.X86"]),
        ("Tutti.Cpu.Interpreter", ["Tutti.Cpu", "Tutti.Cpu.Software", "Tutti.Host", "Tutti.Memory", "Tutti.X86"]),
        ("Tutti.Cpu.Translator", ["Tutti.Cpu", "Tutti.Cpu.Interpreter", "Tutti.Cpu.Software", "Tutti.Host", "Tutti.Memory", "Tutti.X86"]),
        ("Tutti.Cpu.Kvm", ["Tutti.Cpu", "Tutti.Host", "Tutti.Memory", "Tutti.X86"]),
        ("Tutti.Boot", ["Tutti.Cpu", "Tutti.Memory", "Tutti.X86"]),
        ("Tutti.Guests", ["Tutti.Boot", "Tutti.Devices", "Tutti.Host", "Tutti.Memory", "Tutti.Storage"]),
        ("Tutti.Machine", ["Tutti.Boot", "Tutti.Cpu", "Tutti.Cpu.Interpreter", "Tutti.Cpu.Kvm", "Tutti.Cpu.Translator", "Tutti.Devices", "Tutti.Guests", "Tutti.Host", "Tutti.Memory", "Tutti.Virtio", "Tutti.Workers", "Tutti.X86"]),
        ("Tutti.Cli", ["Tutti.Boot", "Tutti.Cpu", "Tutti.Cpu.Interpreter", "Tutti.Cpu.Kvm", "Tutti.Cpu.Translator", "Tutti.Devices", "Tutti.Guests", "Tutti.Host", "Tutti.Machine", "Tutti.Memory", "Tutti.Network", "Tutti.Storage", "Tutti.Virtio", "Tutti.Workers", "Tutti.X86"]),
    ];

    /// <summary>
    /// Folders of one project that use each other in a circle all the same, each with the reason. A circle that has been mended must
    /// leave the list (a test sees to it), and none is to be added.
    /// </summary>
    public static readonly (string Project, string Folders, string Reason)[] KnownCircles =
    [
        ("Tutti.Storage", ". Qcow2", "a qcow2 image opens its backing file, which may be of any format, and qcow2 is one of the formats"),
    ];

    /// <summary>Projects that may hold pointers.</summary>
    public static readonly string[] Unsafe = ["Tutti.Host", "Tutti.Memory", "Tutti.Cpu.Software", "Tutti.Cpu.Interpreter", "Tutti.Cpu.Translator", "Tutti.Cpu.Kvm"];

    /// <summary>Projects that may call into native libraries.</summary>
    public static readonly string[] NativeCalls = ["Tutti.Host", "Tutti.Cpu.Kvm"];

    /// <summary>Projects that a bare-metal build takes over as they are: nothing of the host in them.</summary>
    public static readonly string[] FreeOfHost = ["Tutti.Devices", "Tutti.Virtio", "Tutti.X86", "Tutti.Boot"];

    /// <summary>Types, and members of types, that reach the host.</summary>
    public static readonly string[] HostApis =
    [
        "System.Console",
        "System.DateTime.get_Now",
        "System.DateTime.get_Today",
        "System.DateTime.get_UtcNow",
        "System.DateTimeOffset.get_Now",
        "System.DateTimeOffset.get_UtcNow",
        "System.Diagnostics.Process",
        "System.Diagnostics.Stopwatch",
        "System.Environment.get_TickCount",
        "System.Environment.get_TickCount64",
        "System.IO.Directory",
        "System.IO.DirectoryInfo",
        "System.IO.File",
        "System.IO.FileInfo",
        "System.IO.FileStream",
        "System.Net.Sockets.Socket",
        "System.Threading.Tasks.Task",
        "System.Threading.Thread",
        "System.Threading.ThreadPool",
        "System.Threading.Timer",
        "System.TimeProvider",
    ];

    /// <summary>The most lines of a source file.</summary>
    public const int MaxFileLines = 800;

    /// <summary>The most lines between a method's braces, both counted.</summary>
    public const int MaxMethodLines = 80;

    /// <summary>The root of the repository: the nearest folder above the test assembly that holds the solution.</summary>
    public static string Root { get; } = FindRoot();

    /// <summary>The projects of a folder (src, tests, bench) by name, without those that only guests build.</summary>
    public static IEnumerable<(string Name, string Path)> ProjectsIn(string folder) =>
        Directory.EnumerateFiles(Path.Combine(Root, folder), "*.csproj", SearchOption.AllDirectories)
            .Where(path => !path.Contains("/guest/", StringComparison.Ordinal))
            .Select(path => (Path.GetFileNameWithoutExtension(path), path))
            .Order();

    /// <summary>Values of an attribute of all elements of one name in a project file.</summary>
    public static IEnumerable<string> Elements(string project, string element, string attribute) =>
        XDocument.Load(project).Descendants(element).Select(e => e.Attribute(attribute)?.Value ?? string.Empty);

    /// <summary>C# files of a source project, or of all of them, without what builds generate.</summary>
    public static IEnumerable<string> Sources(string folder = "src") =>
        Directory.EnumerateFiles(Path.Combine(Root, folder), "*.cs", SearchOption.AllDirectories)
            .Where(path => !path.Contains("/obj/", StringComparison.Ordinal) && !path.Contains("/bin/", StringComparison.Ordinal))
            .Order();

    /// <summary>Path below the root, for messages.</summary>
    public static string Name(string path) => Path.GetRelativePath(Root, path);

    /// <summary>Fails with every finding on a line of its own.</summary>
    public static void AssertNone(IEnumerable<string> findings)
    {
        string text = string.Join('\n', findings);
        Assert.True(text.Length == 0, text);
    }

    private static string FindRoot()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder != null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "tutti.slnx")))
            {
                return folder.FullName;
            }
        }

        throw new DirectoryNotFoundException($"No tutti.slnx above {AppContext.BaseDirectory}.");
    }
}
