using System.Buffers.Binary;
using System.Text;
using Tutti.Devices.Block;
using static Tutti.Virtio.Block.VirtioBlockLayout;

namespace Tutti.Virtio.Tests.Block;

public sealed class VirtioBlockTests
{
    [Fact]
    public void What_is_written_is_on_the_disk_and_reads_back()
    {
        BlockBench bench = new();
        new Random(1).NextBytes(bench.Ram(BlockBench.Bytes, 8192));
        byte[] written = bench.Ram(BlockBench.Bytes, 8192).ToArray();
        Assert.Equal(StatusOk, bench.Do(TypeOut, 5, 8192));
        Assert.Equal(written, bench.Disk.Bytes.AsSpan(5 * 512, 8192).ToArray());
        bench.Ram(BlockBench.Bytes, 8192).Clear();
        Assert.Equal(StatusOk, bench.Do(TypeIn, 5, 8192));
        Assert.Equal(written, bench.Ram(BlockBench.Bytes, 8192).ToArray());
        Assert.Equal(2, bench.Driver.Signals[0]);
        Assert.Equal(0, bench.Device.RequestsUnderWay);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(16)]
    [InlineData(333)]
    public void Header_data_and_status_may_lie_in_any_segments(int cut)
    {
        // Header and data to write are cut without regard to each other; so are data to read and status.
        BlockBench bench = new(queueSize: 256);
        const int Length = 1024;
        ulong table = TestDriver.Data + 0x10_0000;
        bench.WriteHeader(TypeOut, 3, BlockBench.Bytes);
        new Random(1).NextBytes(bench.Ram(BlockBench.Bytes + RequestHeaderSize, Length));
        byte[] data = bench.Ram(BlockBench.Bytes + RequestHeaderSize, Length).ToArray();
        int step = Math.Max(cut, 5);
        bench.Ring.PostIndirect(table, [.. Cut(BlockBench.Bytes, RequestHeaderSize + Length, step, false), new TestBuffer(BlockBench.Status, 1, true)]);
        bench.Ring.Notify();
        bench.Worker.Run();
        Assert.Equal(StatusOk, bench.StatusByte);
        Assert.Equal(data, bench.Disk.Bytes.AsSpan(3 * 512, Length).ToArray());

        bench.WriteHeader(TypeIn, 3);
        ulong to = TestDriver.Data + 0x20_0000;
        bench.Ring.PostIndirect(table, [.. Cut(BlockBench.Header, RequestHeaderSize, Math.Min(cut, 16), false), .. Cut(to, Length + 1, step, true)]);
        bench.Ring.Notify();
        bench.Worker.Run();
        Assert.Equal(data, bench.Ram(to, Length).ToArray());
        Assert.Equal(StatusOk, bench.Ram(to + Length, 1)[0]);
    }

    [Fact]
    public void A_request_of_many_megabytes_is_one_request()
    {
        BlockBench bench = new(new MemoryBlockBackend(16 << 20));
        Assert.Equal(StatusOk, bench.Do(TypeIn, 1, 12 << 20));
        Assert.Equal([(BlockOperation.Read, 512L, 12L << 20, false)], bench.Disk.Log!);
        Assert.True(bench.Ram(BlockBench.Bytes, 12 << 20).SequenceEqual(bench.Disk.Bytes.AsSpan(512, 12 << 20)));
    }

    [Theory]
    [InlineData(2047UL, 512, StatusOk)]
    [InlineData(2047UL, 1024, StatusIoErr)]
    [InlineData(2048UL, 512, StatusIoErr)]
    [InlineData(2048UL, 0, StatusOk)]
    [InlineData(2049UL, 0, StatusIoErr)]
    [InlineData(ulong.MaxValue, 512, StatusIoErr)]
    [InlineData(ulong.MaxValue >> 9, 1024, StatusIoErr)]
    [InlineData(1UL << 55, 512, StatusIoErr)]
    [InlineData(0UL, 511, StatusIoErr)]
    [InlineData(0UL, 513, StatusIoErr)]
    public void Reads_and_writes_keep_to_the_disk_and_to_whole_sectors(ulong sector, int length, byte status)
    {
        BlockBench bench = new();
        Assert.Equal(status, bench.Do(TypeIn, sector, length));
        Assert.Equal(status, bench.Do(TypeOut, sector, length));
    }

    [Fact]
    public void Get_id_answers_the_serial_number_padded_with_zeroes()
    {
        BlockBench bench = new();
        bench.Ram(BlockBench.Bytes, 32).Fill(0xFF);
        Assert.Equal(StatusOk, bench.Do(TypeGetId, 0, 20));
        Assert.Equal("disk-7" + new string('\0', 14) + "?", Encoding.ASCII.GetString(bench.Ram(BlockBench.Bytes, 21)));
        bench.Ram(BlockBench.Bytes, 32).Fill(0xFF);
        Assert.Equal(StatusOk, bench.Do(TypeGetId, 0, 4));
        Assert.Equal("disk?", Encoding.ASCII.GetString(bench.Ram(BlockBench.Bytes, 5)));
    }

    [Theory]
    [InlineData(2)]
    [InlineData(5)]
    [InlineData(12)]
    [InlineData(0x8000_0000)]
    [InlineData(uint.MaxValue)]
    public void An_unknown_type_is_unsupported(uint type) => Assert.Equal(StatusUnsupp, new BlockBench().Do(type, 0, 512));

    [Fact]
    public void A_header_that_is_too_short_is_an_error_and_no_status_byte_no_answer()
    {
        BlockBench bench = new();
        bench.WriteHeader(TypeIn, 0);
        bench.Ring.Post(new TestBuffer(BlockBench.Header, 15, false), new TestBuffer(BlockBench.Status, 1, true));
        bench.Ring.Post(new TestBuffer(BlockBench.Header, 16, false));
        bench.Ring.Notify();
        bench.Worker.Run();
        Assert.Equal(StatusIoErr, bench.StatusByte);
        Assert.True(bench.Ring.TryTake(out _, out int written));
        Assert.Equal(1, written);
        Assert.True(bench.Ring.TryTake(out _, out written));
        Assert.Equal(0, written);
        Assert.Empty(bench.Disk.Log!);
    }

    [Theory]
    [InlineData(BlockStatus.IoError, StatusIoErr)]
    [InlineData(BlockStatus.Unsupported, StatusUnsupp)]
    public void An_error_of_the_backend_reaches_the_guest(BlockStatus answer, byte status)
    {
        BlockBench bench = new();
        bench.Disk.Answer = answer;
        Assert.Equal(status, bench.Do(TypeIn, 0, 512));
        Assert.Equal(status, bench.Do(TypeOut, 0, 512));
        Assert.Equal(status, bench.Do(TypeFlush, 0, 0));
        Assert.Equal(status, bench.DoRanges(TypeDiscard, (0, 1, 0), (1, 1, 0)));
        Assert.Equal(4, bench.Disk.Log!.Count);
    }

    [Fact]
    public void A_read_only_disk_refuses_what_changes_it()
    {
        BlockBench bench = new(new MemoryBlockBackend(BlockBench.DiskSize) { IsReadOnly = true });
        Assert.Equal(FeatureReadOnly, bench.Device.DeviceFeatures & (FeatureReadOnly | FeatureDiscard | FeatureWriteZeroes));
        Assert.Equal(StatusIoErr, bench.Do(TypeOut, 0, 512));
        Assert.Equal(StatusIoErr, bench.DoRanges(TypeDiscard, (0, 8, 0)));
        Assert.Equal(StatusIoErr, bench.DoRanges(TypeWriteZeroes, (0, 8, 0)));
        Assert.Empty(bench.Disk.Log!);
        Assert.Equal(StatusOk, bench.Do(TypeIn, 0, 512));
    }

    [Fact]
    public void Ranges_are_done_one_after_the_other()
    {
        BlockBench bench = new();
        Assert.Equal(StatusOk, bench.DoRanges(TypeWriteZeroes, (8, 8, 1), (0, 0, 0), (64, 1, 0)));
        Assert.Equal(StatusOk, bench.DoRanges(TypeDiscard, [.. Enumerable.Range(0, 16).Select(i => ((ulong)i * 10, 1u, 0u))]));
        Assert.Equal([(BlockOperation.WriteZeroes, 4096L, 4096L, true), (BlockOperation.WriteZeroes, 32768L, 512L, false)], bench.Disk.Log!.Take(2));
        Assert.Equal(18, bench.Disk.Log!.Count);
        Assert.Equal((BlockOperation.Discard, 150L * 512, 512L, false), bench.Disk.Log[17]);
        Assert.Equal(StatusOk, bench.DoRanges(TypeDiscard, (5, 0, 0)));
        Assert.Equal(18, bench.Disk.Log.Count);
    }

    [Theory]
    [InlineData(TypeDiscard, 0, 1, 1, StatusUnsupp)]
    [InlineData(TypeDiscard, 0, 1, 2, StatusUnsupp)]
    [InlineData(TypeWriteZeroes, 0, 1, 2, StatusUnsupp)]
    [InlineData(TypeWriteZeroes, 0, 1, 0x8000_0001, StatusUnsupp)]
    [InlineData(TypeDiscard, 2048, 1, 0, StatusIoErr)]
    [InlineData(TypeDiscard, 2040, 9, 0, StatusIoErr)]
    [InlineData(TypeWriteZeroes, ulong.MaxValue, 2, 0, StatusIoErr)]
    [InlineData(TypeWriteZeroes, 0, uint.MaxValue, 0, StatusIoErr)]
    public void One_bad_range_refuses_the_request_before_it_begins(uint type, ulong sector, uint count, uint flags, byte status)
    {
        BlockBench bench = new();
        Assert.Equal(status, bench.DoRanges(type, (0, 1, 0), (sector, count, flags)));
        Assert.Empty(bench.Disk.Log!);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(15)]
    [InlineData(17)]
    [InlineData(17 * 16)]
    public void A_list_of_ranges_is_whole_and_not_too_long(int length)
    {
        BlockBench bench = new();
        Assert.Equal(StatusIoErr, bench.Do(TypeDiscard, 0, length));
        Assert.Empty(bench.Disk.Log!);
    }

    [Fact]
    public void Without_discards_in_the_backend_there_is_none()
    {
        BlockBench bench = new(new MemoryBlockBackend(BlockBench.DiskSize) { CanDiscard = false });
        Assert.Equal(FeatureWriteZeroes, bench.Device.DeviceFeatures & (FeatureDiscard | FeatureWriteZeroes));
        Assert.Equal(StatusUnsupp, bench.DoRanges(TypeDiscard, (0, 8, 0)));
        byte[] config = bench.Driver.ReadConfig();
        Assert.Equal(0, config[WriteZeroesMayUnmap]);
        Assert.Equal(0, config[MaxDiscardSeg]);
    }

    [Fact]
    public void The_configuration_tells_of_the_disk()
    {
        BlockBench bench = new(queues: 3);
        byte[] config = bench.Driver.ReadConfig();
        Assert.Equal(2048UL, BinaryPrimitives.ReadUInt64LittleEndian(config));
        Assert.Equal(254, config[SegMax]);
        Assert.Equal(512, BinaryPrimitives.ReadInt32LittleEndian(config.AsSpan(BlkSize)));
        Assert.Equal(3, config[PhysicalBlockExp]);
        Assert.Equal(8, config[MinIoSize]);
        Assert.Equal(1, config[Writeback]);
        Assert.Equal(3, config[NumQueues]);
        Assert.Equal(128, BinaryPrimitives.ReadInt32LittleEndian(config.AsSpan(DiscardSectorAlignment)));
        Assert.Equal(16, config[MaxDiscardSeg]);
        Assert.NotEqual(0UL, bench.Device.DeviceFeatures & FeatureMq);
        byte[] part = new byte[2];
        bench.Driver.Device.ReadDeviceConfig(NumQueues, part);
        Assert.Equal([3, 0], part);
    }

    [Fact]
    public void Growth_of_the_backend_interrupts_and_is_usable()
    {
        BlockBench bench = new();
        Assert.Equal(StatusIoErr, bench.Do(TypeIn, 2048, 512));
        byte generation = bench.Device.ConfigGeneration;
        bench.Disk.Grow(2 * BlockBench.DiskSize);
        bench.Device.OnSizeChanged();
        Assert.Equal(1, bench.Driver.ConfigSignals);
        Assert.NotEqual(generation, bench.Device.ConfigGeneration);
        Assert.Equal(4096UL, BinaryPrimitives.ReadUInt64LittleEndian(bench.Driver.ReadConfig()));
        Assert.Equal(StatusOk, bench.Do(TypeIn, 2048, 512));
    }

    [Fact]
    public void A_write_through_cache_flushes_after_each_change()
    {
        BlockBench bench = new();
        bench.Do(TypeOut, 0, 512);
        bench.Driver.Device.WriteDeviceConfig(Writeback, [0]);
        Assert.Equal(0, bench.Driver.ReadConfig()[Writeback]);
        bench.Do(TypeOut, 0, 512);
        bench.DoRanges(TypeWriteZeroes, (0, 1, 0), (1, 1, 0));
        bench.Do(TypeIn, 0, 512);
        bench.Driver.Device.WriteDeviceConfig(Writeback, [1]);
        bench.Do(TypeOut, 0, 512);
        BlockOperation[] expected =
        [
            BlockOperation.Write, BlockOperation.Write, BlockOperation.Flush, BlockOperation.WriteZeroes, BlockOperation.WriteZeroes,
            BlockOperation.Flush, BlockOperation.Read, BlockOperation.Write,
        ];
        Assert.Equal(expected, bench.Disk.Log!.Select(entry => entry.Operation));
    }

    [Fact]
    public void A_driver_without_flush_gets_a_write_through_cache_until_it_resets()
    {
        BlockBench bench = new(features: BlockBench.AllFeatures & ~(FeatureFlush | FeatureConfigWce));
        bench.Device.WriteDeviceConfig(Writeback, [1]);
        bench.Do(TypeOut, 0, 512);
        Assert.Equal([BlockOperation.Write, BlockOperation.Flush], bench.Disk.Log!.Select(entry => entry.Operation));
        bench.Driver.Reset();
        Assert.Equal(1, bench.Driver.ReadConfig()[Writeback]);
    }

    [Theory]
    [InlineData(129)]
    [InlineData(21)]
    public void A_serial_number_that_does_not_fit_is_refused(int length) =>
        Assert.Throws<ArgumentException>(() => new Tutti.Virtio.Block.VirtioBlock(new MemoryBlockBackend(512), new ManualWorker(), new string('a', length)));

    private static IEnumerable<TestBuffer> Cut(ulong address, int length, int step, bool isWritable)
    {
        for (int at = 0; at < length; at += step)
        {
            yield return new TestBuffer(address + (ulong)at, Math.Min(step, length - at), isWritable);
        }
    }
}
