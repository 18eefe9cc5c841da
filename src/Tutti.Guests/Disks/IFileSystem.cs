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
    /// <summary>What reading it is charged to.</summary>
    ReadBudget Budget { get; }

    /// <summary>What /dev/disk/by-uuid calls it.</summary>
    string Uuid { get; }

    /// <summary>What /dev/disk/by-label calls it; empty for none.</summary>
    string Label { get; }

    /// <summary>Names in a folder, but for "." and ".."; empty where there is no such folder.</summary>
    /// <exception cref="ImageException">The file system is damaged.</exception>
    IReadOnlyList<string> List(string path);

    /// <summary>What a path leads to, behind symbolic links; null where it leads nowhere.</summary>
    /// <exception cref="ImageException">The file system is damaged.</exception>
    FileKind? Find(string path);

    /// <summary>A file's length in bytes; null where there is no such file.</summary>
    /// <param name="path">Components after slashes; a symbolic link may not leave the file system.</param>
    /// <exception cref="ImageException">The file system is damaged.</exception>
    long? Measure(string path);

    /// <summary>The first bytes of a file; false where there is no such file. The memory is the caller's, and charged by it.</summary>
    /// <param name="path">As for <see cref="Measure"/>.</param>
    /// <param name="into">At most as long as the file.</param>
    /// <exception cref="ImageException">The file is shorter, or the file system is damaged.</exception>
    bool TryRead(string path, Span<byte> into);
}

/// <summary>Files as a whole. What they take is charged before it is allocated.</summary>
internal static class WholeFiles
{
    /// <summary>Longest path, as in Linux: a longer one leads nowhere. Each of its parts takes memory.</summary>
    public const int MaxPath = 4096;

    /// <summary>Longest configuration file: some hundred kernels' worth.</summary>
    private const int MaxText = 1 << 20;

    /// <summary>Bytes of memory for each byte of a text, at most: parts of its lines, as objects.</summary>
    private const int TextCost = 32;

    /// <summary>A text file's contents, charged with what taking it apart costs; null where there is none.</summary>
    /// <exception cref="ImageException">It is too long, or the file system is damaged.</exception>
    public static string? ReadText(this IFileSystem files, string path)
    {
        if (files.Measure(path) is not long length)
        {
            return null;
        }

        if (length > MaxText)
        {
            throw new ImageException($"The file {path} on the disk is larger than {MaxText >> 20} MiB.");
        }

        files.Budget.Take(length * TextCost);
        byte[] bytes = new byte[length];
        return files.TryRead(path, bytes) ? Encoding.UTF8.GetString(bytes) : null;
    }

    /// <summary>A file that is kept for the guest; null where there is none.</summary>
    /// <param name="files">Where it is.</param>
    /// <param name="path">As for <see cref="IFileSystem.Measure"/>.</param>
    /// <param name="limit">Most bytes that make sense.</param>
    /// <exception cref="ImageException">It is larger, has no room in the guest, or the file system is damaged.</exception>
    public static byte[]? ReadWhole(this IFileSystem files, string path, int limit)
    {
        if (files.Measure(path) is not long length)
        {
            return null;
        }

        if (length > limit)
        {
            throw new ImageException($"The file {path} on the disk is larger than {limit >> 20} MiB.");
        }

        files.Budget.TakeFile(path, length);
        byte[] bytes = new byte[length];
        return files.TryRead(path, bytes) ? bytes : null;
    }
}
