using Tutti.Host;
using Tutti.Workers;

namespace Tutti.Network;

/// <summary>
/// Follows the host's addresses, routes and rules: a flow that was let through as another host's may have become the host's own. Flows are looked at at
/// once after a change, and then each 200 ms at most: on a router changes never end.
/// </summary>
internal sealed class RouteWatch : IDisposable
{
    private const long PauseNanoseconds = 200_000_000;
    private readonly HostRouteChanges _changes;
    private readonly LoopWatch _watch;
    private readonly LoopTimer _pause;
    private readonly Action _onChanged;
    private bool _hasMore;

    /// <exception cref="NetworkException">The kernel does not tell this process.</exception>
    public RouteWatch(EventLoop loop, Action onChanged)
    {
        _onChanged = onChanged;
        _changes = HostRouteChanges.TryOpen(out int errno) ?? throw HostAddresses.Unavailable(errno);
        _pause = loop.AddTimer(OnPauseEnded);
        _watch = loop.Watch(_changes.Descriptor, IoEvents.Readable, _ => OnReady());
    }

    public void Dispose()
    {
        _pause.Cancel();
        _watch.Dispose();
        _changes.Dispose();
    }

    private void OnReady()
    {
        if (_changes.TryTake())
        {
            _hasMore = true;
            if (!_pause.IsArmed)
            {
                OnPauseEnded();
            }
        }
    }

    private void OnPauseEnded()
    {
        if (_hasMore)
        {
            _hasMore = false;
            _pause.Arm(HostTime.Nanoseconds + PauseNanoseconds);
            _onChanged();
        }
    }
}
