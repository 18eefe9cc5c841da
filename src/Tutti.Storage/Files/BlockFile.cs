using Tutti.Host;

namespace Tutti.Storage.Files;

/// <summary>
/// An opened image file or block device of the host's, for calls that wait for it: metadata, and what <see cref="IoQueue"/> leaves to threads. Safe
/// from any thread, but for <see cref="Dispose"/>.
/// </summary>
public sealed class BlockFile : IDisposable
{
    /// <summary>Zeroes are written by hand in pieces of this many bytes.</summary>
    private const int ZeroPiece = 1 << 18;

    /// <summary>
    /// From the start of a page: the kernel lets a killed process's write end where a page of its source ends, and that must be the end of a sector.
    /// </summary>
    private static readonly HostBuffer s_zeroes = new(ZeroPiece);

    private readonly HostFile _file;
    private readonly long _deviceLength;
    private ImageLock? _lock;
    private volatile bool _lacksPunchHole;
    private volatile bool _lacksZeroRange;
    private volatile bool _lacksCachedReads;
    private volatile int _flushError;

    private BlockFile(HostFile file, bool isReadOnly, StorageNotices notices)
    {
        _file = file;
        IsReadOnly = isReadOnly;
        Notices = notices;
        if (IsBlockDevice)
        {
            (LogicalBlockSize, PhysicalBlockSize) = file.GetSectorSizes();
            _deviceLength = file.GetLength();
            DiscardGranularity = BlockDevice.FindDiscardGranularity(file);
            _lacksPunchHole = DiscardGranularity == 0;
        }
        else
        {
            int blockSize = file.GetStatus().BlockSize;
            LogicalBlockSize = 1;
            PhysicalBlockSize = blockSize >= 4096 ? 4096 : 512;
            DiscardGranularity = int.IsPow2(blockSize) ? Math.Clamp(blockSize, 512, 1 << 20) : 4096;
        }
    }

    /// <summary>The name it was opened by.</summary>
    public string Path => _file.Path;

    public bool IsReadOnly { get; }

    public bool IsBlockDevice => _file.Kind == HostFileKind.BlockDevice;

    /// <summary>Bytes that the host can write alone: 1 in a file, 512 or 4096 on a block device.</summary>
    public int LogicalBlockSize { get; }

    /// <summary>Bytes that the host best writes at once, 512 or 4096.</summary>
    public int PhysicalBlockSize { get; }

    /// <summary>Bytes that holes are made of, a power of two; 0 for a block device that can't discard.</summary>
    public int DiscardGranularity { get; }

    /// <summary>Whether holes give space back, as far as is known: false once the host has refused one.</summary>
    public bool CanPunchHoles => !_lacksPunchHole;

    /// <summary>Bytes.</summary>
    /// <exception cref="HostException">The kernel refuses.</exception>
    public long Length => IsBlockDevice ? _deviceLength : _file.GetLength();

    /// <summary>Whether the host has refused a read that does not wait.</summary>
    internal bool LacksCachedReads
    {
        get => _lacksCachedReads;
        set => _lacksCachedReads = value;
    }

    /// <summary>Bytes that the file takes up on the host; a block device's length.</summary>
    public long Allocated => IsBlockDevice ? _deviceLength : _file.GetStatus().Allocated;

    /// <summary>What tells the user of trouble with this file.</summary>
    public StorageNotices Notices { get; }

    /// <summary>Null but in tests.</summary>
    internal IBlockFileWatch? Watch { get; set; }

    internal HostFile File => _file;

    /// <summary>Opens an image file or block device, and locks it as <paramref name="locking"/> says.</summary>
    /// <exception cref="DiskException">It is missing, a folder, not permitted, or in use by another program.</exception>
    public static BlockFile Open(string path, bool isReadOnly, ImageLocking locking = ImageLocking.Lock, StorageNotices? notices = null)
    {
        FileSizeSignal.Ignore();
        HostFile file = OpenHostFile(path, isReadOnly ? HostFileMode.Read : HostFileMode.ReadWrite);
        try
        {
            return Adopt(file, isReadOnly, locking, notices);
        }
        catch (HostException e)
        {
            file.Dispose();
            throw new DiskException($"disk '{path}' cannot be used: {Errno.Describe(e.Errno)}", e);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Makes a new, empty image file for writing, and locks it.</summary>
    /// <exception cref="DiskException">It is there already, or the folder does not take it.</exception>
    public static BlockFile Create(string path, StorageNotices? notices = null)
    {
        FileSizeSignal.Ignore();
        return Adopt(OpenHostFile(path, HostFileMode.ReadWrite | HostFileMode.Create), isReadOnly: false, ImageLocking.Lock, notices);
    }

    /// <summary>Reads at an offset. Bytes behind the file's end are zero.</summary>
    /// <exception cref="HostException">The storage fails.</exception>
    public void Read(Span<byte> bytes, long offset)
    {
        int count = _file.Read(bytes, offset);
        bytes[count..].Clear();
    }

    /// <summary>Writes at an offset; a file grows when need be.</summary>
    /// <exception cref="HostException">The storage fails, or is full; a part may be written.</exception>
    public void Write(ReadOnlySpan<byte> bytes, long offset)
    {
        Watch?.OnWrite(bytes, offset);
        _file.Write(bytes, offset);
    }

    /// <summary>Brings everything that has been written to stable storage. Once that has failed it fails for good: the kernel forgets what it could not write.</summary>
    /// <exception cref="HostException">The storage fails, or a write has failed behind our back.</exception>
    public void Flush() => Throw("fdatasync", TryFlush());

    /// <summary>Changes a file's length; new bytes are zero.</summary>
    /// <exception cref="HostException">The storage is full, or it is a block device.</exception>
    public void SetLength(long length) => Throw("ftruncate", IsBlockDevice ? Errno.EINVAL : _file.TrySetLength(length));

    /// <summary>Gives a range's space back to the host; it reads as zeroes then. The length stays.</summary>
    /// <returns>False where the host can't do that: nothing has changed.</returns>
    /// <exception cref="HostException">The storage fails.</exception>
    public bool PunchHole(long offset, long length)
    {
        int error = TryPunchHole(offset, length);
        if (IsRefusal(error))
        {
            return false;
        }

        Throw("fallocate", error);
        return true;
    }

    /// <summary>Lets a range read as zeroes; a file that ends in it or before it grows, when it must.</summary>
    /// <param name="offset">First byte.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="mayUnmap">Whether the space may go back to the host.</param>
    /// <exception cref="HostException">The storage fails, or is full.</exception>
    public void WriteZeroes(long offset, long length, bool mayUnmap) => Throw("fallocate", TryWriteZeroes(offset, length, mayUnmap));

    /// <summary>Closes the file and gives up its lock; no call or operation may be under way.</summary>
    public void Dispose()
    {
        _lock?.Dispose();
        _file.Dispose();
    }

    /// <summary>0, or the error number.</summary>
    internal int TryFlush()
    {
        int error = _flushError;
        error = error != 0 ? error : NoteFlush(_file.TryFlush());
        if (error == 0)
        {
            Watch?.OnFlushed();
        }

        return error;
    }

    /// <summary>The error that a flush is to end with, where one has failed before or now.</summary>
    internal int NoteFlush(int error)
    {
        if (error is not 0 and not Errno.EINTR and not Errno.EAGAIN)
        {
            // The kernel reports a lost page once, and drops it: a later fdatasync that succeeds would be a lie.
            Interlocked.CompareExchange(ref _flushError, error, 0);
        }

        return _flushError != 0 ? _flushError : error;
    }

    /// <summary>The error of a flush that failed earlier, or 0.</summary>
    internal int FlushError => _flushError;

    /// <summary>0, or the error number.</summary>
    internal int TryDiscard(long offset, long length)
    {
        if (IsBlockDevice)
        {
            return _lacksPunchHole ? Errno.EOPNOTSUPP : _file.TryDiscardDevice(offset, length);
        }

        return TryPunchHole(offset, length);
    }

    /// <summary>0, or the error number.</summary>
    internal int TryWriteZeroes(long offset, long length, bool mayUnmap)
    {
        if (IsBlockDevice)
        {
            int error = mayUnmap ? TryPunchHole(offset, length) : Errno.EOPNOTSUPP;
            error = IsRefusal(error) ? _file.TryZeroDevice(offset, length) : error;
            return IsRefusal(error) ? WriteZeroesByHand(offset, length) : error;
        }

        if (mayUnmap)
        {
            int error = TryPunchHole(offset, length);
            if (!IsRefusal(error))
            {
                return error;
            }
        }

        Watch?.OnZero(offset, length);
        if (!_lacksZeroRange)
        {
            int error = _file.TryZeroRange(offset, length);
            if (!IsRefusal(error))
            {
                return error;
            }

            _lacksZeroRange = error != Errno.EINVAL;
        }

        return WriteZeroesByHand(offset, length);
    }

    private static BlockFile Adopt(HostFile file, bool isReadOnly, ImageLocking locking, StorageNotices? notices)
    {
        switch (file.Kind)
        {
            case HostFileKind.Folder:
                throw new DiskException($"disk '{file.Path}' is a folder; give an image file or a block device");
            case HostFileKind.Other:
                throw new DiskException($"disk '{file.Path}' is neither a file nor a block device; give one of these");
        }

        BlockFile made = new(file, isReadOnly, notices ?? StorageNotices.None);
        made._lock = locking == ImageLocking.None ? null : ImageLock.Take(file, isWriter: !isReadOnly, made.Notices);
        return made;
    }

    private static HostFile OpenHostFile(string path, HostFileMode mode)
    {
        try
        {
            return HostFile.Open(path, mode);
        }
        catch (HostException e)
        {
            bool isWrite = mode.HasFlag(HostFileMode.ReadWrite);
            throw new DiskException(
                e.Errno switch
                {
                    Errno.ENOENT when mode.HasFlag(HostFileMode.Create) => $"disk '{path}' cannot be made: its folder does not exist",
                    Errno.ENOENT => $"disk '{path}' does not exist; check the path, or make it with 'tutti disk create'",
                    Errno.EISDIR => $"disk '{path}' is a folder; give an image file or a block device",
                    Errno.EEXIST => $"disk '{path}' exists already; remove it first, or give another name",
                    Errno.EACCES or Errno.EPERM when isWrite => $"disk '{path}' may not be written by you; change its permissions, or add ro to only read it",
                    Errno.EACCES or Errno.EPERM => $"disk '{path}' may not be read by you; change its permissions or copy it",
                    Errno.EROFS => $"disk '{path}' is on a read-only file system; add ro to only read it, or overlay to write to a copy",
                    Errno.ETXTBSY => $"disk '{path}' is a program that runs; give an image file or a block device",
                    _ => $"disk '{path}' cannot be opened: {Errno.Describe(e.Errno)}",
                },
                e);
        }
    }

    /// <summary>Whether the host can't do a call at all, and not only now.</summary>
    private static bool IsRefusal(int error) => error is Errno.EOPNOTSUPP or Errno.ENOSYS or Errno.ENODEV or Errno.ENOTTY or Errno.EINVAL;

    private static void Throw(string call, int error)
    {
        if (error != 0)
        {
            throw new HostException(call, error);
        }
    }

    private int TryPunchHole(long offset, long length)
    {
        if (_lacksPunchHole)
        {
            return Errno.EOPNOTSUPP;
        }

        Watch?.OnZero(offset, length);
        int error = _file.TryPunchHole(offset, length);
        if (IsRefusal(error))
        {
            // EINVAL is for this range only, on a device with larger blocks than the guest's.
            _lacksPunchHole = error != Errno.EINVAL;
        }

        return error;
    }

    private int WriteZeroesByHand(long offset, long length)
    {
        try
        {
            for (long done = 0; done < length; done += ZeroPiece)
            {
                _file.Write(s_zeroes.GetSpan()[..(int)Math.Min(ZeroPiece, length - done)], offset + done);
            }

            return 0;
        }
        catch (HostException e)
        {
            return e.Errno;
        }
    }
}
