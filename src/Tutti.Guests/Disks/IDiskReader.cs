namespace Tutti.Guests.Disks;

/// <summary>A disk's bytes as the guest sees them, for who looks for a kernel on it.</summary>
public interface IDiskReader
{
    /// <summary>Bytes.</summary>
    long Size { get; }

    /// <summary>Fills a buffer from a part of the disk, which need not be aligned.</summary>
    /// <exception cref="ImageException">The part leaves the disk, or the host cannot read it.</exception>
    void Read(long offset, Span<byte> into);
}

/// <summary>A disk that a raw file holds.</summary>
public sealed class RawDiskReader : IDiskReader, IDisposable
{
    private readonly FileStream _file;

    /// <exception cref="IOException">It cannot be opened.</exception>
    public RawDiskReader(string path)
    {
        _file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
        Size = _file.Length;
    }

    public long Size { get; }

    public void Read(long offset, Span<byte> into)
    {
        while (!into.IsEmpty)
        {
            int count = offset >= 0 ? RandomAccess.Read(_file.SafeFileHandle, into, offset) : 0;
            if (count == 0)
            {
                throw new ImageException("The disk ends before what it says it holds: it is damaged or cut off.");
            }

            into = into[count..];
            offset += count;
        }
    }

    public void Dispose() => _file.Dispose();
}

/// <summary>A part of a disk, as a disk.</summary>
internal sealed class DiskPart(IDiskReader disk, long offset, long size) : IDiskReader
{
    public long Size => size;

    public void Read(long at, Span<byte> into)
    {
        if (at < 0 || at > size - into.Length)
        {
            throw new ImageException("The disk's file system points outside of it: it is damaged.");
        }

        disk.Read(offset + at, into);
    }
}
