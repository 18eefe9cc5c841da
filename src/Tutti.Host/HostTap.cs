using System.Runtime.InteropServices;
using System.Text;

namespace Tutti.Host;

/// <summary>Work on frames that the reader of a <see cref="HostTap"/> takes over (TUN_F_*).</summary>
[Flags]
public enum TapOffloads
{
    None = 0,
    Checksum = (int)LibC.TUN_F_CSUM,
    Tcp4 = (int)LibC.TUN_F_TSO4,
    Tcp6 = (int)LibC.TUN_F_TSO6,
    Ecn = (int)LibC.TUN_F_TSO_ECN,
}

/// <summary>
/// The file behind a TAP device: what is written arrives at the host's network stack from the device, what the host sends by it is read. Each frame
/// stands behind a header, <c>struct virtio_net_hdr_mrg_rxbuf</c>. Calls that a data path makes return the kernel's answer and throw nothing. Source:
/// the kernel's Documentation/networking/tuntap.rst.
/// </summary>
public sealed unsafe class HostTap : IDisposable
{
    /// <summary>Bytes of a frame's header.</summary>
    public const int HeaderSize = 12;

    /// <summary>Longest name of a device, in bytes.</summary>
    public const int MaxNameLength = LibC.IFNAMSIZ - 1;

    private readonly FileDescriptor _descriptor;
    private readonly int _fd;
    private readonly string _name;

    private HostTap(FileDescriptor descriptor, string name, bool isNew)
    {
        _descriptor = descriptor;
        _fd = descriptor.Number;
        _name = name;
        IsNew = isNew;
    }

    /// <summary>To watch it: it is readable when a frame waits, in error when the device is gone.</summary>
    public FileDescriptor Descriptor => _descriptor;

    /// <summary>Whether the device came with this file and goes with it; one that was there stays.</summary>
    public bool IsNew { get; }

    /// <summary>Whether the device is up, as seen from this process's network namespace.</summary>
    public bool IsUp => TryAsk(LibC.SIOCGIFFLAGS, _name, out InterfaceRequest answer) && (answer.Flags & LibC.IFF_UP) != 0;

    /// <summary>The device's MTU in bytes; Ethernet's where the kernel does not say.</summary>
    public int Mtu => TryAsk(LibC.SIOCGIFMTU, _name, out InterfaceRequest answer) ? answer.Mtu : 1500;

    /// <summary>Attaches to a TAP device, or makes one where there is none of the name.</summary>
    /// <param name="name">At most <see cref="MaxNameLength"/> ASCII characters.</param>
    /// <exception cref="HostException"><see cref="HostException.Call"/> is <c>open</c>, where the host has no such thing for this user, or <c>TUNSETIFF</c>.</exception>
    public static HostTap Open(string name)
    {
        bool isNew = !TryAsk(LibC.SIOCGIFFLAGS, name, out _);
        int fd;
        // SAFETY: the literal ends in NUL and does not move.
        fixed (byte* path = "/dev/net/tun"u8)
        {
            fd = LibC.open(path, LibC.O_RDWR | LibC.O_CLOEXEC | LibC.O_NONBLOCK);
        }

        FileDescriptor descriptor = FileDescriptor.Own(fd, "open");
        try
        {
            InterfaceRequest request = Request(name);
            request.Flags = LibC.IFF_TAP | LibC.IFF_NO_PI | LibC.IFF_VNET_HDR;
            int size = HeaderSize;
            // SAFETY: the kernel reads and writes the locals during the calls.
            Check(LibC.ioctl(fd, LibC.TUNSETIFF, &request), "TUNSETIFF");
            Check(LibC.ioctl(fd, LibC.TUNSETVNETHDRSZ, &size), "TUNSETVNETHDRSZ");
            Check(LibC.ioctl(fd, LibC.TUNSETOFFLOAD, (nuint)0), "TUNSETOFFLOAD");
            return new HostTap(descriptor, name, isNew);
        }
        catch
        {
            descriptor.Dispose();
            throw;
        }
    }

    /// <summary>Brings the device up: 0 or a negated error.</summary>
    public int BringUp()
    {
        if (!TryAsk(LibC.SIOCGIFFLAGS, _name, out InterfaceRequest request))
        {
            return -Errno.ENODEV;
        }

        request.Flags |= LibC.IFF_UP;
        using HostSocket? socket = HostSocket.TryOpenUdp(false, out int errno);
        if (socket == null)
        {
            return -errno;
        }

        // SAFETY: the kernel reads the local during the call.
        return LibC.ioctl(socket.Descriptor.Number, LibC.SIOCSIFFLAGS, &request) == 0 ? 0 : -Marshal.GetLastPInvokeError();
    }

    /// <summary>Says what the reader takes over, from the next frame that the host sends: 0 or a negated error.</summary>
    public int SetOffloads(TapOffloads offloads) => LibC.ioctl(_fd, LibC.TUNSETOFFLOAD, (nuint)(uint)offloads) == 0 ? 0 : -Marshal.GetLastPInvokeError();

    /// <summary>Takes a frame, its header first: their length, or a negated error; <see cref="Errno.EAGAIN"/> when none waits, <see cref="Errno.EBADFD"/> when the device is gone.</summary>
    public int Read(Span<byte> into)
    {
        // SAFETY: the span is pinned for the call.
        fixed (byte* pointer = into)
        {
            return Answer(LibC.read(_fd, pointer, (nuint)into.Length));
        }
    }

    /// <summary>Sends a frame: bytes or a negated error; <see cref="Errno.EIO"/> while the device is down.</summary>
    public int Write(ReadOnlySpan<byte> header, ReadOnlySpan<byte> frame)
    {
        IoVector* vectors = stackalloc IoVector[2];
        // SAFETY: both spans are pinned for the call, and the vectors are as long as they.
        fixed (byte* head = header, body = frame)
        {
            vectors[0] = new IoVector { Base = (nint)head, Length = (nuint)header.Length };
            vectors[1] = new IoVector { Base = (nint)body, Length = (nuint)frame.Length };
            return Answer(LibC.writev(_fd, vectors, 2));
        }
    }

    public void Dispose() => _descriptor.Dispose();

    private static int Answer(nint result) => result >= 0 ? (int)result : -Marshal.GetLastPInvokeError();

    private static void Check(int result, string call)
    {
        if (result < 0)
        {
            throw HostException.FromLastError(call);
        }
    }

    private static InterfaceRequest Request(string name)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(name.Length, MaxNameLength, nameof(name));
        InterfaceRequest request = default;
        // SAFETY: the field has 16 bytes, and the name's end is one that is zero already.
        Encoding.ASCII.GetBytes(name, new Span<byte>(request.Name, LibC.IFNAMSIZ));
        return request;
    }

    /// <summary>Asks something of a device by its name, which any socket can.</summary>
    private static bool TryAsk(nuint question, string name, out InterfaceRequest answer)
    {
        answer = Request(name);
        using HostSocket? socket = HostSocket.TryOpenUdp(false, out _);
        // SAFETY: the kernel writes into the parameter, which is pinned, during the call.
        fixed (InterfaceRequest* pointer = &answer)
        {
            return socket != null && LibC.ioctl(socket.Descriptor.Number, question, pointer) == 0;
        }
    }
}
