using Tutti.Devices;
using Tutti.Devices.Network;
using Tutti.Host;
using Tutti.Network.Capture;
using Tutti.Network.Ip;
using Tutti.Workers;

namespace Tutti.Network.Tap;

/// <summary>
/// The guest's card at a TAP device of the host's, which bridges or routes its frames as it does any card's. What the guest's driver leaves to the card the host's
/// network stack does, and the other way about. All of it runs on a loop of its own.
/// </summary>
public sealed class TapNetwork : INetworkBackend, IDisposable
{
    private const int MaxFrame = (64 << 10) + 64;
    private const int MaxBatch = 64;
    private const long LimitedTime = 2_000_000;

    private readonly string _name;
    private readonly HostTap _tap;
    private readonly EventLoop _loop;
    private readonly PacketCapture? _capture;
    private readonly RateLimit? _sendLimit;
    private readonly RateLimit? _receiveLimit;
    private readonly LoopTimer _retry;
    private readonly LoopWatch _watch;
    private readonly Action<string> _onNotice;
    private readonly byte[] _sendHeader = GC.AllocateArray<byte>(HostTap.HeaderSize, pinned: true);
    private readonly byte[] _received = GC.AllocateArray<byte>(HostTap.HeaderSize + MaxFrame, pinned: true);
    private INetworkReceiver? _card;
    private PacketOffloads _offloads;

    /// <summary>Bytes in <see cref="_received"/> that wait for the guest to have room; 0 for none.</summary>
    private int _waiting;

    private bool _isLost;
    private bool _isDisposed;

    /// <summary>Attaches to the device, or makes it where there is none and the user may.</summary>
    /// <param name="spec">Which, and what it is to be like.</param>
    /// <param name="onFailure">Told what went wrong on the loop that should not have.</param>
    /// <param name="onNotice">Told, on any thread, what the user should know.</param>
    /// <exception cref="NetworkException">The device or a file can't be had.</exception>
    public TapNetwork(NetworkSpec spec, Action<Exception> onFailure, Action<string> onNotice)
    {
        ArgumentNullException.ThrowIfNull(spec);
        ArgumentNullException.ThrowIfNull(onNotice);
        _name = spec.TapName;
        _onNotice = onNotice;
        _tap = Open(_name);
        try
        {
            _capture = spec.CaptureFile == null ? null : new PacketCapture(spec.CaptureFile);
        }
        catch
        {
            _tap.Dispose();
            throw;
        }

        // What was there before is as its owner wants it; one that is made here is of no use to anybody while it is down.
        if (_tap.IsNew)
        {
            _ = _tap.BringUp();
        }
        else if (!_tap.IsUp)
        {
            onNotice($"TAP device {_name} is down, so the guest reaches nobody; bring it up: sudo ip link set {_name} up");
        }

        Mtu = _tap.Mtu;
        if (spec.BitsPerSecond > 0 || spec.PacketsPerSecond > 0)
        {
            _sendLimit = new RateLimit(spec.BitsPerSecond / 8, spec.PacketsPerSecond);
            _receiveLimit = new RateLimit(spec.BitsPerSecond / 8, spec.PacketsPerSecond);
        }

        _loop = new EventLoop("network", onFailure);
        _retry = _loop.AddTimer(OnReceiveReady);
        _watch = _loop.Watch(_tap.Descriptor, IoEvents.Readable, OnReady);
    }

    /// <inheritdoc/>
    public IDeviceWorker Worker => _loop;

    /// <summary>The device's MTU as it was when the network was made.</summary>
    public int Mtu { get; }

    /// <inheritdoc/>
    public PacketOffloads Takes => PacketOffloads.Checksum | PacketOffloads.Tcp4 | PacketOffloads.Tcp6 | PacketOffloads.Ecn;

    /// <summary>Whether the device is still there.</summary>
    public bool IsLinkUp => !_isLost;

    /// <summary>Frames of the guest's that were too many, or that the host did not take.</summary>
    public long SendDropped { get; private set; }

    /// <summary>Frames of the host's with work left that no card takes over.</summary>
    public long ReceiveDropped { get; private set; }

    /// <inheritdoc/>
    public void Attach(INetworkReceiver card) => _loop.Run(() =>
    {
        // What waits was for the card before.
        _card = card;
        Forget();
    });

    /// <inheritdoc/>
    public void Detach(INetworkReceiver card)
    {
        if (_isDisposed)
        {
            return;
        }

        _loop.Run(() =>
        {
            if (_card == card)
            {
                _card = null;
                Forget();
            }
        });
    }

    /// <inheritdoc/>
    public void Send(ReadOnlySpan<byte> frame, in PacketOffload offload)
    {
        if (_isLost || frame.Length < FrameFormat.EthernetHeader || (_sendLimit != null && !_sendLimit.TryTake(frame.Length)))
        {
            SendDropped++;
            return;
        }

        _capture?.Write(frame);
        TapHeader.Write(_sendHeader, offload);
        if (_tap.Write(_sendHeader, frame) < 0)
        {
            SendDropped++;
        }
    }

    /// <inheritdoc/>
    public void EndSend()
    {
        // Each frame is in the host's hands since its own call.
    }

    /// <inheritdoc/>
    public void OnReceiveReady()
    {
        if (_waiting == 0 || _isLost)
        {
            return;
        }

        int length = _waiting;
        _waiting = 0;
        if (TryGive(length))
        {
            _watch.Change(IoEvents.Readable);
            Receive();
        }
    }

    public void Dispose()
    {
        if (_isDisposed)
        {
            return;
        }

        _loop.Run(() =>
        {
            _card = null;

            // A card's word that it has room may still be under way.
            _waiting = 0;
            _retry.Cancel();
            _watch.Dispose();
        });
        _isDisposed = true;
        _loop.Dispose();
        _tap.Dispose();
        _capture?.Dispose();
    }

    private static HostTap Open(string name)
    {
        try
        {
            return HostTap.Open(name);
        }
        catch (HostException e)
        {
            throw new NetworkException($"Can't use TAP device {name}: " + (e.Call == "open" ? ReasonOfFile(e) : ReasonOfDevice(e, name)));
        }
    }

    private static string ReasonOfFile(HostException e) => e.Errno switch
    {
        Errno.ENOENT or Errno.ENODEV or Errno.ENXIO => "this host has no /dev/net/tun. Load its driver (sudo modprobe tun), or use --net user.",
        Errno.EACCES or Errno.EPERM => "no permission to open /dev/net/tun. Allow it (sudo chmod 666 /dev/net/tun, as is usual), or use --net user.",
        _ => $"{e.Message}.",
    };

    private static string ReasonOfDevice(HostException e, string name) => e.Errno switch
    {
        Errno.EPERM or Errno.EACCES =>
            $"no permission. Make one of your own: sudo ip tuntap add dev {name} mode tap user {Environment.UserName} && sudo ip link set {name} up",
        Errno.EBUSY => "it is in use by another VM. Give each VM its own device.",
        Errno.EINVAL => "a device of that name is there, and it is no TAP device with one queue. Choose another name; ip link shows those that are taken.",
        _ => $"{e.Message}.",
    };

    private void OnReady(IoEvents events)
    {
        if ((events & (IoEvents.Error | IoEvents.HangUp)) != 0)
        {
            Lose();
        }
        else if (_waiting == 0)
        {
            Receive();
        }
    }

    private void Receive()
    {
        for (int i = 0; i < MaxBatch && !_isLost; i++)
        {
            FollowOffloads();
            int length = _tap.Read(_received);
            if (length == -Errno.EBADFD)
            {
                Lose();
            }

            // What else may be wrong is with the one frame; the watch comes back for the others.
            if (length < 0 || !TryGive(length))
            {
                break;
            }
        }

        _card?.EndReceive();
    }

    /// <summary>The guest's driver says at any time what it takes. What the host has already sent is dropped by the card when that is too much.</summary>
    private void FollowOffloads()
    {
        PacketOffloads accepts = _card?.Accepts ?? PacketOffloads.None;
        if (accepts == _offloads)
        {
            return;
        }

        _offloads = accepts;
        TapOffloads wanted = TapOffloads.None;
        if ((accepts & PacketOffloads.Checksum) != 0)
        {
            wanted = TapOffloads.Checksum
                | ((accepts & PacketOffloads.Tcp4) != 0 ? TapOffloads.Tcp4 : 0)
                | ((accepts & PacketOffloads.Tcp6) != 0 ? TapOffloads.Tcp6 : 0);

            // The kernel knows ECN as a kind of segmentation only.
            wanted |= wanted != TapOffloads.Checksum && (accepts & PacketOffloads.Ecn) != 0 ? TapOffloads.Ecn : 0;
        }

        _ = _tap.SetOffloads(wanted);
    }

    /// <summary>Gives the card what was read; false when that must wait.</summary>
    private bool TryGive(int length)
    {
        ReadOnlySpan<byte> frame = length > HostTap.HeaderSize ? _received.AsSpan(HostTap.HeaderSize, length - HostTap.HeaderSize) : default;
        if (_card == null || frame.Length < FrameFormat.EthernetHeader)
        {
            return true;
        }

        if (!TapHeader.TryRead(_received, frame, out PacketOffload offload))
        {
            ReceiveDropped++;
            return true;
        }

        if (_receiveLimit != null && !_receiveLimit.TryTake(frame.Length))
        {
            _retry.Arm(HostTime.Nanoseconds + LimitedTime);
            Wait(length);
            return false;
        }

        if (!_card.TryReceive(frame, offload))
        {
            Wait(length);
            return false;
        }

        _capture?.Write(frame);
        return true;
    }

    /// <summary>Keeps the frame that was read last; those behind it wait in the host's queue.</summary>
    private void Wait(int length)
    {
        _waiting = length;
        _watch.Change(IoEvents.None);
    }

    private void Forget()
    {
        if (_waiting != 0 && !_isLost)
        {
            _waiting = 0;
            _watch.Change(IoEvents.Readable);
        }
    }

    /// <summary>Somebody has deleted the device. The guest sees its cable pulled.</summary>
    private void Lose()
    {
        _isLost = true;
        _watch.Dispose();
        _retry.Cancel();
        _onNotice($"TAP device {_name} has been deleted; the guest has no network any more");
        _card?.OnLinkChanged();
    }
}
