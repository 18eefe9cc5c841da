using Tutti.Devices.Block;
using Tutti.Host;
using Tutti.Workers;

namespace Tutti.Storage;

/// <summary>
/// Lets requests through to another disk no faster than its limits. What must wait does so in line, reads and writes each in their order, and
/// the older first where both may go; no thread waits. Flushes pass at once: they cover completed requests only. Discards
/// and writes of zeroes count as requests, not as bytes.
/// </summary>
public sealed class ThrottledDisk : IBlockBackend, IDisposable
{
    private readonly IBlockBackend _inner;
    private readonly Throttle _throttle;
    private readonly Func<long> _clock;
    private readonly Action<long> _armTimer;
    private readonly Action _dispose;
    private readonly Queue<(BlockRequest Request, long Number)> _reads = new();
    private readonly Queue<(BlockRequest Request, long Number)> _writes = new();
    private readonly Lock _lock = new();
    private long _number;
    private long _deadline = long.MaxValue;

    /// <param name="inner">Where requests go.</param>
    /// <param name="limits">How fast.</param>
    /// <param name="loop">Whose timers are used.</param>
    public ThrottledDisk(IBlockBackend inner, DiskLimits limits, EventLoop loop)
    {
        ArgumentNullException.ThrowIfNull(inner);
        ArgumentNullException.ThrowIfNull(limits);
        ArgumentNullException.ThrowIfNull(loop);
        _inner = inner;
        _clock = static () => HostTime.Nanoseconds;
        _throttle = new Throttle(limits, _clock());
        LoopTimer timer = loop.AddTimer(OnTimer);
        LoopDoorbell doorbell = loop.AddDoorbell(() => timer.Arm(ReadDeadline()));
        _armTimer = deadline =>
        {
            if (loop.IsCurrent)
            {
                timer.Arm(deadline);
            }
            else
            {
                doorbell.Ring();
            }
        };
        _dispose = () => loop.Run(() =>
        {
            timer.Cancel();
            doorbell.Dispose();
        });
    }

    /// <summary>For tests, which bring their own time: <paramref name="armTimer"/> is told when <see cref="OnTimer"/> is to be called.</summary>
    internal ThrottledDisk(IBlockBackend inner, DiskLimits limits, Func<long> clock, Action<long> armTimer)
    {
        _inner = inner;
        _clock = clock;
        _armTimer = armTimer;
        _dispose = static () => { };
        _throttle = new Throttle(limits, clock());
    }

    public long Size => _inner.Size;

    public bool IsReadOnly => _inner.IsReadOnly;

    public bool CanDiscard => _inner.CanDiscard;

    public int DiscardGranularity => _inner.DiscardGranularity;

    public int PhysicalBlockSize => _inner.PhysicalBlockSize;

    public void Submit(BlockRequest request)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (request.Operation == BlockOperation.Flush)
        {
            _inner.Submit(request);
            return;
        }

        lock (_lock)
        {
            (IsWrite(request) ? _writes : _reads).Enqueue((request, _number++));
        }

        LetThrough();
    }

    public void Kick() => _inner.Kick();

    /// <summary>Forgets its timer; no request may be waiting or be submitted any more.</summary>
    public void Dispose() => _dispose();

    internal void OnTimer()
    {
        lock (_lock)
        {
            _deadline = long.MaxValue;
        }

        LetThrough();
        _inner.Kick();
    }

    private static bool IsWrite(BlockRequest request) => request.Operation != BlockOperation.Read;

    private static long Cost(BlockRequest request) => request.Operation is BlockOperation.Read or BlockOperation.Write ? request.Length : 0;

    /// <summary>Hands on what may go now, one after the other and without the lock, and sees to it that the rest is thought of in time.</summary>
    private void LetThrough()
    {
        while (true)
        {
            BlockRequest? request;
            lock (_lock)
            {
                long now = _clock();
                request = TakeNext(now, out long delay);
                if (request == null)
                {
                    if (delay == long.MaxValue || now + delay >= _deadline)
                    {
                        return;
                    }

                    _deadline = now + delay;
                }
            }

            if (request == null)
            {
                _armTimer(ReadDeadline());
                return;
            }

            _inner.Submit(request);
        }
    }

    /// <summary>The next request that may pass, paid for; else how long until one may.</summary>
    private BlockRequest? TakeNext(long now, out long delay)
    {
        delay = long.MaxValue;
        if (_reads.Count == 0 && _writes.Count == 0)
        {
            return null;
        }

        long common = _throttle.GetCommonDelay(now);
        if (common > 0)
        {
            delay = common;
            return null;
        }

        long read = _reads.Count == 0 ? long.MaxValue : _throttle.GetOwnDelay(isWrite: false, now);
        long write = _writes.Count == 0 ? long.MaxValue : _throttle.GetOwnDelay(isWrite: true, now);
        if (read > 0 && write > 0)
        {
            delay = Math.Min(read, write);
            return null;
        }

        bool isWrite = write == 0 && (read != 0 || _writes.Peek().Number < _reads.Peek().Number);
        BlockRequest request = (isWrite ? _writes : _reads).Dequeue().Request;
        _throttle.Pay(isWrite, Cost(request));
        return request;
    }

    private long ReadDeadline()
    {
        lock (_lock)
        {
            return _deadline;
        }
    }
}
