using Tutti.Devices.Network;
using Tutti.Network.Tap;

namespace Tutti.Network.Tests.Tap;

/// <summary>Plugged into one network as a guest's card is, gives all to another one.</summary>
internal sealed class Wire(TapNetwork from, TapNetwork to) : INetworkReceiver
{
    private int _accepts;
    private int _tries;
    private long _allocated;

    public PacketOffloads Accepts
    {
        get => (PacketOffloads)Volatile.Read(ref _accepts);
        set => Volatile.Write(ref _accepts, (int)value);
    }

    /// <summary>Says no to one of so many frames, and a moment later that there is room; 0 for never.</summary>
    public int RefusesEach { get; set; }

    public int Refused { get; private set; }

    public int Given { get; private set; }

    public int Unfinished { get; private set; }

    public int Segmented4 { get; private set; }

    public int Segmented6 { get; private set; }

    public int Largest { get; private set; }

    public bool IsPulled { get; private set; }

    public bool TryReceive(ReadOnlySpan<byte> frame, in PacketOffload offload)
    {
        if (RefusesEach > 0 && ++_tries % RefusesEach == 0)
        {
            Refused++;
            ((Workers.EventLoop)from.Worker).Post(from.OnReceiveReady);
            return false;
        }

        Given++;
        Unfinished += offload.NeedsChecksum ? 1 : 0;
        Segmented4 += offload.Segmentation == SegmentationKind.Tcp4 ? 1 : 0;
        Segmented6 += offload.Segmentation == SegmentationKind.Tcp6 ? 1 : 0;
        Largest = Math.Max(Largest, frame.Length);
        to.Send(frame, offload);
        return true;
    }

    public void EndReceive()
    {
    }

    public void OnLinkChanged() => IsPulled = !from.IsLinkUp;

    /// <summary>Counts from here on what the network's thread allocates.</summary>
    public void Measure() => ((Workers.EventLoop)from.Worker).Run(() => (_allocated, Given) = (GC.GetAllocatedBytesForCurrentThread(), 0));

    public long Allocated()
    {
        ((Workers.EventLoop)from.Worker).Run(() => _allocated = GC.GetAllocatedBytesForCurrentThread() - _allocated);
        return _allocated;
    }
}
