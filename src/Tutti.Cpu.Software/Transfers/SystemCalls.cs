using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>SYSCALL, SYSENTER and their returns, which load flat segments without descriptors.</summary>
public sealed unsafe class SystemCalls
{
    /// <summary>Flat code: present, DPL 0, readable, accessed; 4 KiB granularity.</summary>
    private const ushort FlatCode = 0x809B;
    private const ushort FlatData = 0xC093;

    private readonly CpuState* _state;
    private readonly PendingEvents _pending;
    private readonly DebugUnit _debug;
    private readonly OperatingMode _mode;

    internal SystemCalls(CpuState* state, PendingEvents pending, DebugUnit debug, OperatingMode mode)
    {
        _state = state;
        _pending = pending;
        _debug = debug;
        _mode = mode;
    }

    /// <summary>SYSCALL; false after #UD. Source: AMD APM volume 3, "SYSCALL".</summary>
    public bool TrySyscall(ulong nextRip)
    {
        if ((_state->Efer & Efer.SyscallEnable) == 0 || !_state->IsProtected)
        {
            return Faults.Refuse(_state, ExceptionVector.InvalidOpcode);
        }

        ushort selector = (ushort)((_state->Star >> 32) & 0xFFFC);
        bool isLong = _state->IsLongMode;
        if (isLong)
        {
            ulong target = _state->Is64BitMode ? _state->Lstar : _state->Cstar;
            ulong flags = LazyFlags.Get(_state) & ~Rflags.Resume;
            _state->Gpr[1] = nextRip;
            _state->Gpr[11] = flags;
            _state->Rip = target;
            _state->Flags = ((flags & ~_state->Sfmask) | Rflags.AlwaysOne) & ~Rflags.Resume;
        }
        else
        {
            _state->Gpr[1] = (uint)nextRip;
            _state->Rip = (uint)_state->Star;
            _state->Flags = LazyFlags.Get(_state) & ~(Rflags.Interrupt | Rflags.Resume | Rflags.Virtual8086);
        }

        SetFlat(&_state->Cs, selector, (ushort)(FlatCode | (isLong ? SegmentAttributes.Long : SegmentAttributes.Big)));
        SetFlat(&_state->Ss, (ushort)(selector + 8), FlatData);
        _state->Cpl = 0;
        _mode.Update();
        _debug.TrapByNewFlags();
        return true;
    }

    /// <summary>Makes CS, SS and CPL what SYSCALL (0) or SYSRET to 64-bit code (3) has made them; RIP and flags are set already.</summary>
    public void SetFlatPrivilege(int cpl)
    {
        ulong star = _state->Star;
        ushort code = cpl == 0 ? (ushort)((star >> 32) & 0xFFFC) : (ushort)(((star >> 48) + 16) | 3);
        ushort stack = cpl == 0 ? (ushort)(code + 8) : (ushort)(((star >> 48) + 8) | 3);
        ushort level = (ushort)(cpl << SegmentAttributes.DplShift);
        SetFlat(&_state->Cs, code, (ushort)(FlatCode | SegmentAttributes.Long | level));
        SetFlat(&_state->Ss, stack, (ushort)(FlatData | level));
        _state->Cpl = cpl;
        _mode.Update();
    }

    /// <summary>SYSRET; <paramref name="size"/> 8 returns to 64-bit mode. False after a fault.</summary>
    public bool TrySysret(int size)
    {
        if ((_state->Efer & Efer.SyscallEnable) == 0 || !_state->IsProtected)
        {
            return Faults.Refuse(_state, ExceptionVector.InvalidOpcode);
        }

        if (_state->Cpl != 0)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        // As on AMD processors, RCX is not looked at here: what is not canonical faults at level 3, when it is fetched.
        bool to64 = size == 8;

        ushort selector = (ushort)(_state->Star >> 48);
        bool isLong = _state->IsLongMode;
        if (isLong)
        {
            _state->Flags = (_state->Gpr[11] & Rflags.Defined & ~(Rflags.Resume | Rflags.Virtual8086)) | Rflags.AlwaysOne;
            _state->FlagKind = FlagKind.Eager;
        }
        else
        {
            _state->Flags |= Rflags.Interrupt;
        }

        _state->Rip = to64 ? _state->Gpr[1] : (uint)_state->Gpr[1];
        ushort code = (ushort)((to64 ? selector + 16 : selector) | 3);
        const ushort User = 3 << SegmentAttributes.DplShift;
        SetFlat(&_state->Cs, code, (ushort)(FlatCode | User | (to64 ? SegmentAttributes.Long : SegmentAttributes.Big)));
        SetFlat(&_state->Ss, (ushort)((selector + 8) | 3), FlatData | User);
        _state->Cpl = 3;
        _mode.Update();
        _debug.TrapByNewFlags();
        _pending.LookAgain();
        return true;
    }

    /// <summary>SYSENTER: as on AMD processors, only outside long mode. False after a fault.</summary>
    public bool TrySysenter()
    {
        if (_state->IsLongMode)
        {
            return Faults.Refuse(_state, ExceptionVector.InvalidOpcode);
        }

        if (!_state->IsProtected || (_state->SysenterCs & 0xFFFC) == 0)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        ushort selector = (ushort)(_state->SysenterCs & 0xFFFC);
        _state->Flags &= ~(Rflags.Virtual8086 | Rflags.Interrupt | Rflags.Resume);
        SetFlat(&_state->Cs, selector, FlatCode | SegmentAttributes.Big);
        SetFlat(&_state->Ss, (ushort)(selector + 8), FlatData);
        _state->Gpr[4] = (uint)_state->SysenterEsp;
        _state->Rip = (uint)_state->SysenterEip;
        _state->Cpl = 0;
        _mode.Update();
        return true;
    }

    /// <summary>SYSEXIT: as on AMD processors, only outside long mode. False after a fault.</summary>
    public bool TrySysexit()
    {
        if (_state->IsLongMode)
        {
            return Faults.Refuse(_state, ExceptionVector.InvalidOpcode);
        }

        if (!_state->IsProtected || _state->Cpl != 0 || (_state->SysenterCs & 0xFFFC) == 0)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        int selector = (int)(_state->SysenterCs & 0xFFFC);
        const ushort User = 3 << SegmentAttributes.DplShift;
        SetFlat(&_state->Cs, (ushort)((selector + 16) | 3), FlatCode | User | SegmentAttributes.Big);
        SetFlat(&_state->Ss, (ushort)((selector + 24) | 3), FlatData | User);
        _state->Gpr[4] = (uint)_state->Gpr[1];
        _state->Rip = (uint)_state->Gpr[2];
        _state->Cpl = 3;
        _mode.Update();
        return true;
    }

    private static void SetFlat(Segment* segment, ushort selector, ushort attributes) =>
        *segment = new Segment { Selector = selector, Limit = uint.MaxValue, Attributes = attributes };
}
