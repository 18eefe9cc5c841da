using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace Tutti.Host;

/// <summary>
/// A non-blocking TCP, UDP or ping socket of the host's. Calls that a data path makes return the kernel's answer, a negated <see cref="Errno"/> where it
/// refused, and throw nothing. For one thread; sources: socket(7), tcp(7), udp(7).
/// </summary>
public sealed unsafe class HostSocket : IDisposable
{
    private readonly FileDescriptor _descriptor;
    private readonly int _fd;

    private HostSocket(int fd, bool isVersion6)
    {
        _descriptor = FileDescriptor.Own(fd, "socket");
        _fd = fd;
        IsVersion6 = isVersion6;
    }

    /// <summary>To watch it.</summary>
    public FileDescriptor Descriptor => _descriptor;

    public bool IsVersion6 { get; }

    /// <summary>Opens a TCP socket.</summary>
    /// <param name="errno">Why there is none: <see cref="Errno.EMFILE"/> and the like.</param>
    public static HostSocket? TryOpenTcp(bool isVersion6, out int errno) => TryOpen(isVersion6, LibC.SOCK_STREAM, out errno);

    /// <summary>Opens a UDP socket.</summary>
    /// <param name="errno">Why there is none: <see cref="Errno.EMFILE"/> and the like.</param>
    public static HostSocket? TryOpenUdp(bool isVersion6, out int errno) => TryOpen(isVersion6, LibC.SOCK_DGRAM, out errno);

    /// <summary>Opens a socket for echo requests and their replies, ICMP's header first in both; the kernel sees to identifier and checksum (icmp(7)).</summary>
    /// <param name="errno">Why there is none: <see cref="Errno.EACCES"/> where the host's ping_group_range leaves this user out.</param>
    public static HostSocket? TryOpenPing(bool isVersion6, out int errno) =>
        TryOpen(isVersion6, LibC.SOCK_DGRAM, out errno, isVersion6 ? LibC.IPPROTO_ICMPV6 : LibC.IPPROTO_ICMP);

    /// <summary>Connects, or begins to: 0, or <see cref="Errno.EINPROGRESS"/> negated, and then it becomes writable with <see cref="TakeError"/> as the outcome.</summary>
    public int Connect(in HostEndpoint to)
    {
        SocketAddress address = ToAddress(to, out uint length);
        // SAFETY: the kernel reads the local during the call.
        return LibC.connect(_fd, &address, length) == 0 ? 0 : -Marshal.GetLastPInvokeError();
    }

    /// <summary>Takes a local address: 0 or a negated error.</summary>
    public int Bind(in HostEndpoint local)
    {
        SocketAddress address = ToAddress(local, out uint length);
        // SAFETY: the kernel reads the local during the call.
        return LibC.bind(_fd, &address, length) == 0 ? 0 : -Marshal.GetLastPInvokeError();
    }

    /// <summary>Accepts connections from now on: 0 or a negated error.</summary>
    /// <param name="backlog">How many may wait to be accepted.</param>
    public int Listen(int backlog) => LibC.listen(_fd, backlog) == 0 ? 0 : -Marshal.GetLastPInvokeError();

    /// <summary>Takes a connection that has come.</summary>
    /// <param name="peer">From where.</param>
    /// <param name="errno">Why there is none; <see cref="Errno.EAGAIN"/> when none waits.</param>
    public HostSocket? TryAccept(out HostEndpoint peer, out int errno)
    {
        SocketAddress address = default;
        uint length = SocketAddress.Length6;
        // SAFETY: the kernel writes at most `length` bytes into the local.
        int fd = LibC.accept4(_fd, &address, &length, LibC.SOCK_NONBLOCK | LibC.SOCK_CLOEXEC);
        errno = fd < 0 ? Marshal.GetLastPInvokeError() : 0;
        peer = fd < 0 ? default : FromAddress(address);
        return fd < 0 ? null : new HostSocket(fd, address.Family == LibC.AF_INET6);
    }

    /// <summary>The local address and port.</summary>
    /// <exception cref="HostException">The kernel does not say.</exception>
    public HostEndpoint LocalEndpoint
    {
        get
        {
            SocketAddress address = default;
            uint length = SocketAddress.Length6;
            // SAFETY: the kernel writes at most `length` bytes into the local.
            return LibC.getsockname(_fd, &address, &length) == 0 ? FromAddress(address) : throw HostException.FromLastError("getsockname");
        }
    }

    /// <summary>Sends what the kernel takes: bytes or a negated error. A peer that is gone raises no signal.</summary>
    public int Send(ReadOnlySpan<byte> data)
    {
        // SAFETY: the span is pinned for the call.
        fixed (byte* pointer = data)
        {
            return Answer(LibC.send(_fd, pointer, (nuint)data.Length, LibC.MSG_NOSIGNAL | LibC.MSG_DONTWAIT));
        }
    }

    /// <summary>Takes bytes or a datagram: its length, 0 at a stream's end, or a negated error.</summary>
    public int Receive(Span<byte> into)
    {
        // SAFETY: the span is pinned for the call.
        fixed (byte* pointer = into)
        {
            return Answer(LibC.recv(_fd, pointer, (nuint)into.Length, LibC.MSG_DONTWAIT));
        }
    }

    /// <summary>Reads ahead in a stream from the place of <see cref="SetPeekOffset"/>, which moves on: bytes, 0 at its end, or a negated error.</summary>
    public int Peek(Span<byte> into)
    {
        // SAFETY: the span is pinned for the call.
        fixed (byte* pointer = into)
        {
            return Answer(LibC.recv(_fd, pointer, (nuint)into.Length, LibC.MSG_DONTWAIT | LibC.MSG_PEEK));
        }
    }

    /// <summary>Reads ahead in a stream past its first bytes, on kernels without <see cref="SetPeekOffset"/> for TCP (before 6.9); the kernel copies those, too.</summary>
    /// <param name="skip">How many to pass over.</param>
    /// <param name="into">Where the rest goes.</param>
    /// <param name="scratch">At least 64 KiB that are overwritten.</param>
    /// <returns>Bytes in <paramref name="into"/>, 0 at the stream's end, or a negated error.</returns>
    public int PeekPast(int skip, Span<byte> into, Span<byte> scratch)
    {
        const int MaxVectors = 64;
        int chunks = (skip + scratch.Length - 1) / scratch.Length;
        if (chunks >= MaxVectors)
        {
            return -Errno.EINVAL;
        }

        IoVector* vectors = stackalloc IoVector[MaxVectors];
        // SAFETY: both spans are pinned for the call, and each vector lies within one of them.
        fixed (byte* pointer = into, discard = scratch)
        {
            for (int i = 0; i < chunks; i++)
            {
                vectors[i] = new IoVector { Base = (nint)discard, Length = (nuint)Math.Min(scratch.Length, skip - (i * scratch.Length)) };
            }

            vectors[chunks] = new IoVector { Base = (nint)pointer, Length = (nuint)into.Length };
            MessageHeader message = new() { Vectors = (nint)vectors, VectorCount = (nuint)(chunks + 1) };
            int count = Answer(LibC.recvmsg(_fd, &message, LibC.MSG_DONTWAIT | LibC.MSG_PEEK));
            if (count < skip)
            {
                return count < 0 ? count : -Errno.EAGAIN;
            }

            // No more than what is passed over: the stream's end or nothing yet. The kernel says the end only to who asks at the end.
            return count == skip && skip > 0 ? -Errno.EAGAIN : count - skip;
        }
    }

    /// <summary>Drops bytes at a stream's head, which were read ahead: how many, or a negated error.</summary>
    public int Discard(int count) => Answer(LibC.recv(_fd, null, (nuint)count, LibC.MSG_DONTWAIT | LibC.MSG_TRUNC));

    /// <summary>Sends a datagram: its length or a negated error.</summary>
    public int SendTo(ReadOnlySpan<byte> data, in HostEndpoint to)
    {
        SocketAddress address = ToAddress(to, out uint length);
        // SAFETY: the span is pinned for the call; the kernel reads the local.
        fixed (byte* pointer = data)
        {
            return Answer(LibC.sendto(_fd, pointer, (nuint)data.Length, LibC.MSG_NOSIGNAL | LibC.MSG_DONTWAIT, &address, length));
        }
    }

    /// <summary>Takes a datagram: its whole length, which may be above the room's, or a negated error.</summary>
    public int ReceiveFrom(Span<byte> into, out HostEndpoint from)
    {
        SocketAddress address = default;
        uint length = SocketAddress.Length6;
        // SAFETY: the span is pinned for the call; the kernel writes at most `length` bytes into the local.
        fixed (byte* pointer = into)
        {
            int count = Answer(LibC.recvfrom(_fd, pointer, (nuint)into.Length, LibC.MSG_DONTWAIT | LibC.MSG_TRUNC, &address, &length));
            from = count < 0 ? default : FromAddress(address);
            return count;
        }
    }

    /// <summary>Ends the sending direction: 0 or a negated error.</summary>
    public int ShutdownWrite() => LibC.shutdown(_fd, LibC.SHUT_WR) == 0 ? 0 : -Marshal.GetLastPInvokeError();

    /// <summary>Takes the error that waits at the socket (SO_ERROR); 0 for none.</summary>
    public int TakeError()
    {
        int error;
        uint length = sizeof(int);
        // SAFETY: both point to locals of the length said.
        return LibC.getsockopt(_fd, LibC.SOL_SOCKET, LibC.SO_ERROR, &error, &length) == 0 ? error : Marshal.GetLastPInvokeError();
    }

    /// <summary>Sends small segments at once (TCP_NODELAY).</summary>
    public void SetNoDelay() => _ = SetOption(LibC.IPPROTO_TCP, LibC.TCP_NODELAY, 1);

    /// <summary>Leaves urgent bytes where they are in the stream (SO_OOBINLINE), so that counts of bytes and of sequence numbers agree.</summary>
    public void SetUrgentInline() => _ = SetOption(LibC.SOL_SOCKET, LibC.SO_OOBINLINE, 1);

    /// <summary>Lets a listener take an address that has connections in TIME_WAIT (SO_REUSEADDR).</summary>
    public void SetReuseAddress() => _ = SetOption(LibC.SOL_SOCKET, LibC.SO_REUSEADDR, 1);

    /// <summary>Keeps IPv4 out of an IPv6 socket (IPV6_V6ONLY).</summary>
    public void SetVersion6Only() => _ = SetOption(LibC.IPPROTO_IPV6, LibC.IPV6_V6ONLY, 1);

    /// <summary>Gives a socket buffers of about this many bytes each way, in place of those that the kernel makes grow (SO_RCVBUF, SO_SNDBUF).</summary>
    public void SetBuffers(int size)
    {
        _ = SetOption(LibC.SOL_SOCKET, LibC.SO_RCVBUF, size);
        _ = SetOption(LibC.SOL_SOCKET, LibC.SO_SNDBUF, size);
    }

    /// <summary>Asks a TCP peer that is silent whether it is there: three times in as many seconds again, and then the connection ends with <see cref="Errno.ETIMEDOUT"/>.</summary>
    /// <param name="seconds">How long it may be silent, 1 to 32767.</param>
    public void SetKeepAlive(int seconds)
    {
        const int Probes = 3;
        _ = SetOption(LibC.IPPROTO_TCP, LibC.TCP_KEEPIDLE, seconds);
        _ = SetOption(LibC.IPPROTO_TCP, LibC.TCP_KEEPINTVL, Math.Max(1, seconds / Probes));
        _ = SetOption(LibC.IPPROTO_TCP, LibC.TCP_KEEPCNT, Probes);
        _ = SetOption(LibC.SOL_SOCKET, LibC.SO_KEEPALIVE, 1);
    }

    /// <summary>
    /// Whether datagrams may be cut on their way: in IPv4 by routers, too, in IPv6 by this host; or are marked as not to be, and refused with
    /// <see cref="Errno.EMSGSIZE"/> where they are larger than the path's MTU (ip(7), ipv6(7)).
    /// </summary>
    public void SetFragmentation(bool isAllowed)
    {
        if (!IsVersion6)
        {
            _ = SetOption(LibC.IPPROTO_IP, LibC.IP_MTU_DISCOVER, isAllowed ? LibC.IP_PMTUDISC_DONT : LibC.IP_PMTUDISC_DO);
            return;
        }

        _ = SetOption(LibC.IPPROTO_IPV6, LibC.IPV6_MTU_DISCOVER, isAllowed ? LibC.IP_PMTUDISC_WANT : LibC.IP_PMTUDISC_DO);
        _ = SetOption(LibC.IPPROTO_IPV6, LibC.IPV6_DONTFRAG, isAllowed ? 0 : 1);
    }

    /// <summary>The largest IP packet that the path of a connected socket takes, in bytes, as far as the kernel knows; 0 where it does not.</summary>
    public int PathMtu
    {
        get
        {
            int mtu;
            uint length = sizeof(int);
            // SAFETY: both point to locals of the length said.
            return LibC.getsockopt(_fd, IsVersion6 ? LibC.IPPROTO_IPV6 : LibC.IPPROTO_IP, IsVersion6 ? LibC.IPV6_MTU : LibC.IP_MTU, &mtu, &length) == 0 ? mtu : 0;
        }
    }

    /// <summary>Where <see cref="Peek"/> reads next, from the stream's first byte that is not taken: 0 or a negated error where the kernel has no such thing for TCP.</summary>
    public int SetPeekOffset(int offset) => SetOption(LibC.SOL_SOCKET, LibC.SO_PEEK_OFF, offset);

    /// <summary>Lets the closing of a TCP socket reset the connection, what waits to be sent dropped.</summary>
    public void SetResetOnClose()
    {
        Linger linger = new() { OnOff = 1 };
        // SAFETY: the kernel reads the local during the call.
        _ = LibC.setsockopt(_fd, LibC.SOL_SOCKET, LibC.SO_LINGER, &linger, (uint)sizeof(Linger));
    }

    public void Dispose() => _descriptor.Dispose();

    private static HostSocket? TryOpen(bool isVersion6, int type, out int errno, int protocol = 0)
    {
        int fd = LibC.socket(isVersion6 ? LibC.AF_INET6 : LibC.AF_INET, type | LibC.SOCK_NONBLOCK | LibC.SOCK_CLOEXEC, protocol);
        errno = fd < 0 ? Marshal.GetLastPInvokeError() : 0;
        return fd < 0 ? null : new HostSocket(fd, isVersion6);
    }

    private static int Answer(nint result) => result >= 0 ? (int)result : -Marshal.GetLastPInvokeError();

    private static SocketAddress ToAddress(in HostEndpoint endpoint, out uint length)
    {
        SocketAddress address = new() { Port = BinaryPrimitives.ReverseEndianness(endpoint.Port) };
        if (!endpoint.IsVersion6)
        {
            address.Family = LibC.AF_INET;
            address.Address4 = BinaryPrimitives.ReverseEndianness((uint)endpoint.Address);
            length = SocketAddress.Length4;
            return address;
        }

        address.Family = LibC.AF_INET6;
        // SAFETY: the field has 16 bytes.
        BinaryPrimitives.WriteUInt128BigEndian(new Span<byte>(address.Address6, 16), endpoint.Address);
        address.Scope = endpoint.Scope;
        length = SocketAddress.Length6;
        return address;
    }

    private static HostEndpoint FromAddress(SocketAddress address)
    {
        ushort port = BinaryPrimitives.ReverseEndianness(address.Port);
        // SAFETY: the field has 16 bytes.
        return address.Family == LibC.AF_INET6
            ? new HostEndpoint(true, BinaryPrimitives.ReadUInt128BigEndian(new ReadOnlySpan<byte>(address.Address6, 16)), port, address.Scope)
            : new HostEndpoint(false, BinaryPrimitives.ReverseEndianness(address.Address4), port);
    }

    private int SetOption(int level, int option, int value) =>
        // SAFETY: the kernel reads the argument's copy during the call.
        LibC.setsockopt(_fd, level, option, &value, sizeof(int)) == 0 ? 0 : -Marshal.GetLastPInvokeError();
}
