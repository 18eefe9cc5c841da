using System.Runtime.InteropServices;
using System.Text;

namespace Tutti.Host;

/// <summary>How a file is opened.</summary>
[Flags]
public enum HostFileMode
{
    Read = 0,
    ReadWrite = 1,

    /// <summary>Makes the file, which must not be there yet, for its owner alone (0600).</summary>
    Create = 2,

    /// <summary>Past the host's page cache (O_DIRECT): offsets, lengths and addresses must suit the storage, mostly multiples of 512 or 4096.</summary>
    Direct = 4,
}

/// <summary>What a file is.</summary>
public enum HostFileKind
{
    Regular,
    BlockDevice,
    Folder,
    Other,
}

/// <summary>What the host says of a file. Source: statx(2).</summary>
/// <param name="Length">Bytes; 0 for a block device.</param>
/// <param name="Allocated">Bytes that it takes up.</param>
/// <param name="BlockSize">Bytes that it is best read and written in.</param>
/// <param name="DeviceMajor">The device's number, of a block device.</param>
/// <param name="DeviceMinor">Its second half.</param>
public readonly record struct HostFileStatus(HostFileKind Kind, long Length, long Allocated, int BlockSize, uint DeviceMajor, uint DeviceMinor);

/// <summary>
/// A file or block device, read and written at offsets. Everything is safe from any thread, but for <see cref="Dispose"/>: nobody may be in a call then.
/// The <c>Try</c> calls are one system call each and give its error number; the others go on until all is done, and throw.
/// </summary>
public sealed unsafe class HostFile : IDisposable
{
    /// <summary>For the owner alone: what a guest writes is nobody else's affair.</summary>
    private const uint NewFileMode = 0b110_000_000;

    private HostFile(string path, FileDescriptor descriptor, HostFileStatus status)
    {
        Path = path;
        Descriptor = descriptor;
        Kind = status.Kind;
    }

    public string Path { get; }

    public FileDescriptor Descriptor { get; }

    public HostFileKind Kind { get; }

    /// <summary>Opens or makes a file; it is not inherited by other programs. A pipe is not waited for.</summary>
    /// <exception cref="HostException">The kernel refuses; <see cref="HostException.Errno"/> says why.</exception>
    public static HostFile Open(string path, HostFileMode mode)
    {
        ArgumentNullException.ThrowIfNull(path);
        int flags = LibC.O_CLOEXEC | LibC.O_NONBLOCK | (mode.HasFlag(HostFileMode.ReadWrite) ? LibC.O_RDWR : LibC.O_RDONLY);
        flags |= mode.HasFlag(HostFileMode.Create) ? LibC.O_CREAT | LibC.O_EXCL : 0;
        flags |= mode.HasFlag(HostFileMode.Direct) ? LibC.O_DIRECT : 0;
        byte[] name = HostPath.Encode(path);
        FileDescriptor descriptor;
        // SAFETY: the array ends in NUL and is pinned for the call.
        fixed (byte* pathname = name)
        {
            int fd;
            do
            {
                fd = LibC.open(pathname, flags, NewFileMode);
            }
            while (fd < 0 && Marshal.GetLastPInvokeError() == LibC.EINTR);
            descriptor = FileDescriptor.Own(fd, $"open {path}");
        }

        try
        {
            return new HostFile(path, descriptor, GetStatus(descriptor));
        }
        catch
        {
            descriptor.Dispose();
            throw;
        }
    }

    /// <summary>Where a path leads, behind all symbolic links and without "." and ".."; null where it leads nowhere.</summary>
    public static string? FindRealPath(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        if (path.Contains('\0', StringComparison.Ordinal))
        {
            return null;
        }

        byte[] name = HostPath.Encode(path);
        byte[] resolved = new byte[LibC.PATH_MAX];
        // SAFETY: both arrays are pinned for the call; the first ends in NUL, the second has the room that the call wants.
        fixed (byte* from = name, to = resolved)
        {
            return LibC.realpath(from, to) == null ? null : Encoding.UTF8.GetString(resolved.AsSpan(0, resolved.AsSpan().IndexOf((byte)0)));
        }
    }

    /// <exception cref="HostException">The kernel refuses.</exception>
    public HostFileStatus GetStatus() => GetStatus(Descriptor);

    /// <summary>Bytes of a file or block device.</summary>
    /// <exception cref="HostException">The kernel refuses.</exception>
    public long GetLength()
    {
        if (Kind != HostFileKind.BlockDevice)
        {
            return GetStatus().Length;
        }

        ulong length;
        // SAFETY: the kernel writes 8 bytes into the local.
        Check(LibC.ioctl(Descriptor.Number, LibC.BLKGETSIZE64, &length), "BLKGETSIZE64");
        return (long)length;
    }

    /// <summary>Bytes of a block device that are written at once: what it takes, and what suits it.</summary>
    /// <exception cref="HostException">It is no block device.</exception>
    public (int Logical, int Physical) GetSectorSizes()
    {
        int logical;
        int physical;
        // SAFETY: the kernel writes 4 bytes into each of the locals.
        Check(LibC.ioctl(Descriptor.Number, LibC.BLKSSZGET, &logical), "BLKSSZGET");
        Check(LibC.ioctl(Descriptor.Number, LibC.BLKPBSZGET, &physical), "BLKPBSZGET");
        return (logical, physical);
    }

    /// <summary>Reads at an offset, and fewer bytes only at the file's end.</summary>
    /// <returns>Bytes read.</returns>
    /// <exception cref="HostException">The storage fails.</exception>
    public int Read(Span<byte> bytes, long offset)
    {
        int done = 0;
        // SAFETY: the span is pinned, and the kernel writes no more than what is left of it.
        fixed (byte* start = bytes)
        {
            while (done < bytes.Length)
            {
                nint count = LibC.pread(Descriptor.Number, start + done, (nuint)(bytes.Length - done), offset + done);
                if (count == 0)
                {
                    break;
                }

                done += count > 0 ? (int)count : Retry("pread");
            }
        }

        return done;
    }

    /// <summary>Writes at an offset, all of it.</summary>
    /// <exception cref="HostException">The storage fails, or is full; a part may be written.</exception>
    public void Write(ReadOnlySpan<byte> bytes, long offset)
    {
        int done = 0;
        // SAFETY: the span is pinned, and the kernel reads no more than what is left of it.
        fixed (byte* start = bytes)
        {
            while (done < bytes.Length)
            {
                nint count = LibC.pwrite(Descriptor.Number, start + done, (nuint)(bytes.Length - done), offset + done);
                done += count switch
                {
                    > 0 => (int)count,
                    0 => throw new HostException("pwrite", Errno.ENOSPC),
                    _ => Retry("pwrite"),
                };
            }
        }
    }

    /// <summary>One preadv.</summary>
    /// <param name="vectors">Address of <c>iovec</c>s, which do not move; the caller vouches for them and for what they point to.</param>
    /// <param name="count">Their number, 1 to 1024.</param>
    /// <param name="offset">Where in the file.</param>
    /// <returns>Bytes, 0 at the file's end; or an error number, negative.</returns>
    public nint TryReadVector(nint vectors, int count, long offset)
    {
        // SAFETY: the caller vouches for the vectors.
        nint done = LibC.preadv(Descriptor.Number, (void*)vectors, count, offset);
        return done >= 0 ? done : -Marshal.GetLastPInvokeError();
    }

    /// <summary>One preadv2 that takes only what can be had without waiting (RWF_NOWAIT); see <see cref="TryReadVector"/>.</summary>
    /// <returns>Bytes, fewer than asked for where the next have to be fetched; -EAGAIN when the first have; -EOPNOTSUPP, -ENOSYS or -EPERM where the host can't.</returns>
    public nint TryReadCachedVector(nint vectors, int count, long offset)
    {
        // SAFETY: the caller vouches for the vectors.
        nint done = LibC.syscall(LibC.SYS_preadv2, Descriptor.Number, vectors, count, (nint)offset, 0, LibC.RWF_NOWAIT);
        return done >= 0 ? done : -Marshal.GetLastPInvokeError();
    }

    /// <summary>One pwritev; see <see cref="TryReadVector"/>.</summary>
    public nint TryWriteVector(nint vectors, int count, long offset)
    {
        // SAFETY: the caller vouches for the vectors.
        nint done = LibC.pwritev(Descriptor.Number, (void*)vectors, count, offset);
        return done >= 0 ? done : -Marshal.GetLastPInvokeError();
    }

    /// <summary>Brings all written bytes, and the length, to stable storage (fdatasync).</summary>
    /// <returns>0 or the error number.</returns>
    public int TryFlush() => Repeat(static file => LibC.fdatasync(file.Descriptor.Number));

    /// <summary>Gives the range's space back to the host; it reads as zeroes then. The length stays.</summary>
    /// <returns>0 or the error number; EOPNOTSUPP where the file system can't.</returns>
    public int TryPunchHole(long offset, long length) => Allocate(LibC.FALLOC_FL_PUNCH_HOLE | LibC.FALLOC_FL_KEEP_SIZE, offset, length);

    /// <summary>Lets the range read as zeroes, with its space kept or taken. The length stays.</summary>
    /// <returns>0 or the error number; EOPNOTSUPP where the file system can't.</returns>
    public int TryZeroRange(long offset, long length) => Allocate(LibC.FALLOC_FL_ZERO_RANGE | LibC.FALLOC_FL_KEEP_SIZE, offset, length);

    /// <summary>Takes the range's space, so that writes there find it; the length grows to the range's end.</summary>
    /// <returns>0 or the error number; EOPNOTSUPP where the file system can't.</returns>
    public int TryAllocate(long offset, long length) => Allocate(0, offset, length);

    /// <summary>Tells a block device that a range holds nothing of value; what it reads as then is not said.</summary>
    /// <returns>0 or the error number.</returns>
    public int TryDiscardDevice(long offset, long length) => DeviceRange(LibC.BLKDISCARD, offset, length);

    /// <summary>Lets a range of a block device read as zeroes.</summary>
    /// <returns>0 or the error number.</returns>
    public int TryZeroDevice(long offset, long length) => DeviceRange(LibC.BLKZEROOUT, offset, length);

    /// <summary>Changes the length; new bytes are zero.</summary>
    /// <returns>0 or the error number.</returns>
    public int TrySetLength(long length)
    {
        int result;
        do
        {
            result = LibC.ftruncate(Descriptor.Number, length);
        }
        while (result != 0 && Marshal.GetLastPInvokeError() == LibC.EINTR);
        return result == 0 ? 0 : Marshal.GetLastPInvokeError();
    }

    /// <summary>Brings a folder's entries to stable storage, so that a file made or renamed there is found after a crash.</summary>
    public static void FlushFolder(string path)
    {
        using HostFile folder = Open(path, HostFileMode.Read);
        // File systems that can't do it for a folder need it not.
        _ = LibC.fsync(folder.Descriptor.Number);
    }

    /// <summary>Locks one byte against exclusive locks of other openings of the file (F_OFD_SETLK); any opening may hold it too.</summary>
    /// <returns>0 or the error number: EAGAIN or EACCES where another has it alone, others where the file system has no locks.</returns>
    public int TryLockByteShared(long position) => Lock(LibC.F_RDLCK, position);

    /// <summary>Gives up the lock of one byte.</summary>
    public void UnlockByte(long position) => _ = Lock(LibC.F_UNLCK, position);

    /// <summary>Looks whether another opening of the file has a lock of a byte.</summary>
    /// <returns>0 for none, EAGAIN for one, or the error number where the file system has no locks.</returns>
    public int FindLock(long position)
    {
        FileLock request = new() { Type = LibC.F_WRLCK, Start = position, Length = 1 };
        // SAFETY: the kernel reads and writes the local during the call.
        if (LibC.fcntl(Descriptor.Number, LibC.F_OFD_GETLK, &request) != 0)
        {
            return Marshal.GetLastPInvokeError();
        }

        return request.Type == LibC.F_UNLCK ? 0 : LibC.EAGAIN;
    }

    public void Dispose() => Descriptor.Dispose();

    private static HostFileStatus GetStatus(FileDescriptor descriptor)
    {
        Statx stat = default;
        // SAFETY: the literal ends in NUL; the struct has the kernel's size (tested).
        fixed (byte* empty = "\0"u8)
        {
            Check(LibC.statx(descriptor.Number, empty, LibC.AT_EMPTY_PATH, LibC.STATX_BASIC_STATS, &stat), "statx");
        }

        HostFileKind kind = (stat.Mode & LibC.S_IFMT) switch
        {
            LibC.S_IFREG => HostFileKind.Regular,
            LibC.S_IFBLK => HostFileKind.BlockDevice,
            LibC.S_IFDIR => HostFileKind.Folder,
            _ => HostFileKind.Other,
        };
        return new HostFileStatus(kind, (long)stat.Size, (long)stat.Blocks * 512, (int)Math.Clamp(stat.BlockSize, 512, 1 << 30), stat.RdevMajor, stat.RdevMinor);
    }

    private static void Check(int result, string call)
    {
        if (result != 0)
        {
            throw HostException.FromLastError(call);
        }
    }

    /// <summary>0 where the last call is to be made again.</summary>
    private static int Retry(string call)
    {
        HostException error = HostException.FromLastError(call);
        return error.Errno == LibC.EINTR ? 0 : throw error;
    }

    private int Repeat(Func<HostFile, int> call)
    {
        while (call(this) != 0)
        {
            int error = Marshal.GetLastPInvokeError();
            if (error != LibC.EINTR)
            {
                return error;
            }
        }

        return 0;
    }

    private int Allocate(int mode, long offset, long length)
    {
        while (LibC.fallocate(Descriptor.Number, mode, offset, length) != 0)
        {
            int error = Marshal.GetLastPInvokeError();
            if (error != LibC.EINTR)
            {
                return error;
            }
        }

        return 0;
    }

    private int DeviceRange(nuint request, long offset, long length)
    {
        ulong* range = stackalloc ulong[] { (ulong)offset, (ulong)length };
        // SAFETY: the kernel reads the two numbers during the call.
        return LibC.ioctl(Descriptor.Number, request, range) == 0 ? 0 : Marshal.GetLastPInvokeError();
    }

    private int Lock(short type, long position)
    {
        FileLock request = new() { Type = type, Start = position, Length = 1 };
        // SAFETY: the kernel reads the local during the call.
        return LibC.fcntl(Descriptor.Number, LibC.F_OFD_SETLK, &request) == 0 ? 0 : Marshal.GetLastPInvokeError();
    }
}
