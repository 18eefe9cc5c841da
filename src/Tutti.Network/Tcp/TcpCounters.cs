namespace Tutti.Network.Tcp;

/// <summary>What the TCP side has done since its start.</summary>
public sealed class TcpCounters
{
    /// <summary>Connections that the guest has opened.</summary>
    public long Opened { get; internal set; }

    /// <summary>Connections to published ports.</summary>
    public long Accepted { get; internal set; }

    /// <summary>Connections now, those that are half open or in TIME_WAIT among them.</summary>
    public int Connections { get; internal set; }

    /// <summary>Most connections at a time so far.</summary>
    public int Most { get; internal set; }

    /// <summary>Connections of the guest's that the destination, or the policy, refused.</summary>
    public long Refused { get; internal set; }

    /// <summary>SYNs that found no room: table, half-open connections or the process's descriptors.</summary>
    public long Overflows { get; internal set; }

    /// <summary>Connections that a side has reset.</summary>
    public long Resets { get; internal set; }

    /// <summary>Frames sent to the guest again.</summary>
    public long Retransmits { get; internal set; }

    /// <summary>Segments of the guest's that were no use: malformed, out of window, or without a connection.</summary>
    public long Drops { get; internal set; }

    /// <summary>Payload bytes from the guest that were accepted.</summary>
    public long BytesFromGuest { get; internal set; }

    /// <summary>Payload bytes that the guest has acknowledged.</summary>
    public long BytesToGuest { get; internal set; }
}
