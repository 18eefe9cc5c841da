using System.Runtime.InteropServices;

namespace Tutti.Host;

/// <summary>The C library of Linux on x86-64, with its own names. Sources: the man pages of sections 2 and 3.</summary>
internal static unsafe partial class LibC
{
    internal const int PROT_NONE = 0;
    internal const int PROT_READ = 1;
    internal const int PROT_WRITE = 2;
    internal const int PROT_EXEC = 4;

    internal const int MAP_SHARED = 0x01;
    internal const int MAP_PRIVATE = 0x02;
    internal const int MAP_FIXED = 0x10;
    internal const int MAP_ANONYMOUS = 0x20;
    internal const int MAP_NORESERVE = 0x4000;
    internal const int MAP_POPULATE = 0x8000;
    internal const nint MAP_FAILED = -1;

    internal const int MADV_DONTNEED = 4;
    internal const int MADV_REMOVE = 9;
    internal const int MADV_HUGEPAGE = 14;
    internal const int MADV_DONTDUMP = 16;
    internal const int MADV_COLLAPSE = 25;

    internal const uint MFD_CLOEXEC = 1;
    internal const uint MFD_EXEC = 0x10;

    internal const int EFD_CLOEXEC = 0x80000;
    internal const int EFD_NONBLOCK = 0x800;

    internal const int O_RDWR = 2;
    internal const int O_CLOEXEC = 0x80000;
    internal const int O_NOCTTY = 0x100;

    internal const int AT_FDCWD = -100;
    internal const uint STATX_BASIC_STATS = 0x7FF;

    internal const short POLLIN = 1;
    internal const short POLLOUT = 4;
    internal const short POLLERR = 8;
    internal const short POLLHUP = 16;
    internal const short POLLNVAL = 32;

    internal const int EINTR = 4;
    internal const int EAGAIN = 11;
    internal const int EINVAL = 22;
    internal const int EPIPE = 32;

    internal const int PR_SET_TIMERSLACK = 29;

    internal const int SIGBUS = 7;
    internal const int SIGSEGV = 11;
    internal const int SIGSTOP = 19;

    internal const int SA_RESTART = 0x10000000;

    internal const int TCSANOW = 0;
    internal const nuint TIOCGWINSZ = 0x5413;
    internal const nuint TIOCGPTN = 0x80045430;

    /// <summary>The name the runtime's probing turns into glibc's or musl's file.</summary>
    private const string Library = "libc";

    [LibraryImport(Library, SetLastError = true)]
    internal static partial nint mmap(nint addr, nuint length, int prot, int flags, int fd, long offset);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int munmap(nint addr, nuint length);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int mprotect(nint addr, nuint length, int prot);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int madvise(nint addr, nuint length, int advice);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int memfd_create(byte* name, uint flags);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int ftruncate(int fd, long length);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int close(int fd);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int eventfd(uint initval, int flags);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int ppoll(PollFd* fds, nuint nfds, TimeSpec* timeout, void* sigmask);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial nint read(int fd, void* buf, nuint count);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial nint write(int fd, void* buf, nuint count);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int isatty(int fd);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int tcgetattr(int fd, Termios* termios_p);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int tcgetpgrp(int fd);

    [LibraryImport(Library)]
    internal static partial int getpgrp();

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int tcsetattr(int fd, int optional_actions, Termios* termios_p);

    /// <summary>Variadic in C; one pointer argument is passed alike on x86-64.</summary>
    [LibraryImport(Library, SetLastError = true)]
    internal static partial int ioctl(int fd, nuint request, void* arg);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int kill(int pid, int sig);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int sigaction(int signum, SigAction* act, SigAction* oldact);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int getpid();

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int gettid();

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int tgkill(int tgid, int tid, int sig);

    /// <summary>Variadic in C; without O_CREAT it takes no third argument.</summary>
    [LibraryImport(Library, SetLastError = true)]
    internal static partial int open(byte* pathname, int flags);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int statx(int dirfd, byte* pathname, int flags, uint mask, Statx* statxbuf);

    [LibraryImport(Library)]
    internal static partial int malloc_trim(nuint pad);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial nint getrandom(void* buf, nuint buflen, uint flags);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int prctl(int option, nuint arg2, nuint arg3, nuint arg4, nuint arg5);
}
