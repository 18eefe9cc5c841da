using System.Buffers.Binary;
using Tutti.Virtio.Block;
using static Tutti.Virtio.Block.VirtioBlockLayout;

namespace Tutti.Virtio.Tests.Block;

/// <summary>A virtio disk of 1 MiB over an array, with its driver.</summary>
internal sealed class BlockBench
{
    public const int DiskSize = 1 << 20;
    public const ulong Header = TestDriver.Data;
    public const ulong Status = TestDriver.Data + 0x200;
    public const ulong Bytes = TestDriver.Data + 0x1000;
    public const byte NoStatus = 0xEE;

    public const ulong AllFeatures = FeatureSegMax | FeatureBlkSize | FeatureFlush | FeatureTopology | FeatureConfigWce | FeatureDiscard | FeatureWriteZeroes;

    public BlockBench(MemoryBlockBackend? disk = null, ulong features = AllFeatures, int queues = 1, int queueSize = 16, ulong ringFeatures = VirtioFeatures.IndirectDesc)
    {
        Disk = disk ?? new MemoryBlockBackend(DiskSize);
        new Random(3).NextBytes(Disk.Bytes);
        Device = new VirtioBlock(Disk, Worker, "disk-7", queues);
        Driver = new TestDriver(Device, features & Device.DeviceFeatures, queueSize, ringFeatures);
        Worker.Run();
    }

    public MemoryBlockBackend Disk { get; }

    public ManualWorker Worker { get; } = new();

    public VirtioBlock Device { get; }

    public TestDriver Driver { get; }

    public TestRing Ring => Driver[0];

    public Span<byte> Ram(ulong address, int length) => Driver.Ram.Slice((int)address, length);

    public byte StatusByte => Ram(Status, 1)[0];

    public void WriteHeader(uint type, ulong sector, ulong at = Header)
    {
        Span<byte> header = Ram(at, RequestHeaderSize);
        BinaryPrimitives.WriteUInt32LittleEndian(header, type);
        BinaryPrimitives.WriteUInt64LittleEndian(header[RequestSector..], sector);
        Ram(Status, 1)[0] = NoStatus;
    }

    /// <summary>Posts a request of header, data and status, runs the worker, and gives the status.</summary>
    public byte Do(uint type, ulong sector, int length)
    {
        Post(type, sector, length);
        Worker.Run();
        Assert.True(Ring.TryTake(out _, out _));
        return StatusByte;
    }

    public void Post(uint type, ulong sector, int length)
    {
        WriteHeader(type, sector);
        TestBuffer header = new(Header, RequestHeaderSize, false);
        TestBuffer status = new(Status, 1, true);
        bool isRead = type is TypeIn or TypeGetId;
        if (length == 0)
        {
            Ring.Post(header, status);
        }
        else
        {
            Ring.Post(header, new TestBuffer(Bytes, length, isRead), status);
        }

        Ring.Notify();
    }

    /// <summary>A DISCARD or WRITE_ZEROES of ranges.</summary>
    public byte DoRanges(uint type, params (ulong Sector, uint Count, uint Flags)[] ranges)
    {
        for (int i = 0; i < ranges.Length; i++)
        {
            Span<byte> range = Ram(Bytes + (ulong)(i * RangeSize), RangeSize);
            BinaryPrimitives.WriteUInt64LittleEndian(range, ranges[i].Sector);
            BinaryPrimitives.WriteUInt32LittleEndian(range[RangeNumSectors..], ranges[i].Count);
            BinaryPrimitives.WriteUInt32LittleEndian(range[RangeFlags..], ranges[i].Flags);
        }

        return Do(type, 0, ranges.Length * RangeSize);
    }
}
