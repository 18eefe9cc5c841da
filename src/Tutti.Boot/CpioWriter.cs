using System.Text;

namespace Tutti.Boot;

/// <summary>
/// Writes an initramfs: a cpio archive in the "newc" format. The same calls give the same bytes: times are zero, owners
/// root, inode numbers count up. Source: Linux kernel, Documentation/driver-api/early-userspace/buffer-format.rst.
/// </summary>
public sealed class CpioWriter
{
    private const uint TypeDirectory = 0x4000;
    private const uint TypeCharacterDevice = 0x2000;
    private const uint TypeFile = 0x8000;
    private const uint TypeLink = 0xA000;
    private const int HeaderSize = 110;
    private const int ArchiveAlignment = 512;
    private readonly Stream _output;
    private long _position;
    private uint _inode;

    /// <param name="output">Written to, never read or sought; stays open.</param>
    public CpioWriter(Stream output)
    {
        ArgumentNullException.ThrowIfNull(output);
        _output = output;
    }

    /// <summary>Adds a folder. Its parent must have been added before, as the kernel makes none by itself.</summary>
    /// <param name="name">Path without a leading slash.</param>
    /// <param name="permissions">Mode bits 0 to 0xFFF.</param>
    public void AddDirectory(string name, uint permissions = 0x1ED /* 0755 */) => Add(name, TypeDirectory | permissions, [], 2);

    /// <summary>Adds a file.</summary>
    /// <param name="name">Path without a leading slash.</param>
    /// <param name="content">Its bytes.</param>
    /// <param name="permissions">Mode bits 0 to 0xFFF.</param>
    public void AddFile(string name, ReadOnlySpan<byte> content, uint permissions = 0x1A4 /* 0644 */) => Add(name, TypeFile | permissions, content, 1);

    /// <summary>Adds a symbolic link.</summary>
    /// <param name="name">Path without a leading slash.</param>
    /// <param name="target">Where it points.</param>
    public void AddSymbolicLink(string name, string target) => Add(name, TypeLink | 0x1FF /* 0777 */, Encoding.UTF8.GetBytes(target), 1);

    /// <summary>Adds a character device node.</summary>
    /// <param name="name">Path without a leading slash.</param>
    /// <param name="major">Device major number.</param>
    /// <param name="minor">Device minor number.</param>
    /// <param name="permissions">Mode bits 0 to 0xFFF.</param>
    public void AddCharacterDevice(string name, uint major, uint minor, uint permissions = 0x180 /* 0600 */) =>
        Add(name, TypeCharacterDevice | permissions, [], 1, major, minor);

    /// <summary>Writes the trailer and fills up to a multiple of 512 bytes. Nothing may be added afterwards.</summary>
    public void Finish()
    {
        WriteEntry("TRAILER!!!", 0, 0, [], 1, 0, 0);
        Pad(ArchiveAlignment);
    }

    private void Add(string name, uint mode, ReadOnlySpan<byte> content, uint links, uint major = 0, uint minor = 0)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        if (name.StartsWith('/') || name.EndsWith('/') || name.Contains('\0', StringComparison.Ordinal) || name.Split('/').Contains(".."))
        {
            throw new ArgumentException($"'{name}' is not a plain relative path.", nameof(name));
        }

        WriteEntry(name, ++_inode, mode, content, links, major, minor);
    }

    private void WriteEntry(string name, uint inode, uint mode, ReadOnlySpan<byte> content, uint links, uint major, uint minor)
    {
        byte[] nameBytes = Encoding.UTF8.GetBytes(name + '\0');

        // magic; ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        string header = $"070701{inode:X8}{mode:X8}{0:X8}{0:X8}{links:X8}{0:X8}{content.Length:X8}{0:X8}{0:X8}{major:X8}{minor:X8}{nameBytes.Length:X8}{0:X8}";
        if (header.Length != HeaderSize)
        {
            throw new InvalidOperationException("A cpio header field has overflowed.");
        }

        Write(Encoding.ASCII.GetBytes(header));
        Write(nameBytes);
        Pad(4);
        Write(content);
        Pad(4);
    }

    private void Write(ReadOnlySpan<byte> bytes)
    {
        _output.Write(bytes);
        _position += bytes.Length;
    }

    private void Pad(int alignment)
    {
        int count = (int)(-_position & (alignment - 1));
        Write(new byte[count]);
    }
}
