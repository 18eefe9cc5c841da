using System.Runtime.InteropServices;

namespace Tutti.Host.Tests;

public sealed unsafe class HostFileTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("tutti-host-file-").FullName;

    private string Name => Path.Combine(_folder, "file");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Structs_have_the_kernels_sizes()
    {
        Assert.Equal(32, sizeof(FileLock));
        Assert.Equal(120, sizeof(IoUringParams));
        Assert.Equal(40, sizeof(SqRingOffsets));
        Assert.Equal(40, sizeof(CqRingOffsets));
        Assert.Equal(64, sizeof(SubmissionEntry));
        Assert.Equal(16, sizeof(CompletionEntry));
    }

    [Fact]
    public void A_file_is_made_once_written_read_and_measured()
    {
        using HostFile file = HostFile.Open(Name, HostFileMode.ReadWrite | HostFileMode.Create);
        Assert.Equal(HostFileKind.Regular, file.Kind);
        Assert.Equal(Errno.EEXIST, Assert.Throws<HostException>(() => HostFile.Open(Name, HostFileMode.ReadWrite | HostFileMode.Create)).Errno);
        file.Write([1, 2, 3], 10);
        Assert.Equal(13, file.GetLength());
        byte[] bytes = new byte[8];
        Assert.Equal(4, file.Read(bytes, 9));
        Assert.Equal([0, 1, 2, 3, 0, 0, 0, 0], bytes);
        Assert.Equal(0, file.TrySetLength(11));
        Assert.Equal(11, file.GetLength());
        Assert.Equal(0, file.TryFlush());
        Assert.Equal(0, file.TryAllocate(0, 8192));
        Assert.Equal(8192, file.GetLength());
        Assert.InRange(file.GetStatus().Allocated, 8192, 1 << 20);
        Assert.NotEqual(0, file.TryZeroDevice(0, 512));
    }

    [Fact]
    public void Folders_and_devices_are_told_apart()
    {
        using HostFile folder = HostFile.Open(_folder, HostFileMode.Read);
        using HostFile device = HostFile.Open("/dev/null", HostFileMode.Read);
        Assert.Equal(HostFileKind.Folder, folder.Kind);
        Assert.Equal(HostFileKind.Other, device.Kind);
        HostFile.FlushFolder(_folder);
    }

    [Fact]
    public void Locks_belong_to_the_opening_of_a_file()
    {
        using HostFile one = HostFile.Open(Name, HostFileMode.ReadWrite | HostFileMode.Create);
        using HostFile other = HostFile.Open(Name, HostFileMode.Read);
        Assert.Equal(0, one.TryLockByteShared(100));
        Assert.Equal(0, other.TryLockByteShared(100));
        other.UnlockByte(100);
        Assert.Equal(Errno.EAGAIN, other.FindLock(100));
        Assert.Equal(0, other.FindLock(101));
        Assert.Equal(0, one.FindLock(100));
        one.Dispose();
        Assert.Equal(0, other.FindLock(100));
    }

    [Fact]
    public void A_ring_reads_and_writes_and_says_so()
    {
        using EventFd ends = new();
        using IoUring? ring = IoUring.TryCreate(3, ends);
        if (ring == null)
        {
            return; // this host refuses io_uring
        }

        Assert.Equal(4, ring.Capacity);
        using HostFile file = HostFile.Open(Name, HostFileMode.ReadWrite | HostFileMode.Create);
        byte* memory = (byte*)NativeMemory.AllocZeroed(64);
        ulong* vectors = (ulong*)NativeMemory.Alloc(32);
        new Span<byte>(memory, 32).Fill(7);
        (vectors[0], vectors[1], vectors[2], vectors[3]) = ((ulong)memory, 8, (ulong)(memory + 8), 24);
        Assert.True(ring.TryPush(file, isWrite: true, (nint)vectors, 2, 5, 11));
        Assert.Equal(1, ring.PushedCount);
        Assert.Equal(0, ring.Enter());
        Assert.True(ends.Wait(TimeSpan.FromSeconds(10)));
        Assert.True(ring.TryTake(out ulong tag, out int result));
        Assert.Equal((11UL, 32), (tag, result));
        Assert.False(ring.TryTake(out _, out _));

        (vectors[0], vectors[1]) = ((ulong)(memory + 32), 32);
        for (int i = 0; i < 4; i++)
        {
            Assert.True(ring.TryPush(file, isWrite: false, (nint)vectors, 1, 5 + (8 * i), (ulong)i));
        }

        Assert.False(ring.TryPushFlush(file, 9));
        Assert.Equal(0, ring.Enter());
        int sum = 0;
        for (int taken = 0; taken < 4;)
        {
            Assert.True(ends.Wait(TimeSpan.FromSeconds(10)));
            while (ring.TryTake(out _, out result))
            {
                sum += result;
                taken++;
            }

            ends.Take();
        }

        Assert.Equal(32 + 24 + 16 + 8, sum);
        Assert.True(new Span<byte>(memory + 32, 32).IndexOfAnyExcept((byte)7) < 0);
        Assert.True(ring.TryPushFlush(file, 9));
        Assert.Equal(0, ring.Enter());
        Assert.True(ends.Wait(TimeSpan.FromSeconds(10)));
        Assert.True(ring.TryTake(out tag, out result));
        Assert.Equal((9UL, 0), (tag, result));
        NativeMemory.Free(memory);
        NativeMemory.Free(vectors);
    }
}
