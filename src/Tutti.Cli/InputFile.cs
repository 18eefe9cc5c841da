namespace Tutti.Cli;

/// <summary>Files that the user names.</summary>
internal static class InputFile
{
    /// <summary>Reads a whole file that must fit into <paramref name="limit"/> bytes of guest memory.</summary>
    /// <exception cref="UserException">It is missing, a folder, unreadable, empty or too large.</exception>
    internal static byte[] Read(string option, string path, long limit)
    {
        if (Directory.Exists(path))
        {
            throw new UserException($"{option} '{path}' is a folder; give a file");
        }

        using FileStream file = Open(option, path);
        try
        {
            long room = Math.Min(limit, Array.MaxLength);
            byte[]? bytes = file.CanSeek && file.Length > 0 ? ReadFile(file, room) : ReadStream(file, room);
            if (bytes == null)
            {
                throw new UserException($"{option} '{path}' does not fit into the guest's memory; give more with --memory");
            }

            return bytes.Length > 0 ? bytes : throw new UserException($"{option} '{path}' is empty; give another file");
        }
        catch (IOException e)
        {
            throw new UserException($"{option} '{path}' cannot be read: {e.Message}");
        }
    }

    /// <summary>A file of known length, in one piece: a kernel is large, and every copy of it delays the guest. Null where it has no room.</summary>
    private static byte[]? ReadFile(FileStream file, long room)
    {
        if (file.Length > room)
        {
            return null;
        }

        byte[] bytes = GC.AllocateUninitializedArray<byte>((int)file.Length);
        int count = file.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
        return count == bytes.Length ? bytes : bytes[..count];
    }

    /// <summary>A pipe or a device has no length, and must not fill the host's memory either. Null where it has no room.</summary>
    private static byte[]? ReadStream(FileStream file, long room)
    {
        using MemoryStream bytes = new();
        byte[] buffer = new byte[1 << 16];
        int count;
        while ((count = file.Read(buffer)) > 0)
        {
            if (bytes.Length + count > room)
            {
                return null;
            }

            bytes.Write(buffer, 0, count);
        }

        return bytes.ToArray();
    }

    private static FileStream Open(string option, string path)
    {
        try
        {
            return new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new UserException($"{option} '{path}' does not exist; check the path");
        }
        catch (UnauthorizedAccessException)
        {
            throw new UserException($"{option} '{path}' may not be read by you; change its permissions or copy it");
        }
        catch (Exception e) when (e is IOException or ArgumentException or NotSupportedException)
        {
            throw new UserException($"{option} '{path}' cannot be opened: {e.Message}");
        }
    }
}
