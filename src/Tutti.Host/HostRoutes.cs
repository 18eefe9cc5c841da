using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace Tutti.Host;

/// <summary>What the kernel does with packets of a route (RTN_*).</summary>
public enum HostRouteType
{
    Unspecified = 0,

    /// <summary>They go to another host.</summary>
    Unicast = 1,

    /// <summary>They are the host's own.</summary>
    Local = 2,
    Broadcast = 3,

    /// <summary>They are the host's own, at an address that others may have, too.</summary>
    Anycast = 4,
    Multicast = 5,
}

/// <summary>A route that the kernel has chosen.</summary>
/// <param name="Type">What becomes of packets; kinds that no enumerator names are the kernel's numbers.</param>
/// <param name="Interface">By which interface they go out: its number, or 0.</param>
/// <param name="Source">The local address that a socket gets; 0 where the kernel names none.</param>
public readonly record struct HostRoute(HostRouteType Type, uint Interface, UInt128 Source);

/// <summary>
/// Asks the kernel which way packets of a new socket of this process would take: all its tables and policy rules are considered, as for the socket itself.
/// Nothing is sent on any network. For one thread. Sources: rtnetlink(7), the kernel's uapi/linux/rtnetlink.h.
/// </summary>
public sealed unsafe class HostRoutes : IDisposable
{
    /// <summary>The loopback device's number, in each network namespace.</summary>
    public const uint LoopbackInterface = 1;

    private const int HeaderSize = 28;
    private const int MaxAnswer = 4096;
    private const int MaxAnswers = 16;

    private readonly FileDescriptor _descriptor;
    private uint _sequence;

    private HostRoutes(FileDescriptor descriptor) => _descriptor = descriptor;

    /// <summary>Opens the way to the kernel's tables.</summary>
    /// <param name="errno">Why there is none: a sandbox that takes netlink sockets from the process.</param>
    public static HostRoutes? TryOpen(out int errno) => TryOpen(0, out errno) is FileDescriptor descriptor ? new HostRoutes(descriptor) : null;

    /// <summary>Finds the route of a packet.</summary>
    /// <param name="to">Where it goes; a port of 0 stands for none.</param>
    /// <param name="protocol">IANA's number: TCP's, UDP's, ICMP's or ICMPv6's, which policy rules may ask for.</param>
    /// <param name="source">The local address that the socket has; 0 while it has none.</param>
    /// <param name="route">The route.</param>
    /// <returns>0, or a negated error: the one that a socket would get where there is no way (ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL).</returns>
    public int Find(in HostEndpoint to, byte protocol, UInt128 source, out HostRoute route)
    {
        route = default;
        Span<byte> buffer = stackalloc byte[MaxAnswer];
        int length = WriteQuestion(buffer, to, protocol, source, ++_sequence);

        // SAFETY: the span is on the stack, which does not move.
        fixed (byte* pointer = buffer)
        {
            if (LibC.send(_descriptor.Number, pointer, (nuint)length, LibC.MSG_DONTWAIT) < 0)
            {
                return -Marshal.GetLastPInvokeError();
            }

            // The kernel has answered before `send` returns; what does not fit the question is an answer that was left by one that failed.
            for (int i = 0; i < MaxAnswers; i++)
            {
                nint count = LibC.recv(_descriptor.Number, pointer, MaxAnswer, LibC.MSG_DONTWAIT);
                if (count < 0)
                {
                    return -Marshal.GetLastPInvokeError();
                }

                if (TryRead(buffer[..(int)count], _sequence, to.IsVersion6, out int error, out route))
                {
                    return error;
                }
            }
        }

        return -Errno.EIO;
    }

    public void Dispose() => _descriptor.Dispose();

    /// <summary>A netlink socket that hears these groups.</summary>
    internal static FileDescriptor? TryOpen(uint groups, out int errno)
    {
        int fd = LibC.socket(LibC.AF_NETLINK, LibC.SOCK_RAW | LibC.SOCK_NONBLOCK | LibC.SOCK_CLOEXEC, LibC.NETLINK_ROUTE);
        errno = fd < 0 ? Marshal.GetLastPInvokeError() : 0;
        if (fd < 0)
        {
            return null;
        }

        FileDescriptor descriptor = FileDescriptor.Own(fd, "socket");
        NetlinkAddress address = new() { Family = LibC.AF_NETLINK, Groups = groups };
        // SAFETY: the kernel reads the local during the call.
        if (LibC.bind(fd, &address, (uint)sizeof(NetlinkAddress)) < 0)
        {
            errno = Marshal.GetLastPInvokeError();
            descriptor.Dispose();
            return null;
        }

        return descriptor;
    }

    /// <summary>Reads an answer; false where it is none to this question. What is not well-formed is an error.</summary>
    internal static bool TryRead(ReadOnlySpan<byte> message, uint sequence, bool isVersion6, out int error, out HostRoute route)
    {
        route = default;
        error = -Errno.EIO;
        if (message.Length < sizeof(NetlinkHeader))
        {
            return false;
        }

        NetlinkHeader header = MemoryMarshal.Read<NetlinkHeader>(message);
        if (header.Sequence != sequence)
        {
            return false;
        }

        ReadOnlySpan<byte> body = message[sizeof(NetlinkHeader)..];
        if (header.Type == LibC.NLMSG_ERROR && body.Length >= sizeof(int))
        {
            error = Math.Min(MemoryMarshal.Read<int>(body), -1);
            return true;
        }

        if (header.Type != LibC.RTM_NEWROUTE || header.Length > message.Length || header.Length < HeaderSize)
        {
            return true;
        }

        RouteMessage found = MemoryMarshal.Read<RouteMessage>(body);
        if (found.Family != (isVersion6 ? LibC.AF_INET6 : LibC.AF_INET))
        {
            return true;
        }

        error = 0;
        route = new HostRoute((HostRouteType)found.Type, 0, 0);
        ReadAttributes(message[HeaderSize..(int)header.Length], isVersion6, ref route);
        return true;
    }

    private static void ReadAttributes(ReadOnlySpan<byte> attributes, bool isVersion6, ref HostRoute route)
    {
        while (attributes.Length >= 4)
        {
            int length = MemoryMarshal.Read<ushort>(attributes);
            if (length < 4 || length > attributes.Length)
            {
                return;
            }

            ReadOnlySpan<byte> value = attributes[4..length];
            switch (MemoryMarshal.Read<ushort>(attributes[2..]))
            {
                case LibC.RTA_OIF when value.Length == sizeof(uint):
                    route = route with { Interface = MemoryMarshal.Read<uint>(value) };
                    break;
                case LibC.RTA_PREFSRC when value.Length == (isVersion6 ? 16 : 4):
                    route = route with { Source = isVersion6 ? BinaryPrimitives.ReadUInt128BigEndian(value) : BinaryPrimitives.ReadUInt32BigEndian(value) };
                    break;
            }

            attributes = attributes[Math.Min(Aligned(length), attributes.Length)..];
        }
    }

    private static int WriteQuestion(Span<byte> into, in HostEndpoint to, byte protocol, UInt128 source, uint sequence)
    {
        byte bits = (byte)(to.IsVersion6 ? 128 : 32);
        RouteMessage question = new()
        {
            Family = (byte)(to.IsVersion6 ? LibC.AF_INET6 : LibC.AF_INET),
            DestinationLength = bits,
            SourceLength = source == 0 ? (byte)0 : bits,
        };
        int length = HeaderSize;
        MemoryMarshal.Write(into[sizeof(NetlinkHeader)..], question);
        Span<byte> address = stackalloc byte[16];
        BinaryPrimitives.WriteUInt128BigEndian(address, to.Address);
        Add(into, ref length, LibC.RTA_DST, to.IsVersion6 ? address : address[12..]);
        if (source != 0)
        {
            BinaryPrimitives.WriteUInt128BigEndian(address, source);
            Add(into, ref length, LibC.RTA_SRC, to.IsVersion6 ? address : address[12..]);
        }

        Add(into, ref length, LibC.RTA_IP_PROTO, [protocol]);
        if (to.Port != 0)
        {
            Add(into, ref length, LibC.RTA_DPORT, [(byte)(to.Port >> 8), (byte)to.Port]);
        }

        MemoryMarshal.Write(into, new NetlinkHeader { Length = (uint)length, Type = LibC.RTM_GETROUTE, Flags = LibC.NLM_F_REQUEST, Sequence = sequence });
        return length;
    }

    private static void Add(Span<byte> message, ref int length, ushort type, ReadOnlySpan<byte> value)
    {
        Span<byte> attribute = message[length..];
        attribute[..Aligned(4 + value.Length)].Clear();
        MemoryMarshal.Write(attribute, (ushort)(4 + value.Length));
        MemoryMarshal.Write(attribute[2..], type);
        value.CopyTo(attribute[4..]);
        length += Aligned(4 + value.Length);
    }

    private static int Aligned(int length) => (length + 3) & ~3;
}
