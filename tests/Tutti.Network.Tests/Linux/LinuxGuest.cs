using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Tutti.Devices.Network;
using Tutti.Host;
using Tutti.Network.Dns;
using Tutti.Network.Tap;
using Tutti.Network.Tests.Tap;
using Tutti.Workers;

namespace Tutti.Network.Tests.Linux;

/// <summary>
/// Linux as a user network's guest, without a machine around it: a network namespace whose only card is a TAP device, at whose other end the network under
/// test is plugged in, large segments and unfinished checksums included. Programs in the namespace are what programs in a guest are. A part of the frames can be lost.
/// </summary>
internal sealed class LinuxGuest : INetworkReceiver, IDisposable
{
    private const int MaxFrame = (64 << 10) + 64;
    private const int MaxBatch = 64;
    private static int _last;
    private readonly HostTap _tap;
    private readonly LoopWatch _watch;
    private readonly byte[] _received = GC.AllocateArray<byte>(HostTap.HeaderSize + MaxFrame, pinned: true);
    private readonly byte[] _header = GC.AllocateArray<byte>(HostTap.HeaderSize, pinned: true);
    private readonly Random _random = new(7);

    /// <param name="spec">The network; null for one that lets the guest reach the host.</param>
    /// <param name="resolvers">In place of the host's resolv.conf.</param>
    /// <param name="isPlain">Whether the card takes no work over, so that frames are as small as on a wire.</param>
    /// <param name="mtu">Of the guest's card.</param>
    public LinuxGuest(NetworkSpec? spec = null, string resolvers = "/nonexistent", bool isPlain = false, int mtu = 1500)
    {
        Network = new UserNetwork(spec ?? new NetworkSpec { IsHostAllowed = true, Ip6 = Ip6Mode.On }, Failures.Enqueue, null, new HostResolvers(resolvers));
        string name = string.Create(CultureInfo.InvariantCulture, $"ttl{Environment.ProcessId}-{Interlocked.Increment(ref _last)}");
        _tap = HostTap.Open(name);
        _ = _tap.SetOffloads(isPlain ? TapOffloads.None : TapOffloads.Checksum | TapOffloads.Tcp4 | TapOffloads.Tcp6);
        Accepts = isPlain ? PacketOffloads.None : PacketOffloads.Checksum | PacketOffloads.Tcp4 | PacketOffloads.Tcp6;
        Space = new NetworkNamespace($"tutti-{name}");
        Command.Run("ip", "link", "set", name, "netns", Space.Name);
        Space.Run("ip", "link", "set", "lo", "up");
        Space.Run("ip", "addr", "add", "10.0.2.15/24", "dev", name);
        Space.Run("ip", "link", "set", name, "mtu", mtu.ToString(CultureInfo.InvariantCulture));

        // Seconds of waiting, each time.
        Space.Run("sh", "-c", $"cd /proc/sys/net/ipv6/conf/{name}; echo 0 > accept_dad; echo 0 > router_solicitation_delay");
        Network.Attach(this);
        _watch = Network.Loop.Watch(_tap.Descriptor, IoEvents.Readable, _ => ReadFrames());
        Space.Run("ip", "link", "set", name, "up");
        Space.Run("ip", "route", "add", "default", "via", "10.0.2.2");
        Device = name;
    }

    public UserNetwork Network { get; }

    public NetworkNamespace Space { get; }

    public string Device { get; }

    public ConcurrentQueue<Exception> Failures { get; } = new();

    /// <summary>The part of the frames that is lost each way, 0 to 1.</summary>
    public double Loss { get; set; }

    public long Lost { get; private set; }

    public long Frames { get; private set; }

    /// <summary>The longest frame that the guest was given, in bytes.</summary>
    public int Largest { get; private set; }

    public PacketOffloads Accepts { get; }

    public bool TryReceive(ReadOnlySpan<byte> frame, in PacketOffload offload)
    {
        Largest = Math.Max(Largest, frame.Length);
        if (!IsLost())
        {
            TapHeader.Write(_header, offload);
            _ = _tap.Write(_header, frame);
        }

        return true;
    }

    public void EndReceive()
    {
    }

    public void OnLinkChanged()
    {
    }

    /// <summary>What the network's thread has allocated so far, the few bytes of this question included.</summary>
    public long AllocatedBytes
    {
        get
        {
            long bytes = 0;
            Network.Loop.Run(() => bytes = GC.GetAllocatedBytesForCurrentThread());
            return bytes;
        }
    }

    /// <summary>A TCP connection of the guest's.</summary>
    public Socket Connect(IPAddress address, int port, int receiveBuffer = 0) => Space.Do(() =>
    {
        Socket socket = new(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { ReceiveTimeout = 60_000, SendTimeout = 60_000 };
        if (receiveBuffer > 0)
        {
            socket.ReceiveBufferSize = receiveBuffer;
        }

        socket.Connect(address, port);
        return socket;
    });

    /// <summary>A socket of the guest's for datagrams.</summary>
    public Socket Datagrams(IPAddress local, int port) => Space.Do(() =>
    {
        Socket socket = new(local.AddressFamily, SocketType.Dgram, ProtocolType.Udp) { ReceiveTimeout = 20_000 };
        socket.Bind(new IPEndPoint(local, port));
        return socket;
    });

    /// <summary>Waits for the address that the router's advertisement leads to.</summary>
    public void WaitForIp6()
    {
        Stopwatch watch = Stopwatch.StartNew();
        string addresses = string.Empty;
        while (!addresses.Contains("fec0::", StringComparison.Ordinal) || addresses.Contains("tentative", StringComparison.Ordinal))
        {
            Assert.True(watch.Elapsed < TimeSpan.FromSeconds(20), $"No address by IPv6's router advertisement: {addresses}");
            Thread.Sleep(50);
            addresses = Space.Run("ip", "-6", "addr", "show", "dev", Device);
        }
    }

    public void Dispose()
    {
        Network.Loop.Run(_watch.Dispose);
        Network.Dispose();
        _tap.Dispose();
        Space.Dispose();
        Assert.Empty(Failures);
    }

    private bool IsLost()
    {
        Frames++;
        if (Loss == 0 || _random.NextDouble() >= Loss)
        {
            return false;
        }

        Lost++;
        return true;
    }

    private void ReadFrames()
    {
        for (int i = 0; i < MaxBatch; i++)
        {
            int length = _tap.Read(_received);
            if (length <= HostTap.HeaderSize)
            {
                break;
            }

            ReadOnlySpan<byte> frame = _received.AsSpan(HostTap.HeaderSize, length - HostTap.HeaderSize);
            if (TapHeader.TryRead(_received, frame, out PacketOffload offload) && !IsLost())
            {
                Network.Send(frame, offload);
            }
        }

        Network.EndSend();
    }
}
