using Tutti.Devices.Network;
using Tutti.Network.Ip;

namespace Tutti.Network.Tcp;

/// <summary>The TCP side of a user network. All calls come on the network's loop.</summary>
internal interface ITcpNat : IDisposable
{
    /// <summary>
    /// A segment from the guest. Addresses are checked (the source is one that a guest may have, the destination is not yet held against the
    /// <see cref="ReachPolicy"/>); the checksum is right or waived by <paramref name="offload"/>. Bytes are valid during the call only.
    /// </summary>
    /// <param name="endpoints">From the guest's point of view: the source is the guest.</param>
    /// <param name="segment">TCP header and payload, at least 20 bytes; the header's length field and ports are not checked.</param>
    /// <param name="offload">As the card gave it; its offsets count from the frame's start.</param>
    void OnSegment(in IpEndpoints endpoints, ReadOnlySpan<byte> segment, in PacketOffload offload);

    /// <summary>The guest has given all that it had: acknowledge now what was put off.</summary>
    void OnSendEnded();

    /// <summary>After <see cref="IIpOutput.SendTcp"/> said no: there is room again.</summary>
    void OnReceiveReady();

    /// <summary>The card was unplugged or the link went down or up: nothing need be done, connections live on.</summary>
    void OnLinkChanged(bool isUp);
}
