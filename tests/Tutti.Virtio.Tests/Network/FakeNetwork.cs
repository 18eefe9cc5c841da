using Tutti.Devices;
using Tutti.Devices.Network;

namespace Tutti.Virtio.Tests.Network;

/// <summary>A network that keeps what the guest sends and checks that it makes sense.</summary>
internal sealed class FakeNetwork(IDeviceWorker worker) : INetworkBackend
{
    public List<(byte[] Frame, PacketOffload Offload)>? Sent { get; set; } = [];

    /// <summary>What to do when a frame has come.</summary>
    public Action? OnSend { get; set; }

    public int SentCount { get; private set; }

    public int SendEnds { get; private set; }

    public int ReadyCalls { get; private set; }

    /// <summary>What to do when the guest has room again.</summary>
    public Action? OnReady { get; set; }

    public INetworkReceiver? Card { get; private set; }

    public IDeviceWorker Worker => worker;

    public int Mtu { get; init; } = 1500;

    public PacketOffloads Takes { get; init; } = PacketOffloads.Checksum | PacketOffloads.Tcp4 | PacketOffloads.Tcp6 | PacketOffloads.Ecn;

    public bool IsLinkUp { get; set; } = true;

    public void Attach(INetworkReceiver card) => Card = card;

    public void Detach(INetworkReceiver card)
    {
        Assert.Same(Card, card);
        Card = null;
    }

    public void Send(ReadOnlySpan<byte> frame, in PacketOffload offload)
    {
        Assert.True(frame.Length is >= 14 and <= 65600);
        Assert.True(offload.Segmentation != SegmentationKind.None || frame.Length <= Mtu + 22);
        Assert.True(!offload.NeedsChecksum || offload.ChecksumStart + offload.ChecksumOffset + 2 <= frame.Length);
        SentCount++;
        Sent?.Add((frame.ToArray(), offload));
        OnSend?.Invoke();
    }

    public void EndSend() => SendEnds++;

    public void OnReceiveReady()
    {
        ReadyCalls++;
        OnReady?.Invoke();
    }
}
