namespace Tutti.Storage.Tests;

/// <summary>A folder of its own for a test's images.</summary>
internal sealed class TempFolder : IDisposable
{
    private const string Memory = "/dev/shm";
    private const long EnoughMemory = 256 << 20;

    /// <param name="inMemory">Whether a flush is to cost little, where the host has the room.</param>
    public TempFolder(bool inMemory = false) => Path = inMemory && Directory.Exists(Memory) && new DriveInfo(Memory).AvailableFreeSpace > EnoughMemory
        ? Directory.CreateDirectory(System.IO.Path.Combine(Memory, $"tutti-storage-{Guid.NewGuid():N}")).FullName
        : Directory.CreateTempSubdirectory("tutti-storage-").FullName;

    public string Path { get; }

    /// <summary>A name in the folder.</summary>
    public string File(string name) => System.IO.Path.Combine(Path, name);

    /// <summary>A file with these bytes in the folder.</summary>
    public string File(string name, byte[] bytes)
    {
        System.IO.File.WriteAllBytes(File(name), bytes);
        return File(name);
    }

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
