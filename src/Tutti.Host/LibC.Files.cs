using System.Runtime.InteropServices;

namespace Tutti.Host;

/// <summary>Calls on files and block devices. Sources: their man pages in section 2, and <c>linux/fs.h</c>.</summary>
internal static unsafe partial class LibC
{
    internal const int O_RDONLY = 0;
    internal const int O_CREAT = 0x40;
    internal const int O_EXCL = 0x80;
    internal const int O_NONBLOCK = 0x800;
    internal const int O_DIRECT = 0x4000;

    internal const int AT_EMPTY_PATH = 0x1000;

    internal const int S_IFMT = 0xF000;
    internal const int S_IFDIR = 0x4000;
    internal const int S_IFBLK = 0x6000;
    internal const int S_IFREG = 0x8000;

    internal const int FALLOC_FL_KEEP_SIZE = 0x01;
    internal const int FALLOC_FL_PUNCH_HOLE = 0x02;
    internal const int FALLOC_FL_ZERO_RANGE = 0x10;

    internal const int F_OFD_GETLK = 36;
    internal const int F_OFD_SETLK = 37;
    internal const short F_RDLCK = 0;
    internal const short F_WRLCK = 1;
    internal const short F_UNLCK = 2;

    internal const nuint BLKGETSIZE64 = 0x80081272;
    internal const nuint BLKDISCARD = 0x1277;
    internal const nuint BLKZEROOUT = 0x127F;
    internal const nuint BLKSSZGET = 0x1268;
    internal const nuint BLKPBSZGET = 0x127B;

    /// <summary>By number: not all C libraries have preadv2. Its offset is one argument and a zero.</summary>
    internal const nint SYS_preadv2 = 327;
    internal const nint RWF_NOWAIT = 8;

    /// <summary>Variadic in C; with O_CREAT the third argument is the mode.</summary>
    [LibraryImport(Library, SetLastError = true)]
    internal static partial int open(byte* pathname, int flags, uint mode);

    internal const int PATH_MAX = 4096;

    [LibraryImport(Library, SetLastError = true)]
    internal static partial byte* realpath(byte* path, byte* resolved_path);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial nint pread(int fd, void* buf, nuint count, long offset);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial nint pwrite(int fd, void* buf, nuint count, long offset);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial nint preadv(int fd, void* iov, int iovcnt, long offset);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial nint pwritev(int fd, void* iov, int iovcnt, long offset);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int fdatasync(int fd);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int fsync(int fd);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int fallocate(int fd, int mode, long offset, long len);

    /// <summary>Variadic in C; one pointer argument is passed alike on x86-64.</summary>
    [LibraryImport(Library, SetLastError = true)]
    internal static partial int fcntl(int fd, int cmd, FileLock* arg);
}

/// <summary><c>struct flock</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct FileLock
{
    internal short Type;
    internal short Whence;
    internal long Start;
    internal long Length;
    internal int Pid;
}
