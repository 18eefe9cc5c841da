using Tutti.X86;

namespace Tutti.Cpu.Translator;

/// <summary>What translated code asks before it does itself what may be the interpreter's.</summary>
internal sealed unsafe partial class Translator
{
    /// <summary>Says which units translated code may load: those whose instructions do not trap and whose exceptions are all masked.</summary>
    private void PrepareUnits()
    {
        bool traps = _state->FpuTraps != 0;
        uint mxcsr = *(uint*)(_state->FxArea + CpuState.FxMxcsr);
        bool sse = !traps && (mxcsr & AllSseMasked) == AllSseMasked;
        ushort control = *(ushort*)_state->FxArea;
        ushort status = *(ushort*)(_state->FxArea + 2);
        const ulong Masked = Rflags.Trap | Rflags.Direction | Rflags.AlignmentCheck | Rflags.NestedTask;
        bool syscall = (_state->Efer & Efer.SyscallEnable) != 0 && (_state->Sfmask & Masked) == Masked;
        _exit->SyscallForbidden = syscall ? 0 : 1;
        _exit->SseForbidden = sse ? 0 : 1;
        _exit->AvxForbidden = sse && (_state->Cr4 & Cr4.OsXsave) != 0 && (_state->Xcr0 & 6) == 6 ? 0 : 1;
        _exit->X87Forbidden = sse && (control & AllX87Masked) == AllX87Masked && (status & 0x80) == 0 ? 0 : 1;
    }

    /// <summary>The same for instructions that are host code for the ordinary case only.</summary>
    private void PrepareSystem()
    {
        bool counts = _counter != null && (_state->Cr4 & Cr4.TimeStampDisable) == 0;
        _exit->CounterForbidden = counts ? 0 : 1;
        _exit->CounterOffset = (ulong)((_counter?.Nanoseconds ?? 0) + _state->TscOffset);
        _exit->BasesForbidden = (_state->Cr4 & Cr4.FsGsBase) != 0 ? 0 : 1;
        _exit->KeysForbidden = (_state->Cr4 & Cr4.ProtectionKeyEnable) != 0 ? 0 : 1;
        _exit->ReturnForbidden = _returnLimit == _state->Gdtr.Limit && _processor.InterruptReturns.ReturnsPlainly && _awaited.Rip == 0 ? 0 : 1;
    }

    private void FollowClock()
    {
        CounterClock? counter = _processor.Clock.Counter;
        if (!ReferenceEquals(counter, _counter))
        {
            _counter = counter;
            _exit->CounterStart = 0 - (counter?.Start ?? 0);
            _exit->CounterRate = counter?.Rate ?? 0;
        }
    }
}
