using System.Buffers.Binary;
using Tutti.Devices;

namespace Tutti.Virtio.Tests.Pci;

/// <summary>A device that writes what it reads, at once or when the test says so.</summary>
internal sealed class EchoDevice(IDeviceWorker worker) : VirtioDevice
{
    internal const ulong FeatureA = 1 << 0;
    internal const ulong FeatureNeedsA = 1 << 1;
    private readonly byte[] _buffer = new byte[4096];
    private readonly DescriptorChain _chain = new();
    private bool _isResetting;

    public override VirtioDeviceId Id => VirtioDeviceId.Network;

    public override int QueueCount => 2;

    public override ulong DeviceFeatures => FeatureA | FeatureNeedsA;

    public override int ConfigLength => 8;

    public override IDeviceWorker Worker { get; } = worker;

    internal byte[] Config { get; } = [1, 2, 3, 4, 5, 6, 7, 8];

    internal bool Holds { get; set; }

    internal List<DescriptorChain> Held { get; } = [];

    internal ulong? ActiveFeatures { get; private set; }

    internal int Notifications { get; private set; }

    public override ushort MaxQueueSize(int queue) => 64;

    public override void ReadConfig(int offset, Span<byte> data) => Config.AsSpan(offset, data.Length).CopyTo(data);

    public override void WriteConfig(int offset, ReadOnlySpan<byte> data) => data.CopyTo(Config.AsSpan(offset));

    internal void ChangeConfig(byte value)
    {
        lock (Lock)
        {
            Config[0] = value;
            NoteConfigChanged();
        }

        SignalConfigChanged();
    }

    internal void Break() => Fail();

    /// <summary>Ends all that is held.</summary>
    internal void Release(int queue)
    {
        bool signal;
        bool isDone;
        lock (Lock)
        {
            foreach (DescriptorChain chain in Held)
            {
                Answer(chain, Queue(queue));
            }

            Held.Clear();
            signal = Queue(queue).Publish();
            isDone = _isResetting;
            _isResetting = false;
        }

        if (isDone)
        {
            CompleteReset();
        }

        if (signal)
        {
            SignalQueue(queue);
        }
    }

    protected override bool AcceptsFeatures(ulong features) => (features & (FeatureA | FeatureNeedsA)) != FeatureNeedsA;

    protected override void Activate(ulong features) => ActiveFeatures = features;

    protected override bool BeginReset()
    {
        ActiveFeatures = null;
        _isResetting = Held.Count != 0;
        return !_isResetting;
    }

    protected override VirtioOwnState SaveOwn() => new EchoState(BinaryPrimitives.ReadUInt64LittleEndian(Config));

    protected override void RestoreOwn(VirtioOwnState? state) => BinaryPrimitives.WriteUInt64LittleEndian(Config, ((EchoState)state!).Config);

    protected override void OnNotify(int queue)
    {
        Notifications++;
        bool signal;
        lock (Lock)
        {
            Virtqueue ring = Queue(queue);
            ring.DisableNotify();
            do
            {
                while (Take(ring))
                {
                }
            }
            while (ring.EnableNotify());
            signal = ring.Publish();
        }

        if (signal)
        {
            SignalQueue(queue);
        }
    }

    private bool Take(Virtqueue ring)
    {
        DescriptorChain chain = Holds ? new DescriptorChain() : _chain;
        if (!ring.TryPop(chain))
        {
            return false;
        }

        if (Holds)
        {
            Held.Add(chain);
        }
        else
        {
            Answer(chain, ring);
        }

        return true;
    }

    private void Answer(DescriptorChain chain, Virtqueue ring)
    {
        int read = chain.Read(0, _buffer);
        ring.Push(chain, ring.IsReady ? (uint)chain.Write(0, _buffer.AsSpan(0, read)) : 0);
    }

    private sealed record EchoState(ulong Config) : VirtioOwnState;
}
