using System.Runtime.InteropServices;
using Tutti.Host;

namespace Tutti.Workers;

/// <summary>A descriptor that an <see cref="EventLoop"/> watches. After <see cref="Dispose"/> on the loop's thread its handler is called no more.</summary>
public sealed class LoopWatch : IDisposable
{
    private readonly EventLoop _loop;
    private bool _isGone;

    internal LoopWatch(EventLoop loop, SafeHandle handle, Action<IoEvents> handler, int slot, ulong tag)
    {
        _loop = loop;
        Handle = handle;
        Handler = handler;
        Slot = slot;
        Tag = tag;
    }

    internal SafeHandle Handle { get; }

    internal Action<IoEvents> Handler { get; }

    internal int Slot { get; }

    internal ulong Tag { get; }

    /// <summary>Changes what it is watched for; <see cref="IoEvents.None"/> leaves errors and hang-ups.</summary>
    public void Change(IoEvents events) => _loop.Change(this, events);

    public void Dispose()
    {
        if (!_isGone)
        {
            _isGone = true;
            _loop.Remove(this);
        }
    }
}
