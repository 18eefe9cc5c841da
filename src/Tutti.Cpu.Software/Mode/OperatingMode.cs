using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>The mode that control registers, EFER, CS, SS, CPL and RFLAGS make, and what handlers read of it.</summary>
public sealed unsafe class OperatingMode
{
    private readonly CpuState* _state;
    private readonly JumpCache _jumpCache;
    private readonly Tlb _tlb;
    private readonly DebugUnit _debug;

    internal OperatingMode(CpuState* state, JumpCache jumpCache, Tlb tlb, DebugUnit debug)
    {
        _state = state;
        _jumpCache = jumpCache;
        _tlb = tlb;
        _debug = debug;
    }

    /// <summary>
    /// Recomputes what is derived from CS, SS, CR0, CR4, EFER, CPL and RFLAGS (AC, VM, TF): the code mode, the TLB set,
    /// FPU traps, single-stepping. Every instruction that changes one of these calls it and then leaves its block.
    /// </summary>
    public void Update()
    {
        bool isLong = (_state->Efer & Efer.LongModeActive) != 0;
        bool virtual8086 = (_state->Flags & Rflags.Virtual8086) != 0;
        uint mode = CodeMode.Bits16;
        if (isLong && (_state->Cs.Attributes & SegmentAttributes.Long) != 0)
        {
            mode = CodeMode.Bits64;
        }
        else if ((_state->Cs.Attributes & SegmentAttributes.Big) != 0 && !virtual8086)
        {
            mode = CodeMode.Bits32;
        }

        // 64-bit code always has a 64-bit stack pointer, whatever SS (often null) says: one mode, one set of blocks.
        mode |= mode != CodeMode.Bits64 && (_state->Ss.Attributes & SegmentAttributes.Big) != 0 ? CodeMode.Stack32 : 0;
        mode |= _state->Cpl == 3 ? CodeMode.User : 0;
        mode |= virtual8086 ? CodeMode.Virtual8086 : 0;
        mode |= (_state->Cr0 & Cr0.ProtectionEnable) != 0 ? CodeMode.Protected : 0;
        mode |= isLong ? CodeMode.LongMode : 0;
        bool flat = (mode & CodeMode.BitnessMask) == CodeMode.Bits64 || (_state->Cs.Base == 0 && _state->Cs.Limit == uint.MaxValue);
        mode |= flat ? CodeMode.FlatCode : 0;
        _state->CanonicalShift = isLong && (_state->Cr4 & Cr4.LinearAddress57) != 0 ? 64 - SoftwareCpuid.LinearBits : 16;
        _state->Mode = mode;
        _jumpCache.FollowMode();
        _tlb.SelectSet();
        _state->FpuTraps = ((_state->Cr0 & Cr0.TaskSwitched) != 0 ? FpuTrap.TaskSwitched : 0)
            | ((_state->Cr0 & Cr0.Emulation) != 0 ? FpuTrap.Emulation : 0)
            | ((_state->Cr4 & Cr4.OsFxsr) == 0 ? FpuTrap.NoOsFxsr : 0);
        _debug.UpdateStepping();
    }
}
