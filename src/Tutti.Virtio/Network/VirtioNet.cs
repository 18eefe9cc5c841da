using System.Buffers.Binary;
using Tutti.Devices;
using Tutti.Devices.Network;
using static Tutti.Virtio.Network.VirtioNetLayout;

namespace Tutti.Virtio.Network;

/// <summary>What the card has done since it was made.</summary>
/// <param name="Sent">Frames given to the network.</param>
/// <param name="SentBytes">Their bytes.</param>
/// <param name="SendDropped">Frames from the guest that no network could send.</param>
/// <param name="Received">Frames given to the guest.</param>
/// <param name="ReceivedBytes">Their bytes.</param>
/// <param name="ReceiveDropped">Frames that the guest's buffers cannot hold, or whose unfinished work its driver cannot do.</param>
/// <param name="ReceiveFiltered">Frames that the guest does not want.</param>
public readonly record struct VirtioNetCounters(
    long Sent, long SentBytes, long SendDropped, long Received, long ReceivedBytes, long ReceiveDropped, long ReceiveFiltered);

/// <summary>State of a card beside its queues.</summary>
/// <param name="Filter">What the guest wants to receive.</param>
/// <param name="GuestOffloads">Bits of the unfinished work that it takes.</param>
/// <param name="MustAnnounce">Whether it has been asked to make itself known, and has not said that it did.</param>
public sealed record VirtioNetState(ReceiveFilterState Filter, ulong GuestOffloads, bool MustAnnounce) : VirtioOwnState;

/// <summary>The virtio network card, one pair of queues. Source: Virtual I/O Device 1.2, 5.1.</summary>
public sealed partial class VirtioNet : VirtioDevice, INetworkReceiver
{
    // An IPv6 packet with 65,535 bytes behind its header, in Ethernet with two VLAN tags, is 65,597.
    private const int MaxFrameSize = (64 << 10) + 64;

    private const int MinFrameSize = 14;
    private const int QueueSize = 256;

    // Mb/s. Guests only show it; no real speed is behind it.
    private const uint SpeedMegabits = 10_000;

    private readonly INetworkBackend _backend;
    private readonly IDoorbell _wake;
    private readonly MacAddress _mac;
    private readonly ReceiveFilter _filter = new();

    // A frame or command on its way from the guest: a copy, so that it doesn't change under way. The worker's.
    private readonly byte[] _scratch = new byte[HeaderSize + MaxFrameSize];
    private readonly DescriptorChain _chain = new();

    private bool _isActive;
    private bool _isLinkUp;
    private bool _mustAnnounce;
    private ulong _features;
    private ulong _guestOffloads;
    private int _accepts;

    // Only the worker counts.
    private long _sent;
    private long _sentBytes;
    private long _sendDropped;
    private long _received;
    private long _receivedBytes;
    private long _receiveDropped;
    private long _receiveFiltered;

    /// <param name="backend">The network. The card plugs itself in, and out when it is disposed of.</param>
    /// <param name="mac">The card's address, not a group's.</param>
    /// <exception cref="ArgumentException">The address is a group's.</exception>
    public VirtioNet(INetworkBackend backend, MacAddress mac)
    {
        ArgumentNullException.ThrowIfNull(backend);
        if (mac.IsMulticast)
        {
            throw new ArgumentException($"{mac} is a group's address: the second digit of a card's is even.", nameof(mac));
        }

        _backend = backend;
        _mac = mac;
        _filter.Reset(mac, true);
        _isLinkUp = backend.IsLinkUp;
        _wake = backend.Worker.AddDoorbell(OnWake);
        for (int i = 0; i < _receiveChains.Length; i++)
        {
            _receiveChains[i] = new DescriptorChain();
        }

        backend.Attach(this);
    }

    public override VirtioDeviceId Id => VirtioDeviceId.Network;

    public override int QueueCount => ControlQueue + 1;

    public override ushort MaxQueueSize(int queue) => QueueSize;

    public override IDeviceWorker Worker => _backend.Worker;

    public override ulong DeviceFeatures
    {
        get
        {
            PacketOffloads takes = _backend.Takes;
            return FeatureMac | FeatureMtu | FeatureStatus | FeatureSpeedDuplex | FeatureMrgRxbuf | GuestOffloads
                | FeatureCtrlVq | FeatureCtrlRx | FeatureCtrlRxExtra | FeatureCtrlMacAddr | FeatureCtrlGuestOffloads | FeatureGuestAnnounce
                | FeatureIf(takes, PacketOffloads.Checksum, FeatureCsum)
                | FeatureIf(takes, PacketOffloads.Checksum | PacketOffloads.Tcp4, FeatureHostTso4)
                | FeatureIf(takes, PacketOffloads.Checksum | PacketOffloads.Tcp6, FeatureHostTso6)
                | FeatureIf(takes, PacketOffloads.Checksum | PacketOffloads.Ecn, FeatureHostEcn);
        }
    }

    public override int ConfigLength => ConfigSize;

    /// <summary>The card's address now: the guest's driver may have set another.</summary>
    public MacAddress Mac
    {
        get
        {
            lock (Lock)
            {
                return _filter.Mac;
            }
        }
    }

    /// <summary>What the card has done so far.</summary>
    public VirtioNetCounters Counters => new(
        Volatile.Read(ref _sent),
        Volatile.Read(ref _sentBytes),
        Volatile.Read(ref _sendDropped),
        Volatile.Read(ref _received),
        Volatile.Read(ref _receivedBytes),
        Volatile.Read(ref _receiveDropped),
        Volatile.Read(ref _receiveFiltered));

    /// <inheritdoc/>
    public PacketOffloads Accepts => (PacketOffloads)Volatile.Read(ref _accepts);

    /// <summary>Tells the guest that the network's <see cref="INetworkBackend.IsLinkUp"/> has changed. On the worker's thread.</summary>
    public void OnLinkChanged()
    {
        lock (Lock)
        {
            _isLinkUp = _backend.IsLinkUp;
            NoteConfigChanged();
        }

        SignalConfigChanged();
    }

    /// <summary>Asks the guest to make itself known in the network, as after a move to another host; nothing where its driver can't.</summary>
    public void Announce()
    {
        lock (Lock)
        {
            if (!_isActive || (_features & FeatureGuestAnnounce) == 0)
            {
                return;
            }

            _mustAnnounce = true;
            NoteConfigChanged();
        }

        SignalConfigChanged();
    }

    public override void ReadConfig(int offset, Span<byte> data)
    {
        Span<byte> config = stackalloc byte[ConfigSize];
        config.Clear();
        _filter.Mac.Write(config[VirtioNetLayout.Mac..]);
        BinaryPrimitives.WriteUInt16LittleEndian(config[VirtioNetLayout.Status..], (ushort)((_isLinkUp ? StatusLinkUp : 0) | (_mustAnnounce ? StatusAnnounce : 0)));
        BinaryPrimitives.WriteUInt16LittleEndian(config[MaxVirtqueuePairs..], 1);
        BinaryPrimitives.WriteUInt16LittleEndian(config[Mtu..], (ushort)Math.Min(_backend.Mtu, ushort.MaxValue));
        BinaryPrimitives.WriteUInt32LittleEndian(config[Speed..], SpeedMegabits);
        config[Duplex] = DuplexFull;
        data.Clear();
        if (offset < ConfigSize)
        {
            ReadOnlySpan<byte> part = config[offset..];
            part[..Math.Min(part.Length, data.Length)].CopyTo(data);
        }
    }

    public override void Dispose()
    {
        _backend.Detach(this);
        base.Dispose();
        _wake.Dispose();
    }

    protected override void Activate(ulong features)
    {
        _features = WithoutOrphans(features);
        _guestOffloads = _features & GuestOffloads;
        _filter.Reset(_mac, (_features & FeatureCtrlRx) == 0);
        SetAccepts();
        _mustAnnounce = false;
        _isActive = true;

        // The driver's news of more buffers are of interest only while the network waits for them.
        Queue(ReceiveQueue).DisableNotify();
    }

    protected override VirtioOwnState SaveOwn() => new VirtioNetState(_filter.Save(), _guestOffloads, _mustAnnounce);

    protected override void RestoreOwn(VirtioOwnState? state)
    {
        if (state is VirtioNetState ours)
        {
            _filter.Restore(ours.Filter);
            _guestOffloads = ours.GuestOffloads & _features & GuestOffloads;
            _mustAnnounce = ours.MustAnnounce;
            SetAccepts();
        }
        else if (state != null)
        {
            throw new ArgumentException("The state is another kind of device's.", nameof(state));
        }
    }

    protected override bool BeginReset()
    {
        _isActive = false;
        _hasUnpublished = false;
        _mustAnnounce = false;
        _features = 0;
        _guestOffloads = 0;
        SetAccepts();
        _filter.Reset(_mac, true);
        WakeNetwork();
        return true;
    }

    protected override void OnQueueEnabled(int queue)
    {
        if (queue == ReceiveQueue)
        {
            Queue(queue).DisableNotify();
        }
    }

    protected override void OnQueueReset(int queue)
    {
        if (queue == ReceiveQueue)
        {
            _hasUnpublished = false;
            WakeNetwork();
        }
    }

    protected override void OnNotify(int queue)
    {
        switch (queue)
        {
            case ReceiveQueue:
                ResumeReceive();
                break;
            case TransmitQueue:
                Transmit();
                break;
            case ControlQueue:
                Control();
                break;
        }
    }

    // Who waits for the buffers of a driver that is gone would wait for ever.
    private void WakeNetwork()
    {
        if (_isWaiting)
        {
            _wake.Ring();
        }
    }

    private void OnWake()
    {
        bool transmits;
        bool controls;
        lock (Lock)
        {
            transmits = _mustTransmit;
            controls = _mustControl;
            _mustTransmit = false;
            _mustControl = false;
        }

        ResumeReceive();
        if (transmits)
        {
            Transmit();
        }

        if (controls)
        {
            Control();
        }
    }

    /// <summary>A driver that takes a feature without what the feature stands on gets neither. Source: 5.1.3.1.</summary>
    private static ulong WithoutOrphans(ulong features)
    {
        features &= (features & FeatureCsum) != 0 ? ulong.MaxValue : ~(FeatureHostTso4 | FeatureHostTso6);
        features &= (features & (FeatureHostTso4 | FeatureHostTso6)) != 0 ? ulong.MaxValue : ~FeatureHostEcn;
        features &= (features & FeatureGuestCsum) != 0 ? ulong.MaxValue : ~(FeatureGuestTso4 | FeatureGuestTso6);
        features &= (features & (FeatureGuestTso4 | FeatureGuestTso6)) != 0 ? ulong.MaxValue : ~FeatureGuestEcn;
        features &= (features & FeatureCtrlVq) != 0
            ? ulong.MaxValue
            : ~(FeatureCtrlRx | FeatureCtrlMacAddr | FeatureCtrlGuestOffloads | FeatureGuestAnnounce);
        return features & ((features & FeatureCtrlRx) != 0 ? ulong.MaxValue : ~FeatureCtrlRxExtra);
    }

    private static ulong FeatureIf(PacketOffloads takes, PacketOffloads needed, ulong feature) => (takes & needed) == needed ? feature : 0;

    private void SetAccepts()
    {
        ulong on = WithoutOrphans(_guestOffloads);
        Volatile.Write(
            ref _accepts,
            (int)(((on & FeatureGuestCsum) != 0 ? PacketOffloads.Checksum : 0)
            | ((on & FeatureGuestTso4) != 0 ? PacketOffloads.Tcp4 : 0)
            | ((on & FeatureGuestTso6) != 0 ? PacketOffloads.Tcp6 : 0)
            | ((on & FeatureGuestEcn) != 0 ? PacketOffloads.Ecn : 0)));
    }
}
