namespace Tutti.Host;

/// <summary>
/// Folders and files that nobody but their owner may look into: a guest's disk holds its host keys and the hashes of its passwords, and what it sends or computes
/// is no affair of the host's other users.
/// </summary>
public static class OwnerOnly
{
    private const UnixFileMode OfFiles = UnixFileMode.UserRead | UnixFileMode.UserWrite;
    private const UnixFileMode OfFolders = OfFiles | UnixFileMode.UserExecute;

    /// <summary>Makes a folder (0700), or closes one that is there.</summary>
    /// <exception cref="IOException">It can't be made.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be made.</exception>
    public static void MakeFolder(string path)
    {
        if (!Directory.Exists(path))
        {
            Directory.CreateDirectory(path, OfFolders);
        }

        Close(path, OfFolders);
    }

    /// <summary>Closes the files in a folder: older versions left them open.</summary>
    /// <exception cref="IOException">The folder can't be read.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder may not be read.</exception>
    public static void CloseFiles(string folder)
    {
        foreach (string file in Directory.EnumerateFiles(folder))
        {
            Close(file, OfFiles);
        }
    }

    /// <summary>Opens a file to be written, and makes it (0600) where it is not there. Who has made it before has said who may read it.</summary>
    /// <param name="path">The file.</param>
    /// <param name="mode"><see cref="FileMode.Create"/> or <see cref="FileMode.CreateNew"/>.</param>
    /// <param name="bufferSize">Bytes that are gathered before they are written; 0 or 1 for none.</param>
    /// <exception cref="IOException">It can't be opened, or someone else writes it: two writers at places of their own would overwrite each other.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be opened.</exception>
    public static FileStream Write(string path, FileMode mode, int bufferSize = 4096) => new(path, new FileStreamOptions
    {
        Mode = mode,
        Access = FileAccess.Write,
        Share = FileShare.None,
        BufferSize = bufferSize,
        UnixCreateMode = OfFiles,
    });

    private static void Close(string path, UnixFileMode most)
    {
        try
        {
            UnixFileMode mode = File.GetUnixFileMode(path);
            if ((mode & ~most) != 0)
            {
                File.SetUnixFileMode(path, mode & most);
            }
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // Another user's, or on a file system that has no permissions: there its owner decides who reads it.
        }
    }
}
