using System.Buffers.Binary;
using System.Numerics;
using System.Text;
using Tutti.Devices;
using Tutti.Devices.Block;
using static Tutti.Virtio.Block.VirtioBlockLayout;

namespace Tutti.Virtio.Block;

/// <summary>State of a disk beside its queues.</summary>
/// <param name="IsWriteback">Whether writes may end before they are on stable storage.</param>
public sealed record VirtioBlockState(bool IsWriteback) : VirtioOwnState;

/// <summary>
/// The virtio disk. Requests go to the backend without a copy: its segments are the guest's own buffers. Source: Virtual I/O Device 1.2, 5.2.
/// </summary>
public sealed partial class VirtioBlock : VirtioDevice, IBlockCompletion
{
    /// <summary>The most queues.</summary>
    public const int MaxQueues = 64;

    /// <summary>Bytes of the serial number that the guest is told.</summary>
    public const int MaxSerialLength = IdSize;

    /// <summary>The most ranges that a DISCARD or WRITE_ZEROES names.</summary>
    internal const int MaxRanges = 16;

    private const int QueueSize = 256;

    // Requests that are taken out of a queue under one hold of the lock.
    private const int BatchSize = 64;

    // After as many batches the worker does its other work first.
    private const int MaxBatches = 8;

    // The longest read or write. A hostile chain can name the same buffer many times; what Linux sends is a few MiB.
    private const long MaxTransferBytes = 1L << 30;

    // Of a range of DISCARD or WRITE_ZEROES: 1 GiB, so that one request doesn't keep the host busy for long.
    private const uint MaxRangeSectors = 1u << (30 - SectorShift);

    private readonly IBlockBackend _backend;
    private readonly IDeviceWorker _worker;
    private readonly IDoorbell _resume;
    private readonly byte[] _id = new byte[IdSize];
    private readonly BlockQueue[] _queues;
    private readonly VirtioBlockRequest[] _batch = new VirtioBlockRequest[BatchSize];
    private readonly bool _isReadOnly;
    private readonly bool _canDiscard;

    // Sectors. Written under the lock.
    private ulong _capacity;
    private bool _isWriteback = true;
    private int _underWay;
    private bool _isResetting;
    private bool _mustKick;

    /// <param name="backend">Where the bytes are. Whoever made it disposes of it, after this device.</param>
    /// <param name="worker">The thread that takes requests out of the queues.</param>
    /// <param name="serial">What the guest is told as serial number, at most <see cref="MaxSerialLength"/> bytes of ASCII.</param>
    /// <param name="queueCount">Queues, 1 to <see cref="MaxQueues"/>; best one for each vCPU.</param>
    /// <exception cref="ArgumentException">The serial number does not fit.</exception>
    public VirtioBlock(IBlockBackend backend, IDeviceWorker worker, string serial, int queueCount = 1)
    {
        ArgumentNullException.ThrowIfNull(backend);
        ArgumentNullException.ThrowIfNull(worker);
        ArgumentNullException.ThrowIfNull(serial);
        ArgumentOutOfRangeException.ThrowIfLessThan(queueCount, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(queueCount, MaxQueues);
        if (serial.Length > IdSize || !Ascii.IsValid(serial))
        {
            throw new ArgumentException($"The serial number '{serial}' of a disk is at most {IdSize} characters of ASCII.", nameof(serial));
        }

        Encoding.ASCII.GetBytes(serial, _id);
        _backend = backend;
        _worker = worker;
        _capacity = (ulong)backend.Size >> SectorShift;
        _isReadOnly = backend.IsReadOnly;
        _canDiscard = backend.CanDiscard;
        _queues = new BlockQueue[queueCount];
        for (int i = 0; i < queueCount; i++)
        {
            _queues[i] = new BlockQueue(i, QueueSize, this);
        }

        _resume = worker.AddDoorbell(Resume);
    }

    public override VirtioDeviceId Id => VirtioDeviceId.Block;

    public override int QueueCount => _queues.Length;

    public override ushort MaxQueueSize(int queue) => QueueSize;

    public override IDeviceWorker Worker => _worker;

    public override ulong DeviceFeatures =>
        FeatureSegMax | FeatureBlkSize | FeatureFlush | FeatureTopology | FeatureConfigWce
        | (_queues.Length > 1 ? FeatureMq : 0)
        | (_isReadOnly ? FeatureReadOnly : FeatureWriteZeroes | (_canDiscard ? FeatureDiscard : 0));

    public override int ConfigLength => ConfigSize;

    /// <summary>Requests that the backend has, or that are just being taken from a queue.</summary>
    public int RequestsUnderWay
    {
        get
        {
            lock (Lock)
            {
                return _underWay;
            }
        }
    }

    /// <summary>Tells the guest that the backend's size has grown.</summary>
    public void OnSizeChanged()
    {
        lock (Lock)
        {
            _capacity = (ulong)_backend.Size >> SectorShift;
            NoteConfigChanged();
        }

        SignalConfigChanged();
    }

    public override void ReadConfig(int offset, Span<byte> data)
    {
        Span<byte> config = stackalloc byte[ConfigSize];
        config.Clear();
        uint alignment = Math.Max(1u, (uint)_backend.DiscardGranularity >> SectorShift);
        int physical = Math.Max(SectorSize, _backend.PhysicalBlockSize);
        BinaryPrimitives.WriteUInt64LittleEndian(config[Capacity..], _capacity);

        // Header and status have descriptors of their own in what drivers build.
        BinaryPrimitives.WriteUInt32LittleEndian(config[SegMax..], QueueSize - 2);
        BinaryPrimitives.WriteUInt32LittleEndian(config[BlkSize..], SectorSize);
        config[PhysicalBlockExp] = (byte)BitOperations.Log2((uint)physical >> SectorShift);
        BinaryPrimitives.WriteUInt16LittleEndian(config[MinIoSize..], (ushort)(physical >> SectorShift));
        config[Writeback] = _isWriteback ? (byte)1 : (byte)0;
        BinaryPrimitives.WriteUInt16LittleEndian(config[NumQueues..], (ushort)_queues.Length);
        if (!_isReadOnly)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(config[MaxDiscardSectors..], _canDiscard ? MaxRangeSectors : 0);
            BinaryPrimitives.WriteUInt32LittleEndian(config[MaxDiscardSeg..], _canDiscard ? (uint)MaxRanges : 0);
            BinaryPrimitives.WriteUInt32LittleEndian(config[DiscardSectorAlignment..], _canDiscard ? alignment : 0);
            BinaryPrimitives.WriteUInt32LittleEndian(config[MaxWriteZeroesSectors..], MaxRangeSectors);
            BinaryPrimitives.WriteUInt32LittleEndian(config[MaxWriteZeroesSeg..], MaxRanges);
            config[WriteZeroesMayUnmap] = _canDiscard ? (byte)1 : (byte)0;
        }

        data.Clear();
        if (offset < ConfigSize)
        {
            ReadOnlySpan<byte> part = config[offset..];
            part[..Math.Min(part.Length, data.Length)].CopyTo(data);
        }
    }

    public override void WriteConfig(int offset, ReadOnlySpan<byte> data)
    {
        if ((Features & FeatureConfigWce) != 0 && offset <= Writeback && offset + data.Length > Writeback)
        {
            _isWriteback = (data[Writeback - offset] & 1) != 0;
        }
    }
    public override void Dispose()
    {
        base.Dispose();
        _resume.Dispose();
    }

    protected override bool AcceptsFeatures(ulong features)
    {
        // Without FLUSH the driver can't ask for what it wrote to be kept. It may read the configuration from now on.
        _isWriteback = (features & FeatureFlush) != 0;
        return true;
    }

    protected override void Activate(ulong features)
    {
    }

    protected override VirtioOwnState SaveOwn() => new VirtioBlockState(_isWriteback);

    protected override void RestoreOwn(VirtioOwnState? state) => _isWriteback = state switch
    {
        VirtioBlockState ours => ours.IsWriteback,
        null => true,
        _ => throw new ArgumentException("The state is another kind of device's.", nameof(state)),
    };

    protected override bool BeginReset()
    {
        _isResetting = _underWay != 0;
        if (!_isResetting)
        {
            ForgetQueues();
        }

        return !_isResetting;
    }

    private void ForgetQueues()
    {
        _isResetting = false;
        _isWriteback = true;
        foreach (BlockQueue queue in _queues)
        {
            queue.HasUnpublished = false;
            queue.IsWaiting = false;
        }
    }
}
