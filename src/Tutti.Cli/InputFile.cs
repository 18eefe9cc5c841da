using Tutti.Boot;
using Tutti.Host;

namespace Tutti.Cli;

/// <summary>
/// A file that the user names, for the guest's memory. It stays open and is read at each boot: its bytes are needed for no
/// longer than it takes to copy them.
/// </summary>
internal sealed class InputFile : IDisposable
{
    private readonly string _name;
    private readonly FileStream? _file;

    /// <summary>Of a pipe or a device, which can be read only once.</summary>
    private readonly byte[] _bytes = [];

    private readonly int _length;

    private InputFile(string name, FileStream file)
    {
        _name = name;
        _file = file;
        _length = (int)file.Length;
    }

    private InputFile(string name, byte[] bytes)
    {
        _name = name;
        _bytes = bytes;
    }

    /// <summary>Opens a file that must fit into <paramref name="limit"/> bytes of guest memory.</summary>
    /// <exception cref="UserException">It is missing, a folder, unreadable, empty or too large.</exception>
    internal static InputFile Open(string option, string path, long limit)
    {
        if (Directory.Exists(path))
        {
            throw new UserException($"{option} '{path}' is a folder; give a file");
        }

        string name = $"{option} '{path}'";
        long room = Math.Min(limit, Array.MaxLength);
        FileStream file = OpenStream(option, path);
        try
        {
            if (file.CanSeek && file.Length > 0)
            {
                return file.Length <= room ? new InputFile(name, file) : throw TooLarge(name);
            }

            using (file)
            {
                byte[] bytes = ReadStream(file, room) ?? throw TooLarge(name);
                return bytes.Length > 0 ? new InputFile(name, bytes) : throw new UserException($"{name} is empty; give another file");
            }
        }
        catch (IOException e)
        {
            file.Dispose();
            throw new UserException($"{name} cannot be read: {e.Message}");
        }
    }

    /// <summary>Bytes of the file.</summary>
    internal int Length => _file == null ? _bytes.Length : _length;

    /// <summary>Copies the file's bytes.</summary>
    /// <param name="into">As long as the file.</param>
    /// <exception cref="BootException">The file cannot be read any more.</exception>
    internal void ReadTo(Span<byte> into)
    {
        if (_file == null)
        {
            _bytes.CopyTo(into);
            return;
        }

        try
        {
            for (int count = 0; count < _length;)
            {
                int read = RandomAccess.Read(_file.SafeFileHandle, into[count.._length], count);
                count += read > 0 ? read : throw new BootException($"{_name} has become shorter since it was opened; start again");
            }
        }
        catch (IOException e)
        {
            throw new BootException($"{_name} cannot be read: {e.Message}", e);
        }
    }

    /// <summary>Lends the file's bytes; they are gone when <paramref name="buffer"/> is disposed of.</summary>
    /// <param name="buffer">What holds them; null where they stay.</param>
    /// <exception cref="BootException">The file cannot be read any more.</exception>
    internal ReadOnlyMemory<byte> Read(out HostBuffer? buffer)
    {
        buffer = null;
        if (_file == null)
        {
            return _bytes;
        }

        buffer = new HostBuffer(_length);
        try
        {
            ReadTo(buffer.GetSpan());
        }
        catch
        {
            ((IDisposable)buffer).Dispose();
            throw;
        }

        return buffer.Memory;
    }

    public void Dispose() => _file?.Dispose();

    private static UserException TooLarge(string name) => new($"{name} does not fit into the guest's memory; give more with --memory");

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

    private static FileStream OpenStream(string option, string path)
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
