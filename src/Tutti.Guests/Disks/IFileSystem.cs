using System.Text;

namespace Tutti.Guests.Disks;

/// <summary>What a name in a folder stands for.</summary>
internal enum FileKind
{
    Other,
    File,
    Folder,
    SymbolicLink,
}

/// <summary>A file system on a disk, read and never written. Everything on it may be a lie; whoever reads it gets an error, not a surprise.</summary>
internal interface IFileSystem
{
    /// <summary>What /dev/disk/by-uuid calls it.</summary>
    string Uuid { get; }

    /// <summary>Names in a folder, but for "." and ".."; empty where there is no such folder.</summary>
    /// <exception cref="ImageException">The file system is damaged.</exception>
    IReadOnlyList<string> List(string path);

    /// <summary>What a path leads to, behind symbolic links; null where it leads nowhere.</summary>
    /// <exception cref="ImageException">The file system is damaged.</exception>
    FileKind? Find(string path);

    /// <summary>A file's bytes; null where there is no such file.</summary>
    /// <param name="path">Components after slashes; a symbolic link may not leave the file system.</param>
    /// <param name="limit">Most bytes that are read.</param>
    /// <exception cref="ImageException">It is larger, or the file system is damaged.</exception>
    byte[]? Read(string path, int limit);
}

internal static class FileSystemText
{
    /// <summary>A text file's contents, or null.</summary>
    public static string? ReadText(this IFileSystem files, string path) => files.Read(path, 4 << 20) is byte[] bytes ? Encoding.UTF8.GetString(bytes) : null;
}
