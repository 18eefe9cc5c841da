using Tutti.Host;
using Tutti.Workers;

namespace Tutti.Storage.Files;

/// <summary>By what means a queue reads and writes.</summary>
public enum IoMethod
{
    /// <summary>io_uring where the host allows it, else threads. The environment variable TUTTI_IO=threads takes threads everywhere.</summary>
    Auto,
    IoUring,
    Threads,
}

/// <summary>
/// Reads, writes and flushes files without waiting for them. Operations may be submitted from any thread; they begin at <see cref="Kick"/>, many with one
/// system call, and end, in any order, with a call on the loop's thread: also from within a <see cref="Kick"/> there. In steady state
/// nothing is allocated.
/// </summary>
public sealed class IoQueue : IDisposable
{
    /// <summary>Operations that the host has at once; more wait here.</summary>
    private const int Depth = 256;
    private const int ThreadCount = 4;
    private const long RetryDelay = 1_000_000;

    /// <summary>Bytes that are transferred at once, on the loop's thread: copying so many takes less time than handing them to another thread.</summary>
    internal const long SmallTransfer = 64 << 10;

    /// <summary>After so many that were done at once their ends are told: whoever asked for them works on while the next are done.</summary>
    private const int HereBatch = 8;

    /// <summary>
    /// Nanoseconds, above what a busy host takes a processor away for; what took longer at once has waited for the storage, and for a while no more is
    /// done so.
    /// </summary>
    private const long SlowTransfer = 5_000_000;
    private const long SlowTime = 50_000_000;
    private static readonly bool s_wantsThreads = Environment.GetEnvironmentVariable("TUTTI_IO") == "threads";

    private readonly EventLoop _loop;
    private readonly LoopDoorbell _doorbell;
    private readonly LoopTimer _retry;
    private readonly IoWorkers _workers;
    private readonly EventFd? _event;
    private readonly IoUring? _ring;
    private readonly LoopWatch? _watch;
    private readonly IoOperation?[] _slots = new IoOperation?[Depth];
    private readonly int[] _freeSlots = new int[Depth];
    private readonly Lock _lock = new();
    private readonly object _idleGate = new();
    private IoOperation? _submittedFirst;
    private IoOperation? _submittedLast;
    private int _freeSlotCount;
    private int _openCount;
    private bool _isRunning;
    private bool _isKicked;
    private int _hereCount;
    private long _slowUntil;
    private volatile bool _isDisposed;

    /// <param name="loop">Whose thread takes completions.</param>
    /// <param name="method">By what means.</param>
    /// <exception cref="DiskException"><see cref="IoMethod.IoUring"/> was asked for, and the host refuses it.</exception>
    public IoQueue(EventLoop loop, IoMethod method = IoMethod.Auto)
    {
        ArgumentNullException.ThrowIfNull(loop);
        _loop = loop;
        for (int i = 0; i < Depth; i++)
        {
            _freeSlots[i] = i;
        }

        _freeSlotCount = Depth;
        if (method == IoMethod.IoUring || (method == IoMethod.Auto && !s_wantsThreads))
        {
            _event = new EventFd();
            _ring = IoUring.TryCreate(Depth, _event);
            if (_ring == null)
            {
                _event.Dispose();
                _event = null;
            }
        }

        if (_ring == null && method == IoMethod.IoUring)
        {
            throw new DiskException("this host refuses io_uring (an old kernel, a sandbox, or kernel.io_uring_disabled)");
        }

        _doorbell = loop.AddDoorbell(Run);
        _retry = loop.AddTimer(Run);
        _workers = new IoWorkers("disk I/O", ThreadCount, _doorbell.Ring);
        _watch = _event == null ? null : loop.Watch(_event.Descriptor, IoEvents.Readable, _ => OnRingEvent());
    }

    /// <summary>The means that was taken: <see cref="IoMethod.IoUring"/> or <see cref="IoMethod.Threads"/>.</summary>
    public IoMethod Method => _ring != null ? IoMethod.IoUring : IoMethod.Threads;

    /// <summary>The loop whose thread takes completions.</summary>
    public EventLoop Loop => _loop;

    /// <summary>Called on the loop's thread after some operations have been completed, when no more follow at once.</summary>
    public Action? OnBatchEnd { get; set; }

    /// <summary>Takes an operation; it begins at the next <see cref="Kick"/>, or earlier. Never waits, never throws for what storage does.</summary>
    public void Submit(IoOperation operation)
    {
        ArgumentNullException.ThrowIfNull(operation);
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        operation.Begin();
        Interlocked.Increment(ref _openCount);
        lock (_lock)
        {
            if (_submittedLast == null)
            {
                _submittedFirst = operation;
            }
            else
            {
                _submittedLast.Next = operation;
            }

            _submittedLast = operation;
        }
    }

    /// <summary>Begins what was submitted. Away from the loop's thread that is done there, soon.</summary>
    public void Kick()
    {
        if (_loop.IsCurrent)
        {
            Run();
        }
        else
        {
            _doorbell.Ring();
        }
    }

    /// <summary>Waits until nothing is under way any more. Not on the loop's thread, and not while others submit.</summary>
    public void Drain()
    {
        if (_loop.IsCurrent)
        {
            throw new InvalidOperationException("The loop's thread can't wait for its own work.");
        }

        _doorbell.Ring();
        lock (_idleGate)
        {
            while (Volatile.Read(ref _openCount) != 0)
            {
                Monitor.Wait(_idleGate);
            }
        }

        // What the last completion's owner does, and the batch's end, are to be over, too.
        _loop.Run(static () => { });
    }

    /// <summary>Waits for what is under way, and ends. Not on the loop's thread.</summary>
    public void Dispose()
    {
        if (_isDisposed)
        {
            return;
        }

        Drain();
        _isDisposed = true;
        _loop.Run(() =>
        {
            _retry.Cancel();
            _watch?.Dispose();
            _doorbell.Dispose();
        });
        _workers.Dispose();
        _ring?.Dispose();
        _event?.Dispose();
    }

    private void OnRingEvent()
    {
        _event!.Take();
        Run();
    }

    /// <summary>Begins and ends operations until there is nothing to do. On the loop's thread; a call from within a completion is left to the outer one.</summary>
    private void Run()
    {
        _isKicked = true;
        if (_isRunning || _isDisposed)
        {
            return;
        }

        _isRunning = true;
        _ring?.HoldSignals(true);
        bool isClean = false;
        try
        {
            bool isAgain = true;
            while (isAgain)
            {
                while (_isKicked)
                {
                    _isKicked = false;
                    StartSubmitted();
                    if (TakeCompletions())
                    {
                        // Completed operations have made room for those that wait.
                        _isKicked = true;
                        OnBatchEnd?.Invoke();
                    }
                }

                _ring?.HoldSignals(false);
                isAgain = _ring != null && _ring.HasCompletions;
                if (isAgain)
                {
                    _ring!.HoldSignals(true);
                    _isKicked = true;
                }
            }

            isClean = true;
        }
        finally
        {
            _isRunning = false;
            if (!isClean)
            {
                // An owner has thrown, which the loop reports; the others' ends are not to wait for the next signal.
                _ring?.HoldSignals(false);
                _doorbell.Ring();
            }
        }
    }

    private void StartSubmitted()
    {
        while (_hereCount < HereBatch && (_ring == null || _freeSlotCount > 0))
        {
            IoOperation? operation;
            lock (_lock)
            {
                operation = _submittedFirst;
                if (operation == null)
                {
                    break;
                }

                _submittedFirst = operation.Next;
                _submittedLast = _submittedFirst == null ? null : _submittedLast;
                operation.Next = null;
            }

            StartOne(operation);
        }

        if (_ring != null && _ring.Enter() != 0)
        {
            // The kernel is short of something; an end may free it, or time.
            _retry.Arm(HostTime.Nanoseconds + RetryDelay);
        }
    }

    private void StartOne(IoOperation operation)
    {
        if (TryHere(operation))
        {
            _hereCount++;
            Complete(operation);
            return;
        }

        bool isForRing = _ring != null && operation.Kind is IoKind.Read or IoKind.Write or IoKind.Flush;
        if (isForRing)
        {
            StartInRing(operation);
        }
        else
        {
            _workers.Start(operation);
        }
    }

    /// <summary>
    /// Does at once what only copies from or to the host's page cache, and costs less than handing it over: small writes, which io_uring would give to
    /// a thread of the kernel's, and reads of what is there. Where the storage lets writers wait, others take over for a while, so that reads go on.
    /// </summary>
    /// <returns>Whether the operation is at its end.</returns>
    private bool TryHere(IoOperation operation)
    {
        if (operation.Kind == IoKind.Read)
        {
            return (_ring == null || operation.Length <= SmallTransfer) && operation.TryReadCached();
        }

        bool isWork = operation.Kind == IoKind.Work && operation.AtOnce != null;
        if (!isWork && (operation.Kind != IoKind.Write || operation.Length > SmallTransfer))
        {
            return false;
        }

        long begin = HostTime.Nanoseconds;
        if (begin < _slowUntil)
        {
            return false;
        }

        bool isDone = !isWork || operation.TryWorkAtOnce();
        if (!isWork)
        {
            operation.RunHere();
        }

        long end = HostTime.Nanoseconds;
        _slowUntil = end - begin > SlowTransfer ? end + SlowTime : 0;
        return isDone;
    }

    private void StartInRing(IoOperation operation)
    {
        int slot = _freeSlots[--_freeSlotCount];
        _slots[slot] = operation;
        PushToRing(operation, slot);
    }

    /// <summary>There is room: no more operations are under way than the ring holds.</summary>
    private void PushToRing(IoOperation operation, int slot)
    {
        HostFile file = operation.File!.File;
        bool isPushed = operation.Kind == IoKind.Flush
            ? _ring!.TryPushFlush(file, (ulong)slot)
            : _ring!.TryPush(file, operation.Kind == IoKind.Write, operation.VectorsAddress, operation.VectorCount, operation.Position, (ulong)slot);
        if (!isPushed)
        {
            throw new InvalidOperationException("The ring has less room than it said.");
        }
    }

    /// <returns>Whether there were any.</returns>
    private bool TakeCompletions()
    {
        bool isAny = _hereCount != 0;
        _hereCount = 0;
        while (_ring != null && _ring.TryTake(out ulong tag, out int result))
        {
            if (tag >= Depth || _slots[tag] is not IoOperation operation)
            {
                continue;
            }

            if (!operation.Advance(result))
            {
                PushToRing(operation, (int)tag);
                _isKicked = true;
                continue;
            }

            if (operation.Kind == IoKind.Flush)
            {
                operation.Error = operation.File!.NoteFlush(operation.Error);
            }

            _slots[tag] = null;
            _freeSlots[_freeSlotCount++] = (int)tag;
            Complete(operation);
            isAny = true;
        }

        for (IoOperation? operation = _workers.TakeDone(); operation != null;)
        {
            IoOperation? next = operation.Next;
            Complete(operation);
            operation = next;
            isAny = true;
        }

        return isAny;
    }

    private void Complete(IoOperation operation)
    {
        if (operation.Error != 0)
        {
            Report(operation);
        }

        try
        {
            operation.Owner.Complete(operation);
        }
        finally
        {
            if (Interlocked.Decrement(ref _openCount) == 0)
            {
                lock (_idleGate)
                {
                    Monitor.PulseAll(_idleGate);
                }
            }
        }
    }

    private static void Report(IoOperation operation)
    {
        string? action = operation.Kind switch
        {
            IoKind.Read => "reading",
            IoKind.Write or IoKind.WriteZeroes => "writing",
            IoKind.Flush => "flushing",
            _ => null,
        };
        if (action != null && operation.File is BlockFile file)
        {
            file.Notices.Report(file.Path, action, operation.Error);
        }
    }
}
