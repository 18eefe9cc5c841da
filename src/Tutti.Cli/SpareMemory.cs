using Tutti.Host;
using Tutti.Machine;

namespace Tutti.Cli;

/// <summary>
/// Gives memory back to the host while the guest rests: translations of code that may never run again, garbage, free memory of the
/// runtime's compiler. Once when the guest first rests, for start-up leaves most; later where much has come together again. A guest
/// that works is not held up.
/// </summary>
internal sealed class SpareMemory : IDisposable
{
    /// <summary>Until the first rest.</summary>
    private static readonly TimeSpan StartPeriod = TimeSpan.FromMilliseconds(250);

    private static readonly TimeSpan Period = TimeSpan.FromSeconds(10);

    /// <summary>How long the vCPUs, which rest, may take to drop their translations.</summary>
    private static readonly TimeSpan Delay = TimeSpan.FromMilliseconds(50);

    /// <summary>The runtime's finalizer thread, when it is woken and two seconds have gone by, gives back half of what its compiler keeps for later: what it has not needed since the time before.</summary>
    private static readonly TimeSpan SweepPeriod = TimeSpan.FromSeconds(2.5);

    private const int Sweeps = 2;

    /// <summary>The share of a period in processor time below which the guest rests.</summary>
    private const double Rest = 0.1;

    /// <summary>Bytes that are worth the work of making them anew.</summary>
    private const long Much = 8 << 20;

    private readonly VirtualMachine _machine;
    private readonly Lock _lock = new();
    private readonly Timer _timer;
    private TimeSpan _period = StartPeriod;
    private TimeSpan _used = Environment.CpuUsage.TotalTime;
    private FilePages? _filePages;
    private int _sweeps;
    private bool _isDisposed;

    internal SpareMemory(VirtualMachine machine)
    {
        _machine = machine;
        _timer = new Timer(_ => Look(), null, _period, Timeout.InfiniteTimeSpan);
    }

    public void Dispose()
    {
        lock (_lock)
        {
            _isDisposed = true;
            _timer.Dispose();
        }
    }

    private void Look()
    {
        TimeSpan now = Environment.CpuUsage.TotalTime;
        bool rests = now - _used < Rest * _period;
        if (_filePages is { } before)
        {
            _filePages = null;
            Finish(before);
            _sweeps = Sweeps;
        }
        else if (_sweeps > 0)
        {
            _sweeps--;
            GC.WaitForPendingFinalizers();
            HostHeap.Trim();
        }
        else if (rests && (_period == StartPeriod || _machine.ReleasableBytes > Much))
        {
            _period = Period;
            _machine.ReleaseMemory();
            _filePages = FilePages.Find();
        }

        _used = Environment.CpuUsage.TotalTime;
        lock (_lock)
        {
            if (!_isDisposed)
            {
                _timer.Change(_filePages != null ? Delay : _sweeps > 0 ? SweepPeriod : _period, Timeout.InfiniteTimeSpan);
            }
        }
    }

    private static void Finish(FilePages before)
    {
        FilePages pages = FilePages.Find().Both(before);
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
        HostHeap.Trim();
        // Last, for all this runs code of files.
        pages.Release();
    }
}
