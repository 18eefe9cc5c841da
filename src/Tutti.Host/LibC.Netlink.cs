using System.Runtime.InteropServices;

namespace Tutti.Host;

/// <summary>The kernel's routing tables. Sources: netlink(7), rtnetlink(7), the kernel's uapi/linux/rtnetlink.h.</summary>
internal static unsafe partial class LibC
{
    internal const int AF_NETLINK = 16;
    internal const int SOCK_RAW = 3;
    internal const int NETLINK_ROUTE = 0;

    internal const ushort NLMSG_ERROR = 2;
    internal const ushort NLM_F_REQUEST = 1;
    internal const ushort RTM_NEWROUTE = 24;
    internal const ushort RTM_GETROUTE = 26;

    internal const ushort RTA_DST = 1;
    internal const ushort RTA_SRC = 2;
    internal const ushort RTA_OIF = 4;
    internal const ushort RTA_PREFSRC = 7;
    internal const ushort RTA_IP_PROTO = 27;
    internal const ushort RTA_DPORT = 29;

    /// <summary>A group's bit in an address: 1 shifted by the group's number (RTNLGRP_*) less 1.</summary>
    internal const uint RTMGRP_IPV4_IFADDR = 1 << 4;
    internal const uint RTMGRP_IPV4_ROUTE = 1 << 6;
    internal const uint RTMGRP_IPV4_RULE = 1 << 7;
    internal const uint RTMGRP_IPV6_IFADDR = 1 << 8;
    internal const uint RTMGRP_IPV6_ROUTE = 1 << 10;
    internal const uint RTMGRP_IPV6_RULE = 1 << 18;

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int bind(int sockfd, NetlinkAddress* addr, uint addrlen);
}

/// <summary><c>struct sockaddr_nl</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NetlinkAddress
{
    internal ushort Family;
    internal ushort Padding;
    internal uint Port;
    internal uint Groups;
}

/// <summary><c>struct nlmsghdr</c>; for errors the negated number follows.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NetlinkHeader
{
    internal uint Length;
    internal ushort Type;
    internal ushort Flags;
    internal uint Sequence;
    internal uint Port;
}

/// <summary><c>struct rtmsg</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct RouteMessage
{
    internal byte Family;
    internal byte DestinationLength;
    internal byte SourceLength;
    internal byte TypeOfService;
    internal byte Table;
    internal byte Protocol;
    internal byte Scope;
    internal byte Type;
    internal uint Flags;
}
