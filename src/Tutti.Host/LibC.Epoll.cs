using System.Runtime.InteropServices;

namespace Tutti.Host;

/// <summary>epoll(7).</summary>
internal static unsafe partial class LibC
{
    internal const int EPOLL_CLOEXEC = 0x80000;
    internal const int EPOLL_CTL_ADD = 1;
    internal const int EPOLL_CTL_DEL = 2;
    internal const int EPOLL_CTL_MOD = 3;

    internal const int ENOSYS = 38;

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int epoll_create1(int flags);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int epoll_ctl(int epfd, int op, int fd, EpollEvent* @event);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int epoll_wait(int epfd, EpollEvent* events, int maxevents, int timeout);

    /// <summary>Linux 5.11 and glibc 2.35 have it.</summary>
    [LibraryImport(Library, SetLastError = true)]
    internal static partial int epoll_pwait2(int epfd, EpollEvent* events, int maxevents, TimeSpec* timeout, void* sigmask);
}

/// <summary><c>struct epoll_event</c>, which is packed on x86-64.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct EpollEvent
{
    internal uint Events;
    internal ulong Data;
}
