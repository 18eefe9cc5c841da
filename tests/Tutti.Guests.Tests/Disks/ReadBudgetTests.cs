using System.Buffers.Binary;
using System.Diagnostics;
using System.Text;
using Tutti.Devices.Block;
using Tutti.Guests.Disks;
using Tutti.Guests.Server;

namespace Tutti.Guests.Tests.Disks;

/// <summary>Disks that would cost the host more than they are worth: each ends with one line, after bounded memory and time.</summary>
public class ReadBudgetTests
{
    /// <summary>Garbage included: what is alive at once is less.</summary>
    private const long Allocations = 400L << 20;

    [Fact]
    public void Revoke_records_that_stand_all_over_a_journal()
    {
        byte[] record = new byte[HostileExt.BlockSize];
        HostileExt.Big(record, 0, 0xC03B_3998, 5, 1, HostileExt.BlockSize);
        Assert.Contains("of the host's memory", Spend(new HostileExt().WithJournal(record).Disk), StringComparison.Ordinal);
    }

    [Fact]
    public void Descriptors_that_stand_all_over_a_journal()
    {
        byte[] record = new byte[HostileExt.BlockSize];
        HostileExt.Big(record, 0, 0xC03B_3998, 1, 1);
        for (int at = 12; at <= record.Length - 8; at += 8)
        {
            HostileExt.Big(record, at, (uint)at, 2);
        }

        Assert.Contains("of the host's memory", Spend(new HostileExt().WithJournal(record).Disk), StringComparison.Ordinal);
    }

    [Fact]
    public void A_folder_that_is_one_block_again_and_again()
    {
        HostileExt files = new();
        files.SetInode(2, 0x41ED, HostileExt.BlockSize, files.Add(HostileExt.Folder(isFull: false, ("boot", 12))));
        files.SetInode(12, 0x41ED, 16 << 20, files.Repeat(files.Add(HostileExt.Folder(isFull: true))));
        Assert.Contains("more files than any", Look(files.Disk), StringComparison.Ordinal);
    }

    [Fact]
    public void A_thousand_partitions_that_are_one_another()
    {
        HostileExt files = new();
        files.SetInode(2, 0x41ED, HostileExt.BlockSize, files.Add(HostileExt.Folder(isFull: true)));
        Assert.Contains("of the host's memory", Spend(Partitions(files.Bytes, 1024)), StringComparison.Ordinal);
    }

    [Fact]
    public void Links_times_components_times_the_size_of_a_folder_end_with_the_time()
    {
        // /boot is a link to x/x/x/.../boot, each of which is the root folder, whose every block is full of other names.
        HostileExt files = new();
        byte[] target = new byte[HostileExt.BlockSize];
        int length = Encoding.ASCII.GetBytes(string.Concat(Enumerable.Repeat("y/", 2045)) + "boot", target);
        files.SetInode(12, 0xA1FF, length, files.Add(target));
        int[] pointers = files.Repeat(files.Add(HostileExt.Folder(isFull: true)));
        int last = files.Add(HostileExt.Folder(isFull: true, ("y", 2), ("boot", 12)));
        byte[] single = files.Bytes.AsSpan(pointers[12] * HostileExt.BlockSize, HostileExt.BlockSize).ToArray();
        BinaryPrimitives.WriteInt32LittleEndian(single.AsSpan((255 - 12) * 4), last);
        pointers[12] = files.Add(single);
        files.SetInode(2, 0x41ED, 16 << 20, pointers);
        Assert.Contains("took longer than 1 s", Spend(files.Disk, new ReadBudget(64 << 20, TimeSpan.FromSeconds(1))), StringComparison.Ordinal);
    }

    [ExtTheory]
    [InlineData(48, 8, 55, "/boot/initrd.img-6.1.0")]
    [InlineData(48, 8, 47, "/boot/vmlinuz-6.1.0")]
    [InlineData(8, 60, 63, "/boot/initrd.img-6.1.0")]
    [InlineData(8, 48, 64, null)]
    public void Kernel_and_RAM_disk_must_fit_into_the_guest_s_memory(int kernel, int initrd, int memory, string? refused)
    {
        using ExtImage image = new();
        image.Write("etc/x", "");
        image.Write("usr/x", "");
        Sparse("boot/vmlinuz-6.1.0", kernel);
        Sparse("boot/initrd.img-6.1.0", initrd);
        image.Make("-t ext4", "16M");
        ReadBudget budget = new((long)memory << 20);
        if (refused == null)
        {
            Assert.Equal(kernel << 20, DiskKernel.Find(image.Load(), budget).Kernel.Length);
            return;
        }

        string message = Assert.Throws<ImageException>(() => DiskKernel.Find(image.Load(), budget)).Message;
        Assert.Contains($"{refused} on the disk", message, StringComparison.Ordinal);
        Assert.Contains("--memory", message, StringComparison.Ordinal);

        void Sparse(string path, int size)
        {
            image.Write(path, "");
            using FileStream file = File.OpenWrite(Path.Combine(image.Source, path));
            file.SetLength((long)size << 20);
        }
    }

    [Fact]
    public void Reads_are_charged_with_a_request_s_worth_at_least_and_end_for_good()
    {
        ReadBudget budget = new(4096 * 3);
        DiskPart disk = new(new MemoryDisk(new byte[8192]), budget);
        budget.Read(ReadBudget.Reads);
        disk.Read(0, new byte[1]);
        disk.Read(0, new byte[4096]);
        Assert.Throws<ReadBudgetException>(() => disk.Read(0, new byte[4097]));
        disk.Slice(4096, 4096).Read(4095, new byte[1]);
        Assert.Throws<ReadBudgetException>(() => disk.Read(0, new byte[1]));
        Assert.Throws<ImageException>(() => disk.Slice(4096, 4096).Read(1, new byte[4096]));
        Assert.Throws<ImageException>(() => disk.Slice(4096, 4097));
    }

    [Fact]
    public void A_disk_that_does_not_answer_is_waited_for_until_the_user_has_enough()
    {
        using CancellationTokenSource cancel = new();
        SilentDisk disk = new();
        using (BlockBackendReader reader = new(disk, cancel.Token))
        {
            cancel.CancelAfter(50);
            Assert.ThrowsAny<OperationCanceledException>(() => DiskKernel.Find(reader, new ReadBudget(1 << 20, cancel.Token)));
        }

        // The late answer finds its memory.
        disk.Waiting!.Segments[0].Span.Fill(1);
        disk.Waiting.Owner.Complete(disk.Waiting, BlockStatus.Ok);
    }

    private static string Spend(MemoryDisk disk, ReadBudget? budget = null)
    {
        string message = Look(disk, budget);
        Assert.StartsWith("Reading the disk to find its kernel", message, StringComparison.Ordinal);
        Assert.Contains("--kernel", message, StringComparison.Ordinal);
        return message;
    }

    private static string Look(MemoryDisk disk, ReadBudget? budget = null)
    {
        Stopwatch watch = Stopwatch.StartNew();
        long before = GC.GetAllocatedBytesForCurrentThread();
        string message = Assert.ThrowsAny<ImageException>(() => DiskKernel.Find(disk, budget ?? new ReadBudget(64 << 20))).Message;
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, Allocations);
        Assert.InRange(watch.Elapsed, TimeSpan.Zero, TimeSpan.FromSeconds(20));
        Assert.DoesNotContain('\n', message);
        return message;
    }

    private static MemoryDisk Partitions(byte[] part, int count)
    {
        byte[] disk = new byte[(3 << 20) + part.Length];
        GptWriter.Write(new MemoryStream(disk), disk.Length, part.Length, Guid.NewGuid(), Guid.NewGuid());
        part.CopyTo(disk, GptWriter.PartitionOffset);
        BinaryPrimitives.WriteInt32LittleEndian(disk.AsSpan(512 + 80), count);
        for (int i = 1; i < count; i++)
        {
            disk.AsSpan(1024, 128).CopyTo(disk.AsSpan(1024 + (i * 128)));
        }

        return new MemoryDisk(disk);
    }

    private sealed class SilentDisk : IBlockBackend
    {
        public BlockRequest? Waiting { get; private set; }

        public long Size => 1 << 20;

        public bool IsReadOnly => true;

        public bool CanDiscard => false;

        public int DiscardGranularity => 512;

        public int PhysicalBlockSize => 512;

        public void Submit(BlockRequest request) => Waiting = request;

        public void Kick()
        {
        }
    }
}
