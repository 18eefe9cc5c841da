using System.Collections.Concurrent;
using Tutti.Host;
using Tutti.Memory;
using Tutti.Storage.Files;
using Tutti.Workers;

namespace Tutti.Storage.Tests;

public sealed class IoQueueTests : IDisposable
{
    private readonly TempFolder _folder = new();
    private readonly ConcurrentQueue<Exception> _failures = new();
    private readonly EventLoop _loop;

    public IoQueueTests() => _loop = new EventLoop("test disk", _failures.Enqueue);

    public void Dispose()
    {
        _loop.Dispose();
        _folder.Dispose();
        Assert.Empty(_failures);
    }

    public static TheoryData<IoMethod> Methods { get; } = [IoMethod.IoUring, IoMethod.Threads];

    /// <summary>With bytes that are transferred at once, and with more.</summary>
    public static TheoryData<IoMethod, int> MethodsAndSizes { get; } = new()
    {
        { IoMethod.IoUring, 1 << 16 },
        { IoMethod.IoUring, 1 << 18 },
        { IoMethod.Threads, 1 << 16 },
        { IoMethod.Threads, 1 << 18 },
    };

    [Theory]
    [MemberData(nameof(MethodsAndSizes))]
    public void What_is_written_from_many_segments_is_read_back_into_others(IoMethod method, int size)
    {
        using IoQueue queue = new(_loop, method);
        Assert.Equal(method, queue.Method);
        using BlockFile file = BlockFile.Create(_folder.File("a"));
        using NativeBytes from = new(size);
        using NativeBytes to = new(size);
        new Random(1).NextBytes(from.Span);

        // More segments than one system call takes.
        int piece = size / 2048;
        MemorySegment[] pieces = [.. Enumerable.Range(0, 2048).Select(i => from.Part(i * piece, piece))];
        Waiter write = new();
        write.Operation.Kind = IoKind.Write;
        write.Operation.File = file;
        write.Operation.Offset = 512;
        write.Operation.SetSegments(pieces);
        Assert.Equal(size, write.Operation.Length);
        Assert.Equal(0, write.Run(queue));

        Waiter read = new();
        read.Operation.Kind = IoKind.Read;
        read.Operation.File = file;
        read.Operation.Offset = 512;
        read.Operation.SetSegments([to.Part(0, 100), to.Part(100, 0), to.Part(100, size - 100)]);
        Assert.Equal(0, read.Run(queue));
        Assert.True(from.Span.SequenceEqual(to.Span));
        Assert.Equal(512 + size, file.Length);
    }

    [Theory]
    [MemberData(nameof(Methods))]
    public void A_part_of_the_segments_can_be_taken(IoMethod method)
    {
        using IoQueue queue = new(_loop, method);
        using BlockFile file = BlockFile.Open(_folder.File("a", [.. Enumerable.Range(0, 256).Select(i => (byte)i)]), isReadOnly: true);
        using NativeBytes to = new(64, 0xEE);
        Waiter read = new();
        read.Operation.Kind = IoKind.Read;
        read.Operation.File = file;
        read.Operation.Offset = 7;
        read.Operation.SetSegments([to.Part(0, 10), to.Part(10, 10), to.Part(20, 44)], 15, 30);
        Assert.Equal(0, read.Run(queue));
        Assert.Equal(0xEE, to.Span[14]);
        Assert.Equal(7, to.Span[15]);
        Assert.Equal(36, to.Span[44]);
        Assert.Equal(0xEE, to.Span[45]);
        Assert.Throws<ArgumentOutOfRangeException>(() => read.Operation.SetSegments([to.Segment], 60, 5));
    }

    [Theory]
    [MemberData(nameof(Methods))]
    public void Bytes_behind_the_end_of_a_file_read_as_zeroes(IoMethod method)
    {
        using IoQueue queue = new(_loop, method);
        using BlockFile file = BlockFile.Open(_folder.File("a", [1, 2, 3]), isReadOnly: true);
        using NativeBytes to = new(4096, 0xEE);
        Waiter read = new();
        read.Operation.Kind = IoKind.Read;
        read.Operation.File = file;
        read.Operation.SetSegments([to.Part(0, 2), to.Part(2, 4094)]);
        Assert.Equal(0, read.Run(queue));
        Assert.Equal([1, 2, 3, 0], to.Span[..4].ToArray());
        Assert.True(to.Span[3..].IndexOfAnyExcept((byte)0) < 0);
    }

    [Theory]
    [MemberData(nameof(Methods))]
    public void Flushes_discards_zeroes_and_work_are_done(IoMethod method)
    {
        using IoQueue queue = new(_loop, method);
        byte[] bytes = new byte[1 << 16];
        Array.Fill(bytes, (byte)7);
        using BlockFile file = BlockFile.Open(_folder.File("a", bytes), isReadOnly: false);
        Waiter waiter = new();
        waiter.Operation.File = file;
        waiter.Operation.Kind = IoKind.Flush;
        Assert.Equal(0, waiter.Run(queue));

        waiter.Operation.Kind = IoKind.Discard;
        waiter.Operation.Offset = 4096;
        waiter.Operation.Length = 8192;
        Assert.Equal(0, waiter.Run(queue));

        waiter.Operation.Kind = IoKind.WriteZeroes;
        waiter.Operation.Offset = 20000;
        waiter.Operation.Length = 100;
        Assert.Equal(0, waiter.Run(queue));
        Array.Clear(bytes, 4096, 8192);
        Array.Clear(bytes, 20000, 100);
        Assert.Equal(bytes, File.ReadAllBytes(_folder.File("a")));

        waiter.Operation.Kind = IoKind.Work;
        waiter.Operation.Work = () => Errno.ENOSPC;
        Assert.Equal(Errno.ENOSPC, waiter.Run(queue));
        waiter.Operation.Work = () => throw new InvalidOperationException();
        Assert.Equal(Errno.EIO, waiter.Run(queue));
    }

    [Theory]
    [MemberData(nameof(MethodsAndSizes))]
    public void Errors_reach_the_owner_and_the_user_once(IoMethod method, int size)
    {
        using IoQueue queue = new(_loop, method);
        ConcurrentQueue<string> lines = new();
        using BlockFile file = BlockFile.Open(_folder.File("a", new byte[4096]), isReadOnly: true, notices: new StorageNotices(lines.Enqueue));
        using NativeBytes bytes = new(size);
        Waiter write = new();
        write.Operation.Kind = IoKind.Write;
        write.Operation.File = file;
        write.Operation.SetSegment(bytes.Segment);
        Assert.Equal(Errno.EBADF, write.Run(queue));
        Assert.Equal(Errno.EBADF, write.Run(queue));
        Assert.Single(lines);
        Assert.Contains("writing disk", lines.First(), StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Methods))]
    public void More_operations_than_the_host_takes_at_once_all_end_on_the_loops_thread(IoMethod method)
    {
        using IoQueue queue = new(_loop, method);
        using BlockFile file = BlockFile.Create(_folder.File("a"));
        using NativeBytes bytes = new(512, 3);
        int batches = 0;
        queue.OnBatchEnd = () => batches++;
        Waiter[] all = [.. Enumerable.Range(0, 1000).Select(_ => new Waiter { Loop = _loop })];
        Parallel.For(0, all.Length, i =>
        {
            IoOperation operation = all[i].Operation;
            operation.Kind = IoKind.Write;
            operation.File = file;
            operation.Offset = i * 512L;
            operation.SetSegment(bytes.Segment);
            queue.Submit(operation);
            queue.Kick();
        });
        Assert.All(all, waiter => Assert.Equal(0, waiter.Wait()));
        queue.Drain();
        Assert.Equal(512_000, file.Length);
        Assert.InRange(batches, 1, 1000);
        Assert.True(File.ReadAllBytes(_folder.File("a")).AsSpan().IndexOfAnyExcept((byte)3) < 0);
    }

    [Theory]
    [MemberData(nameof(Methods))]
    public void Steady_traffic_allocates_nothing(IoMethod method)
    {
        using IoQueue queue = new(_loop, method);
        using BlockFile file = BlockFile.Open(_folder.File("a", new byte[1 << 20]), isReadOnly: false);
        using NativeBytes bytes = new(8192);
        Chain chain = new(queue, file, bytes);
        chain.Run(500);

        // The runtime gives a thread memory by 8 KiB, and what it allocates once for itself counts as much; an operation's
        // smallest object would make 120,000 bytes.
        Assert.InRange(chain.Run(5000), 0, 2 * 8192);
    }

    /// <summary>Submits operations one after the other, each from the end of the one before, eight at once.</summary>
    private sealed class Chain : IIoCompletion
    {
        private readonly IoQueue _queue;
        private readonly IoOperation[] _operations;
        private readonly ManualResetEventSlim _done = new();
        private readonly Action _begin;
        private long _before;
        private long _allocated;
        private int _left;
        private int _open;

        public Chain(IoQueue queue, BlockFile file, NativeBytes bytes)
        {
            _queue = queue;
            _begin = Begin;
            _operations = [.. Enumerable.Range(0, 8).Select(i => new IoOperation { Owner = this, File = file, Kind = i % 2 == 0 ? IoKind.Read : IoKind.Write, Offset = i * 8192 })];
            foreach (IoOperation operation in _operations)
            {
                operation.SetSegments([bytes.Part(0, 4096), bytes.Part(4096, 4096)]);
            }

            _segments = [bytes.Part(0, 4096), bytes.Part(4096, 4096)];
        }

        private readonly MemorySegment[] _segments;

        /// <returns>Bytes that the loop's thread has allocated.</returns>
        public long Run(int count)
        {
            _left = count;
            _done.Reset();
            _queue.Loop.Post(_begin);
            Assert.True(_done.Wait(TimeSpan.FromSeconds(30)));
            return _allocated;
        }

        public void Complete(IoOperation operation)
        {
            _open--;
            if (_left > 0)
            {
                Submit(operation);
                _queue.Kick();
            }
            else if (_open == 0)
            {
                _allocated = GC.GetAllocatedBytesForCurrentThread() - _before;
                _done.Set();
            }
        }

        private void Begin()
        {
            _before = GC.GetAllocatedBytesForCurrentThread();
            foreach (IoOperation operation in _operations)
            {
                Submit(operation);
            }

            _queue.Kick();
        }

        private void Submit(IoOperation operation)
        {
            _left--;
            _open++;
            operation.SetSegments(_segments);
            _queue.Submit(operation);
        }
    }

    private sealed class Waiter : IIoCompletion
    {
        private readonly ManualResetEventSlim _done = new();

        public Waiter() => Operation = new IoOperation { Owner = this };

        public EventLoop? Loop { get; init; }

        public IoOperation Operation { get; }

        public int Run(IoQueue queue)
        {
            _done.Reset();
            queue.Submit(Operation);
            queue.Kick();
            return Wait();
        }

        public int Wait()
        {
            Assert.True(_done.Wait(TimeSpan.FromSeconds(30)), "the operation does not end");
            return Operation.Error;
        }

        public void Complete(IoOperation operation)
        {
            Assert.True(Loop?.IsCurrent ?? true);
            _done.Set();
        }
    }
}
