namespace Tutti.Guests.Tests.Disks;

/// <summary>A folder with files, and FAT file systems that dosfstools and mtools make of it.</summary>
internal sealed class FatImage : IDisposable
{
    private readonly ExtImage _folder = new();

    public static string? Missing =>
        !File.Exists("/usr/sbin/mkfs.vfat") && !File.Exists("/sbin/mkfs.vfat") ? "mkfs.vfat is not installed (Debian: dosfstools)"
        : !File.Exists("/usr/bin/mcopy") ? "mcopy is not installed (Debian: mtools)" : null;

    public string Source => _folder.Source;

    public string Image => _folder.Image;

    public void Write(string path, byte[] bytes) => _folder.Write(path, bytes);

    public void Write(string path, string text) => _folder.Write(path, text);

    /// <param name="options">Of mkfs.vfat.</param>
    /// <param name="kibibytes">Size.</param>
    public void Make(string options, int kibibytes)
    {
        ExtImage.Run("mkfs.vfat", [.. $"-C -i 1234ABCD -n EFISYS {options}".Split(' ', StringSplitOptions.RemoveEmptyEntries), Image, kibibytes.ToString(System.Globalization.CultureInfo.InvariantCulture)]);
        string[] top = Directory.GetFileSystemEntries(Source);
        if (top.Length > 0)
        {
            ExtImage.Run("LC_ALL=C.UTF-8", ["mcopy", "-s", "-Q", "-i", Image, .. top, "::/"]);
        }
    }

    public MemoryDisk Load() => _folder.Load();

    public void Dispose() => _folder.Dispose();
}

[AttributeUsage(AttributeTargets.Method)]
internal sealed class FatFactAttribute : FactAttribute
{
    public FatFactAttribute() => Skip = FatImage.Missing;
}

[AttributeUsage(AttributeTargets.Method)]
internal sealed class FatTheoryAttribute : TheoryAttribute
{
    public FatTheoryAttribute() => Skip = FatImage.Missing;
}
