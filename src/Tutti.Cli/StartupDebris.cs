using Tutti.Host;

namespace Tutti.Cli;

/// <summary>
/// Gives back, once, what start-up has left behind: garbage of loading and translating, free memory of the runtime's compiler.
/// It waits until the guest rests for the first time, so that it delays nobody.
/// </summary>
internal sealed class StartupDebris : IDisposable
{
    private static readonly TimeSpan Period = TimeSpan.FromMilliseconds(250);

    /// <summary>Processor time in a period below which the guest rests.</summary>
    private static readonly TimeSpan Rest = TimeSpan.FromMilliseconds(25);

    private readonly Timer _timer;
    private TimeSpan _used;
    private int _isDone;

    internal StartupDebris()
    {
        _used = Environment.CpuUsage.TotalTime;
        _timer = new Timer(_ => Look(), null, Period, Period);
    }

    public void Dispose() => _timer.Dispose();

    private void Look()
    {
        TimeSpan now = Environment.CpuUsage.TotalTime;
        bool rests = now - _used < Rest;
        _used = now;
        if (rests && Interlocked.Exchange(ref _isDone, 1) == 0)
        {
            _timer.Dispose();
            GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
            HostHeap.Trim();
        }
    }
}
