namespace Tutti.Devices.Network;

/// <summary>How a frame that is larger than the network's MTU is to be cut into segments.</summary>
public enum SegmentationKind : byte
{
    None,
    Tcp4,
    Tcp6,
    Udp,
}

/// <summary>Work on a frame that its sender left to whoever is next: checksums and segmentation.</summary>
/// <param name="NeedsChecksum">The checksum at <paramref name="ChecksumStart"/> + <paramref name="ChecksumOffset"/> holds the pseudo-header's sum only.</param>
/// <param name="ChecksumStart">Where the sum begins, bytes from the frame's start.</param>
/// <param name="ChecksumOffset">Where the checksum lies, bytes from <paramref name="ChecksumStart"/>.</param>
/// <param name="IsChecksumValid">To the guest only: the checksums have been verified, or the frame never left this process.</param>
/// <param name="Segmentation">What the segments are.</param>
/// <param name="SegmentSize">Payload bytes of each segment.</param>
/// <param name="HeaderLength">Bytes of all headers together, which each segment repeats.</param>
/// <param name="HasEcn">Whether the TCP segments carry ECN's CWR bit.</param>
public readonly record struct PacketOffload(
    bool NeedsChecksum = false,
    ushort ChecksumStart = 0,
    ushort ChecksumOffset = 0,
    bool IsChecksumValid = false,
    SegmentationKind Segmentation = SegmentationKind.None,
    ushort SegmentSize = 0,
    ushort HeaderLength = 0,
    bool HasEcn = false);

/// <summary>What a side can take.</summary>
[Flags]
public enum PacketOffloads
{
    None = 0,

    /// <summary>Frames with <see cref="PacketOffload.NeedsChecksum"/>.</summary>
    Checksum = 1 << 0,

    Tcp4 = 1 << 1,

    Tcp6 = 1 << 2,

    Ecn = 1 << 3,
}

/// <summary>
/// The network that a guest's card is plugged into. All calls but <see cref="Attach"/> and <see cref="Detach"/> come on the thread of the
/// card's <see cref="IDeviceWorker"/>, which is the backend's own. Frames are Ethernet without FCS, from the guest and hostile: copies,
/// so that nobody changes them under way.
/// </summary>
public interface INetworkBackend
{
    /// <summary>The thread that the backend and the card work on.</summary>
    IDeviceWorker Worker { get; }

    /// <summary>The largest payload of a frame that is not segmented, in bytes.</summary>
    int Mtu { get; }

    /// <summary>What <see cref="Send"/> can take from the guest.</summary>
    PacketOffloads Takes { get; }

    /// <summary>Whether the cable is in.</summary>
    bool IsLinkUp { get; }

    /// <summary>Plugs the card in; frames may come from now on. Safe from any thread.</summary>
    void Attach(INetworkReceiver card);

    /// <summary>Pulls the card out; after the return it is called no more. Safe from any thread but under no lock that the card's calls take.</summary>
    void Detach(INetworkReceiver card);

    /// <summary>Takes a frame from the guest, header first, at most 64 KiB and a little; valid during the call only.</summary>
    void Send(ReadOnlySpan<byte> frame, in PacketOffload offload);

    /// <summary>No more frames follow at once.</summary>
    void EndSend();

    /// <summary>After <see cref="INetworkReceiver.TryReceive"/> said no: the guest has room again.</summary>
    void OnReceiveReady();
}

/// <summary>A guest's network card, as its network sees it. Calls come on the worker's thread.</summary>
public interface INetworkReceiver
{
    /// <summary>What <see cref="TryReceive"/> can take, as the guest's driver negotiated it; may change between calls.</summary>
    PacketOffloads Accepts { get; }

    /// <summary>Gives the guest a frame; false when it has no room, and then nothing was taken. A card that is down swallows it.</summary>
    bool TryReceive(ReadOnlySpan<byte> frame, in PacketOffload offload);

    /// <summary>No more frames follow at once: now is the time to interrupt the guest.</summary>
    void EndReceive();

    /// <summary><see cref="INetworkBackend.IsLinkUp"/> has changed; the guest is told.</summary>
    void OnLinkChanged();
}
