using Tutti.Cpu;

namespace Tutti.Machine;

/// <summary>Lets the threads of a partition's vCPUs run, and stops them all at a point where their state can be read.</summary>
internal sealed class ProcessorGate
{
    private readonly object _lock = new();
    private readonly IReadOnlyList<IVirtualProcessor> _processors;
    private int _inside;
    private bool _isOpen;
    private bool _isEnding;

    internal ProcessorGate(IReadOnlyList<IVirtualProcessor> processors) => _processors = processors;

    /// <summary>Called by a vCPU's thread before it runs guest code: waits while closed; false when the thread shall end.</summary>
    internal bool Enter()
    {
        lock (_lock)
        {
            while (!_isOpen && !_isEnding)
            {
                Monitor.Wait(_lock);
            }

            if (!_isEnding)
            {
                _inside++;
            }

            return !_isEnding;
        }
    }

    /// <summary>Called by a vCPU's thread after guest code. With <paramref name="close"/> no thread enters again until <see cref="Open"/>.</summary>
    internal void Leave(bool close)
    {
        lock (_lock)
        {
            _inside--;
            _isOpen &= !close;
            Monitor.PulseAll(_lock);
        }
    }

    internal void Open()
    {
        lock (_lock)
        {
            _isOpen = true;
            Monitor.PulseAll(_lock);
        }
    }

    /// <summary>Asks all vCPUs to leave and lets none enter; does not wait, so that it can be used under the chipset lock.</summary>
    internal void BeginClose()
    {
        lock (_lock)
        {
            _isOpen = false;
            if (_isEnding)
            {
                // The processors may be gone already.
                return;
            }

            foreach (IVirtualProcessor processor in _processors)
            {
                processor.RequestExit();
            }
        }
    }

    /// <summary>Stops all vCPUs; false when one has not left in time.</summary>
    internal bool Close(TimeSpan patience)
    {
        BeginClose();
        long end = Environment.TickCount64 + (long)patience.TotalMilliseconds;
        lock (_lock)
        {
            while (_inside > 0)
            {
                long left = end - Environment.TickCount64;
                if (left <= 0 || !Monitor.Wait(_lock, (int)left))
                {
                    return _inside == 0;
                }
            }
        }

        return true;
    }

    /// <summary>Makes the threads end instead of waiting at the gate. No vCPU is asked to leave any more after this.</summary>
    internal void End()
    {
        lock (_lock)
        {
            _isEnding = true;
            Monitor.PulseAll(_lock);
        }
    }
}
