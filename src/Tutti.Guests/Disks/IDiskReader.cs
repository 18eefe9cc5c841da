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

/// <summary>
/// A disk that is not the host's own, or a part of it. Whoever looks for something on a disk has one of these, so every read is charged to the
/// budget, and none leaves the part.
/// </summary>
internal sealed class DiskPart
{
    private readonly IDiskReader _disk;
    private readonly long _offset;

    /// <summary>A whole disk.</summary>
    public DiskPart(IDiskReader disk, ReadBudget budget)
        : this(disk, budget, 0, disk.Size)
    {
    }

    private DiskPart(IDiskReader disk, ReadBudget budget, long offset, long size) => (_disk, Budget, _offset, Size) = (disk, budget, offset, size);

    /// <summary>What is charged, also for memory that is taken for what the disk says.</summary>
    public ReadBudget Budget { get; }

    /// <summary>Bytes.</summary>
    public long Size { get; }

    /// <summary>A part of this part.</summary>
    /// <exception cref="ImageException">It leaves this one.</exception>
    public DiskPart Slice(long offset, long size) =>
        offset >= 0 && size >= 0 && offset <= Size - size ? new DiskPart(_disk, Budget, _offset + offset, size) : throw Outside();

    /// <summary>Fills a buffer; nothing need be aligned.</summary>
    /// <exception cref="ImageException">The bytes leave the part, the host cannot read them, or the budget is spent.</exception>
    public void Read(long at, Span<byte> into)
    {
        if (at < 0 || at > Size - into.Length)
        {
            throw Outside();
        }

        Budget.Read(into.Length);
        _disk.Read(_offset + at, into);
    }

    private static ImageException Outside() => new("The disk's file system points outside of it: it is damaged.");
}
