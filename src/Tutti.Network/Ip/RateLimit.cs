using Tutti.Host;

namespace Tutti.Network;

/// <summary>Two token buckets, of bytes and of packets: what is not used in quiet times may pass in a burst.</summary>
internal sealed class RateLimit
{
    private const double Second = 1e9;
    private readonly long _bytesPerSecond;
    private readonly long _packetsPerSecond;
    private readonly double _burstBytes;
    private readonly double _burstPackets;
    private double _bytes;
    private double _packets;
    private long _last = HostTime.Nanoseconds;

    /// <param name="bytesPerSecond">0 for no limit.</param>
    /// <param name="packetsPerSecond">0 for no limit.</param>
    /// <param name="burstBytes">Bytes that may pass at once; a tenth of a second's when 0.</param>
    public RateLimit(long bytesPerSecond, long packetsPerSecond, long burstBytes = 0)
    {
        _bytesPerSecond = bytesPerSecond;
        _packetsPerSecond = packetsPerSecond;
        _burstBytes = burstBytes > 0 ? burstBytes : bytesPerSecond / 10.0;
        _burstPackets = Math.Max(1, packetsPerSecond / 10.0);
        _bytes = _burstBytes;
        _packets = _burstPackets;
    }

    /// <summary>Whether a frame may pass now. One that is larger than the bucket passes when that is full, and is paid for later.</summary>
    public bool TryTake(int length)
    {
        Refill();
        if ((_bytesPerSecond > 0 && _bytes < Math.Min(length, _burstBytes)) || (_packetsPerSecond > 0 && _packets < 1))
        {
            return false;
        }

        _bytes -= length;
        _packets--;
        return true;
    }

    private void Refill()
    {
        long now = HostTime.Nanoseconds;
        double seconds = (now - _last) / Second;
        _last = now;
        _bytes = Math.Min(_burstBytes, _bytes + (seconds * _bytesPerSecond));
        _packets = Math.Min(_burstPackets, _packets + (seconds * _packetsPerSecond));
    }
}
