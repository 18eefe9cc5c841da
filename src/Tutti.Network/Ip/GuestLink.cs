using Tutti.Devices.Network;
using Tutti.Network.Capture;

namespace Tutti.Network.Ip;

/// <summary>The cable to the guest's card: who is plugged in, who is where on it, and what passes it. On the network's loop only.</summary>
internal sealed class GuestLink
{
    private const int MaxNeighbors = 64;

    private readonly PacketCapture? _capture;
    private readonly RateLimit? _limit;
    private readonly (bool IsVersion6, UInt128 Address, ulong Mac)[] _neighbors = new (bool, UInt128, ulong)[MaxNeighbors];
    private int _neighborCount;
    private int _nextNeighbor;
    private bool _hasGiven;

    public GuestLink(PacketCapture? capture, RateLimit? limit)
    {
        _capture = capture;
        _limit = limit;
    }

    public INetworkReceiver? Card { get; set; }

    public bool IsUp { get; set; } = true;

    /// <summary>The MAC that the guest's last frame came from.</summary>
    public ulong GuestMac { get; set; } = FrameFormat.BroadcastMac;

    /// <summary>Called when the rate is used up: no card will say when there is room again.</summary>
    public Action? OnLimited { get; set; }

    /// <summary>
    /// Called with the first frame of a batch: <see cref="EndBatch"/> is to follow when the work under way is done, whoever gives frames and whatever for.
    /// </summary>
    public Action? OnBatchBegun { get; set; }

    public long FramesGiven { get; private set; }

    public PacketOffloads Accepts => Card?.Accepts ?? PacketOffloads.None;

    /// <summary>Gives the card a frame; false when it has no room or the rate is used up.</summary>
    public bool TryGive(ReadOnlySpan<byte> frame, in PacketOffload offload)
    {
        if (Card == null || !IsUp)
        {
            return true;
        }

        if (_limit != null && !_limit.TryTake(frame.Length))
        {
            OnLimited?.Invoke();
            return false;
        }

        if (!Card.TryReceive(frame, offload))
        {
            return false;
        }

        _capture?.Write(frame);
        if (!_hasGiven)
        {
            _hasGiven = true;
            OnBatchBegun?.Invoke();
        }

        FramesGiven++;
        return true;
    }

    /// <summary>Lets the card interrupt the guest when frames were given.</summary>
    public void EndBatch()
    {
        if (_hasGiven)
        {
            _hasGiven = false;
            Card?.EndReceive();
        }
    }

    /// <summary>Where an address of the guest's side is; the last that spoke when it is not known.</summary>
    public ulong MacOf(bool isVersion6, UInt128 address)
    {
        for (int i = 0; i < _neighborCount; i++)
        {
            if (_neighbors[i].Address == address && _neighbors[i].IsVersion6 == isVersion6)
            {
                return _neighbors[i].Mac;
            }
        }

        return GuestMac;
    }

    /// <summary>Remembers where an address is, as many as <see cref="MaxNeighbors"/>; the eldest goes.</summary>
    public void Learn(bool isVersion6, UInt128 address, ulong mac)
    {
        for (int i = 0; i < _neighborCount; i++)
        {
            if (_neighbors[i].Address == address && _neighbors[i].IsVersion6 == isVersion6)
            {
                _neighbors[i].Mac = mac;
                return;
            }
        }

        _neighbors[_nextNeighbor] = (isVersion6, address, mac);
        _nextNeighbor = (_nextNeighbor + 1) % MaxNeighbors;
        _neighborCount = Math.Min(_neighborCount + 1, MaxNeighbors);
    }
}
