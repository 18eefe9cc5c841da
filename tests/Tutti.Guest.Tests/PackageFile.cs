using Tutti.Guests;

namespace Tutti.Guest.Tests;

/// <summary>
/// A file out of a Debian package, as software that nobody here wrote. Fetched once with apt, into a folder beside the
/// test assembly, and found there by later runs.
/// </summary>
internal sealed class PackageFile
{
    /// <summary>Each is fetched at most once in a run, whether it succeeds or not.</summary>
    private readonly Lazy<string?> _problem;
    private readonly string _architecture;
    private readonly string _package;
    private readonly string _start;

    /// <param name="package">A package, or one whose first dependency on a kernel names the package.</param>
    /// <param name="start">How the file's path begins, without a slash in front.</param>
    private PackageFile(string architecture, string package, string start)
    {
        _architecture = architecture;
        _package = package;
        _start = start;
        Path = System.IO.Path.Combine(AppContext.BaseDirectory, "packages", $"{package}-{architecture}-{System.IO.Path.GetFileName(start)}");
        _problem = new Lazy<string?>(() => File.Exists(Path) ? null : Fetch());
    }

    /// <summary>Debian's kernel for hardware, not for clouds.</summary>
    public static PackageFile StockKernel { get; } = new("amd64", "linux-image-amd64", "boot/vmlinuz");

    /// <summary>A kernel that pages with 32-bit entries.</summary>
    public static PackageFile Kernel686 { get; } = new("i386", "linux-image-686", "boot/vmlinuz");

    /// <summary>A kernel that pages with PAE.</summary>
    public static PackageFile Kernel686Pae { get; } = new("i386", "linux-image-686-pae", "boot/vmlinuz");

    /// <summary>BusyBox for 32-bit kernels.</summary>
    public static PackageFile BusyBox386 { get; } = new("i386", "busybox-static", "bin/busybox");

    /// <summary>A PC BIOS.</summary>
    public static PackageFile SeaBios { get; } = new("amd64", "seabios", "usr/share/seabios/bios-256k.bin");

    /// <summary>A memory test with a boot sector of its own, for floppies.</summary>
    public static PackageFile MemTest { get; } = new("amd64", "memtest86+", "boot/memtest86+ia32.bin");

    /// <summary>Where the file lies when <see cref="Problem"/> is null.</summary>
    public string Path { get; }

    /// <summary>Why the file is not to be had; null when it is there.</summary>
    public string? Problem => _problem.Value;

    private string? Fetch()
    {
        string folder = System.IO.Path.Combine(System.IO.Path.GetDirectoryName(Path)!, System.IO.Path.GetRandomFileName());
        try
        {
            Directory.CreateDirectory(folder);
            FetchAsync(folder).GetAwaiter().GetResult();
            return null;
        }
        catch (Exception error) when (error is ImageException or IOException or UnauthorizedAccessException)
        {
            return $"the file {_start} of the {_architecture} package {_package} is not to be had: {error.Message}";
        }
        finally
        {
            if (Directory.Exists(folder))
            {
                Directory.Delete(folder, recursive: true);
            }
        }
    }

    private async Task FetchAsync(string folder)
    {
        AptSession apt = new(folder, Environment.GetEnvironmentVariable("PATH") ?? string.Empty, _architecture);
        await apt.UpdateAsync(_ => { }, default);
        IReadOnlyDictionary<string, string> fields = await apt.ShowAsync(_package, default);
        string kernel = fields.GetValueOrDefault("Depends", string.Empty).Split(',', StringSplitOptions.TrimEntries)[0].Split(' ')[0];
        string package = kernel.StartsWith("linux-image-", StringComparison.Ordinal) ? kernel : _package;
        IReadOnlyList<string> files = await apt.DownloadAsync([package], _ => { }, default);
        string part = System.IO.Path.Combine(folder, "part");
        await apt.ExtractAsync(files[0], path => path.StartsWith(_start, StringComparison.Ordinal), part, default);
        File.Move(part, Path, overwrite: true);
    }
}

/// <summary>A test that needs files out of Debian packages; skipped, with its reason, where they are not to be had.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class PackageFactAttribute : FactAttribute
{
    /// <param name="names">Properties of <see cref="PackageFile"/>.</param>
    public PackageFactAttribute(params string[] names)
    {
        Skip = names.Select(name => ((PackageFile)typeof(PackageFile).GetProperty(name)!.GetValue(null)!).Problem)
            .FirstOrDefault(problem => problem is not null);
    }
}
