using Tutti.Host;
using Tutti.X86;
using static Tutti.Cpu.Kvm.KvmCalls;
using static Tutti.Cpu.Kvm.KvmIoctl;

namespace Tutti.Cpu.Kvm;

/// <summary>
/// The guest's time-stamp counters and paravirtual clock, which run with the host's; while a machine is paused they are
/// held by moving their offsets at its end.
/// </summary>
internal sealed unsafe class KvmTime(FileDescriptor vm, KvmProcessor[] processors)
{
    private ulong _clock;
    private ulong _tsc;
    private bool _isPaused;

    /// <summary>Remembers what the guest's clocks show.</summary>
    internal void Pause()
    {
        if (_isPaused)
        {
            return;
        }

        KvmClockData clock = default;
        _ = Call(vm, nameof(KVM_GET_CLOCK), KVM_GET_CLOCK, &clock);
        _clock = clock.Clock;
        _tsc = processors[0].ReadMsr(Msr.Tsc);
        _isPaused = true;
    }

    /// <summary>Sets them back to it.</summary>
    internal void Resume()
    {
        if (!_isPaused)
        {
            return;
        }

        // One difference for all vCPUs, so that counters which agreed still do.
        // An older kernel can't do it exactly, and the guest's clock sources then see the time that has passed.
        long passed = (long)(processors[0].ReadMsr(Msr.Tsc) - _tsc);
        foreach (KvmProcessor processor in processors.Where(p => p.HasTscOffset))
        {
            processor.TscOffset -= passed;
        }

        KvmClockData clock = new() { Clock = _clock };
        _ = Call(vm, nameof(KVM_SET_CLOCK), KVM_SET_CLOCK, &clock);
        foreach (KvmProcessor processor in processors)
        {
            processor.NotifyClockStopped();
        }

        _isPaused = false;
    }
}
