using System.Runtime.InteropServices;

namespace Tutti.Host;

/// <summary>Network devices and the TAP driver. Sources: netdevice(7), <c>linux/if_tun.h</c>, the kernel's Documentation/networking/tuntap.rst.</summary>
internal static unsafe partial class LibC
{
    internal const int IFNAMSIZ = 16;

    internal const nuint SIOCGIFFLAGS = 0x8913;
    internal const nuint SIOCSIFFLAGS = 0x8914;
    internal const nuint SIOCGIFMTU = 0x8921;
    internal const short IFF_UP = 1;

    internal const nuint TUNSETIFF = 0x4004_54CA;
    internal const nuint TUNSETOFFLOAD = 0x4004_54D0;
    internal const nuint TUNSETVNETHDRSZ = 0x4004_54D8;
    internal const short IFF_TAP = 2;
    internal const short IFF_NO_PI = 0x1000;
    internal const short IFF_VNET_HDR = 0x4000;

    internal const uint TUN_F_CSUM = 1;
    internal const uint TUN_F_TSO4 = 2;
    internal const uint TUN_F_TSO6 = 4;
    internal const uint TUN_F_TSO_ECN = 8;

    /// <summary>Variadic in C; an integer argument is passed alike on x86-64.</summary>
    [LibraryImport(Library, SetLastError = true)]
    internal static partial int ioctl(int fd, nuint request, nuint arg);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial nint writev(int fd, IoVector* iov, int iovcnt);
}

/// <summary><c>struct ifreq</c>, as far as it is used.</summary>
[StructLayout(LayoutKind.Explicit, Size = 40)]
internal unsafe struct InterfaceRequest
{
    [FieldOffset(0)]
    internal fixed byte Name[LibC.IFNAMSIZ];

    [FieldOffset(16)]
    internal short Flags;

    [FieldOffset(16)]
    internal int Mtu;
}
