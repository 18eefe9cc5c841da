using Tutti.Host;

namespace Tutti.Network.Ip;

/// <summary>
/// Puts the guest's fragments together: at most <see cref="MaxPackets"/> at a time for at most 30 seconds each; the eldest goes when there are more.
/// Pieces that overlap end the whole packet (RFC 5722).
/// </summary>
internal sealed class Reassembler
{
    public const int MaxPackets = 8;
    private const int MaxLength = 65535;
    private const long Lifetime = 30_000_000_000;
    private readonly Slot[] _slots = new Slot[MaxPackets];

    /// <summary>Packets given up: incomplete, overlapping or too large.</summary>
    public long Dropped { get; private set; }

    /// <summary>Takes a fragment in.</summary>
    /// <returns>Whether the packet is complete in <paramref name="whole"/>, which is valid until the next call.</returns>
    public bool TryAdd(IpEndpoints endpoints, uint identification, byte protocol, int offset, bool hasMore, ReadOnlySpan<byte> data, out ReadOnlySpan<byte> whole)
    {
        whole = default;
        int end = offset + data.Length;
        if (end > MaxLength || data.IsEmpty || (hasMore && (data.Length & 7) != 0))
        {
            Dropped++;
            return false;
        }

        Slot slot = Find(endpoints, identification, protocol);
        if ((slot.Total >= 0 && end > slot.Total) || (!hasMore && (slot.Total >= 0 || slot.Highest > end)) || !slot.TryMark(offset / 8, (end + 7) / 8))
        {
            Dropped++;
            slot.IsUsed = false;
            return false;
        }

        data.CopyTo(slot.Buffer.AsSpan(offset));
        slot.Highest = Math.Max(slot.Highest, end);
        slot.Received += data.Length;
        slot.Total = hasMore ? slot.Total : end;
        if (slot.Received != slot.Total)
        {
            return false;
        }

        slot.IsUsed = false;
        whole = slot.Buffer.AsSpan(0, slot.Total);
        return true;
    }

    private Slot Find(in IpEndpoints endpoints, uint identification, byte protocol)
    {
        long now = HostTime.Nanoseconds;
        int choice = 0;
        for (int i = 0; i < MaxPackets; i++)
        {
            Slot slot = _slots[i] ??= new Slot();
            if (slot.IsUsed && now - slot.Since > Lifetime)
            {
                Dropped++;
                slot.IsUsed = false;
            }

            if (slot.IsUsed && slot.Identification == identification && slot.Protocol == protocol && slot.Endpoints == endpoints)
            {
                return slot;
            }

            Slot chosen = _slots[choice];
            if (chosen.IsUsed && (!slot.IsUsed || slot.Since < chosen.Since))
            {
                choice = i;
            }
        }

        Slot taken = _slots[choice];
        if (taken.IsUsed)
        {
            Dropped++;
        }

        taken.Begin(endpoints, identification, protocol, now);
        return taken;
    }

    private sealed class Slot
    {
        private readonly ulong[] _marks = new ulong[(MaxLength / 8 / 64) + 1];

        public byte[] Buffer { get; } = new byte[MaxLength];

        public bool IsUsed { get; set; }

        public IpEndpoints Endpoints { get; private set; }

        public uint Identification { get; private set; }

        public byte Protocol { get; private set; }

        public long Since { get; private set; }

        public int Total { get; set; }

        public int Highest { get; set; }

        public int Received { get; set; }

        public void Begin(in IpEndpoints endpoints, uint identification, byte protocol, long now)
        {
            (IsUsed, Endpoints, Identification, Protocol, Since) = (true, endpoints, identification, protocol, now);
            (Total, Highest, Received) = (-1, 0, 0);
            Array.Clear(_marks);
        }

        public bool TryMark(int first, int end)
        {
            for (int i = first; i < end; i++)
            {
                if ((_marks[i >> 6] >> (i & 63) & 1) != 0)
                {
                    return false;
                }

                _marks[i >> 6] |= 1UL << (i & 63);
            }

            return true;
        }
    }
}
