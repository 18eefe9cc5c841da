using Tutti.Devices;
using Tutti.Host;

namespace Tutti.Workers;

/// <summary>A doorbell of an <see cref="EventLoop"/>.</summary>
public sealed class LoopDoorbell : IDoorbell
{
    private readonly EventLoop _loop;
    private readonly Lock _lock = new();
    private EventFd? _event;
    private LoopWatch? _watch;
    private int _isRung;

    internal LoopDoorbell(EventLoop loop, Action work)
    {
        _loop = loop;
        Work = work;
    }

    internal Action Work { get; }

    internal bool IsRung => Volatile.Read(ref _isRung) != 0;

    /// <summary>The same bell as an eventfd, for a kernel that rings it; made when first asked for.</summary>
    public EventFd Event
    {
        get
        {
            lock (_lock)
            {
                if (_event == null)
                {
                    EventFd made = new();
                    _watch = _loop.Watch(made.Descriptor, IoEvents.Readable, _ =>
                    {
                        made.Take();
                        Work();
                    });
                    _event = made;
                }

                return _event;
            }
        }
    }

    public void Ring()
    {
        if (Interlocked.Exchange(ref _isRung, 1) == 0)
        {
            _loop.Wake();
        }
    }

    /// <summary>Takes the bell away. Work that is under way on the loop's thread goes on to its end.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            _loop.Remove(this);
            _watch?.Dispose();
            _event?.Dispose();
            _watch = null;
        }
    }

    internal bool TryTake() => Volatile.Read(ref _isRung) != 0 && Interlocked.Exchange(ref _isRung, 0) != 0;
}
