using System.Buffers.Binary;
using Tutti.Devices.Network;
using static Tutti.Virtio.Network.VirtioNetLayout;

namespace Tutti.Virtio.Network;

/// <summary>State of the receive filter; the tables hold <see cref="MacAddress.Value"/>s.</summary>
public sealed record ReceiveFilterState(ulong Mac, byte Modes, bool HasTables, ulong[] Unicast, ulong[] Multicast, bool AllTableUnicast, bool AllTableMulticast);

/// <summary>Which frames the guest wants, as its driver set it. The caller holds the device's lock. Source: Virtual I/O Device 1.2, 5.1.6.5.</summary>
internal sealed class ReceiveFilter
{
    /// <summary>Addresses that each table holds; the guest that wants more gets all frames of the kind.</summary>
    internal const int TableSize = 64;

    private readonly ulong[] _unicast = new ulong[TableSize];
    private readonly ulong[] _multicast = new ulong[TableSize];
    private int _unicastCount;
    private int _multicastCount;

    // More addresses than the table holds.
    private bool _allTableUnicast;
    private bool _allTableMulticast;
    private bool _hasTables;
    private byte _modes;

    /// <summary>The card's address.</summary>
    internal MacAddress Mac { get; set; }

    private bool IsOn(int mode) => (_modes & (1 << mode)) != 0;

    /// <summary>As after power-on.</summary>
    /// <param name="mac">The card's address.</param>
    /// <param name="isPromiscuous">For drivers that cannot say what they want.</param>
    internal void Reset(MacAddress mac, bool isPromiscuous)
    {
        Mac = mac;
        _modes = isPromiscuous ? (byte)(1 << RxPromisc) : (byte)0;
        _hasTables = false;
        _unicastCount = 0;
        _multicastCount = 0;
        _allTableUnicast = false;
        _allTableMulticast = false;
    }

    /// <summary>Whether the guest wants the frame, 6 bytes or more.</summary>
    internal bool Passes(ReadOnlySpan<byte> frame)
    {
        if (IsOn(RxPromisc))
        {
            return true;
        }

        MacAddress to = MacAddress.Read(frame);
        if (to == MacAddress.Broadcast)
        {
            return !IsOn(RxNoBcast);
        }

        if (to.IsMulticast)
        {
            // A driver that never set tables has no other way to say which groups it is in.
            return !IsOn(RxNoMulti)
                && (IsOn(RxAllMulti) || !_hasTables || _allTableMulticast || _multicast.AsSpan(0, _multicastCount).Contains(to.Value));
        }

        return !IsOn(RxNoUni)
            && (IsOn(RxAllUni) || _allTableUnicast || to == Mac || _unicast.AsSpan(0, _unicastCount).Contains(to.Value));
    }

    /// <summary>A command of VIRTIO_NET_CTRL_RX.</summary>
    /// <param name="command">Which mode.</param>
    /// <param name="data">The command's data: one byte, on or off.</param>
    /// <param name="hasExtraModes">Whether CTRL_RX_EXTRA was negotiated.</param>
    /// <returns>False for a command that is none.</returns>
    internal bool TrySetMode(byte command, ReadOnlySpan<byte> data, bool hasExtraModes)
    {
        if (command > (hasExtraModes ? RxNoBcast : RxAllMulti) || data.Length != 1 || data[0] > 1)
        {
            return false;
        }

        _modes = (byte)((_modes & ~(1 << command)) | (data[0] << command));
        return true;
    }

    /// <summary>VIRTIO_NET_CTRL_MAC_TABLE_SET: a table of unicast addresses and one of multicast ones, each behind its count.</summary>
    internal bool TrySetTables(ReadOnlySpan<byte> data)
    {
        if (!TryReadTable(data, out ReadOnlySpan<byte> unicast, out data) || !TryReadTable(data, out ReadOnlySpan<byte> multicast, out data) || data.Length != 0)
        {
            return false;
        }

        _allTableUnicast = !TryFill(_unicast, unicast, out _unicastCount);
        _allTableMulticast = !TryFill(_multicast, multicast, out _multicastCount);
        _hasTables = true;
        return true;
    }

    /// <summary>VIRTIO_NET_CTRL_MAC_ADDR_SET.</summary>
    internal bool TrySetMac(ReadOnlySpan<byte> data)
    {
        if (data.Length != MacAddress.Size || MacAddress.Read(data).IsMulticast)
        {
            return false;
        }

        Mac = MacAddress.Read(data);
        return true;
    }

    private static bool TryReadTable(ReadOnlySpan<byte> data, out ReadOnlySpan<byte> table, out ReadOnlySpan<byte> rest)
    {
        table = default;
        rest = default;
        if (data.Length < sizeof(uint))
        {
            return false;
        }

        long length = (long)BinaryPrimitives.ReadUInt32LittleEndian(data) * MacAddress.Size;
        if (length > data.Length - sizeof(uint))
        {
            return false;
        }

        table = data.Slice(sizeof(uint), (int)length);
        rest = data[(sizeof(uint) + (int)length)..];
        return true;
    }

    private static bool TryFill(ulong[] table, ReadOnlySpan<byte> from, out int count)
    {
        count = 0;
        if (from.Length > table.Length * MacAddress.Size)
        {
            return false;
        }

        for (; from.Length != 0; from = from[MacAddress.Size..])
        {
            table[count++] = MacAddress.Read(from).Value;
        }

        return true;
    }

    internal ReceiveFilterState Save() => new(
        Mac.Value, _modes, _hasTables, _unicast[.._unicastCount], _multicast[.._multicastCount], _allTableUnicast, _allTableMulticast);

    internal void Restore(ReceiveFilterState state)
    {
        Mac = new MacAddress(state.Mac);
        _modes = (byte)(state.Modes & ((1 << (RxNoBcast + 1)) - 1));
        _hasTables = state.HasTables;
        _unicastCount = RestoreTable(_unicast, state.Unicast);
        _multicastCount = RestoreTable(_multicast, state.Multicast);
        _allTableUnicast = state.AllTableUnicast || state.Unicast.Length > TableSize;
        _allTableMulticast = state.AllTableMulticast || state.Multicast.Length > TableSize;
    }

    private static int RestoreTable(ulong[] table, ulong[] from)
    {
        int count = Math.Min(table.Length, from.Length);
        from.AsSpan(0, count).CopyTo(table);
        return count;
    }
}
