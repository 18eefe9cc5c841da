using System.Runtime.InteropServices;

namespace Tutti.Host;

/// <summary>Sockets. Sources: socket(2), ip(7), ipv6(7), tcp(7), getrlimit(2).</summary>
internal static unsafe partial class LibC
{
    internal const int AF_INET = 2;
    internal const int AF_INET6 = 10;

    internal const int SOCK_STREAM = 1;
    internal const int SOCK_DGRAM = 2;
    internal const int SOCK_NONBLOCK = 0x800;
    internal const int SOCK_CLOEXEC = 0x80000;

    internal const int SOL_SOCKET = 1;
    internal const int SO_REUSEADDR = 2;
    internal const int SO_ERROR = 4;
    internal const int SO_SNDBUF = 7;
    internal const int SO_RCVBUF = 8;
    internal const int SO_KEEPALIVE = 9;
    internal const int SO_OOBINLINE = 10;
    internal const int SO_LINGER = 13;
    internal const int SO_PEEK_OFF = 42;
    internal const int IPPROTO_ICMP = 1;
    internal const int IPPROTO_TCP = 6;
    internal const int TCP_NODELAY = 1;
    internal const int TCP_KEEPIDLE = 4;
    internal const int TCP_KEEPINTVL = 5;
    internal const int TCP_KEEPCNT = 6;
    internal const int IPPROTO_IP = 0;
    internal const int IP_MTU_DISCOVER = 10;
    internal const int IP_MTU = 14;
    internal const int IP_PMTUDISC_DONT = 0;
    internal const int IP_PMTUDISC_WANT = 1;
    internal const int IP_PMTUDISC_DO = 2;
    internal const int IPPROTO_IPV6 = 41;
    internal const int IPV6_MTU_DISCOVER = 23;
    internal const int IPV6_MTU = 24;
    internal const int IPV6_V6ONLY = 26;
    internal const int IPV6_DONTFRAG = 62;
    internal const int IPPROTO_ICMPV6 = 58;

    internal const int MSG_PEEK = 2;
    internal const int MSG_TRUNC = 0x20;
    internal const int MSG_DONTWAIT = 0x40;
    internal const int MSG_NOSIGNAL = 0x4000;

    internal const int SHUT_WR = 1;

    internal const int RLIMIT_NOFILE = 7;

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int socket(int domain, int type, int protocol);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int connect(int sockfd, SocketAddress* addr, uint addrlen);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int bind(int sockfd, SocketAddress* addr, uint addrlen);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int listen(int sockfd, int backlog);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int accept4(int sockfd, SocketAddress* addr, uint* addrlen, int flags);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int getsockname(int sockfd, SocketAddress* addr, uint* addrlen);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int getsockopt(int sockfd, int level, int optname, void* optval, uint* optlen);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int setsockopt(int sockfd, int level, int optname, void* optval, uint optlen);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int shutdown(int sockfd, int how);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial nint send(int sockfd, void* buf, nuint len, int flags);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial nint recv(int sockfd, void* buf, nuint len, int flags);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial nint sendto(int sockfd, void* buf, nuint len, int flags, SocketAddress* destAddr, uint addrlen);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial nint recvfrom(int sockfd, void* buf, nuint len, int flags, SocketAddress* srcAddr, uint* addrlen);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial nint recvmsg(int sockfd, MessageHeader* msg, int flags);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int getrlimit(int resource, ResourceLimit* rlim);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int setrlimit(int resource, ResourceLimit* rlim);
}

/// <summary><c>struct sockaddr_in6</c>, and <c>struct sockaddr_in</c> in its first 16 bytes; port and flow information in network order.</summary>
[StructLayout(LayoutKind.Explicit, Size = 28)]
internal unsafe struct SocketAddress
{
    internal const uint Length4 = 16;
    internal const uint Length6 = 28;

    [FieldOffset(0)]
    internal ushort Family;

    [FieldOffset(2)]
    internal ushort Port;

    [FieldOffset(4)]
    internal uint Address4;

    [FieldOffset(8)]
    internal fixed byte Address6[16];

    [FieldOffset(24)]
    internal uint Scope;
}

/// <summary><c>struct iovec</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct IoVector
{
    internal nint Base;
    internal nuint Length;
}

/// <summary><c>struct msghdr</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct MessageHeader
{
    internal nint Name;
    internal uint NameLength;
    internal nint Vectors;
    internal nuint VectorCount;
    internal nint Control;
    internal nuint ControlLength;
    internal int Flags;
}

/// <summary><c>struct rlimit</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct ResourceLimit
{
    internal ulong Current;
    internal ulong Maximum;
}

/// <summary><c>struct linger</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct Linger
{
    internal int OnOff;
    internal int Seconds;
}
