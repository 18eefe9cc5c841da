using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>LLDT, LTR, and what SYSCALL, SYSENTER and their returns load without descriptors.</summary>
internal sealed unsafe partial class SoftwareProcessor
{
    /// <summary>Flat code: present, DPL 0, readable, accessed; 4 KiB granularity.</summary>
    private const ushort FlatCode = 0x809B;

    private const ushort FlatData = 0xC093;

    public bool TryLoadLdtr(ushort selector)
    {
        if ((selector & 0xFFFC) == 0)
        {
            ClearSegment(&State->Ldtr, selector);
            return true;
        }

        if (!TryReadSystemDescriptor(selector, out Descriptor descriptor, out ulong address, out ulong tableBase))
        {
            return false;
        }

        uint error = selector & 0xFFFCu;
        if (!descriptor.IsSystem || descriptor.Type != SystemDescriptorType.LocalDescriptorTable)
        {
            return Refuse(ExceptionVector.GeneralProtection, error);
        }

        if (!descriptor.Present)
        {
            return Refuse(ExceptionVector.SegmentNotPresent, error);
        }

        FillSegment(&State->Ldtr, selector, descriptor);
        State->Ldtr.Base = tableBase;
        return true;
    }

    public bool TryLoadTr(ushort selector)
    {
        if ((selector & 0xFFFC) == 0)
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        if (!TryReadSystemDescriptor(selector, out Descriptor descriptor, out ulong address, out ulong tableBase))
        {
            return false;
        }

        uint error = selector & 0xFFFCu;
        bool is16 = descriptor.Type == SystemDescriptorType.AvailableTss16 && !IsLongMode;
        if (!descriptor.IsSystem || (descriptor.Type != SystemDescriptorType.AvailableTss && !is16))
        {
            return Refuse(ExceptionVector.GeneralProtection, error);
        }

        if (!descriptor.Present)
        {
            return Refuse(ExceptionVector.SegmentNotPresent, error);
        }

        // Busy is bit 1 of the type.
        descriptor = new Descriptor(descriptor.Raw | (1UL << 41));
        if (!TryWriteTable(address + 5, (byte)(descriptor.Raw >> 40)))
        {
            return false;
        }

        FillSegment(&State->Tr, selector, descriptor);
        State->Tr.Base = tableBase;
        return true;
    }

    /// <summary>Reads an LDT or TSS descriptor from the GDT, 16 bytes in long mode.</summary>
    private bool TryReadSystemDescriptor(ushort selector, out Descriptor descriptor, out ulong address, out ulong segmentBase)
    {
        descriptor = default;
        address = 0;
        segmentBase = 0;
        uint error = selector & 0xFFFCu;
        bool isLong = IsLongMode;
        if ((selector & 4) != 0 || (selector & 0xFFF8u) + (isLong ? 15u : 7u) > State->Gdtr.Limit)
        {
            return Refuse(ExceptionVector.GeneralProtection, error);
        }

        if (!TryReadDescriptor(selector, ExceptionVector.GeneralProtection, 0, out descriptor, out address))
        {
            return false;
        }

        segmentBase = descriptor.Base;
        if (isLong)
        {
            if (!TryReadTable(address + 8, out ulong upper))
            {
                return false;
            }

            segmentBase |= upper << 32;
            if (!IsLoadable(segmentBase))
            {
                return Refuse(ExceptionVector.GeneralProtection, error);
            }
        }

        return true;
    }

    /// <summary>SYSCALL; false after #UD. Source: AMD APM volume 3, "SYSCALL".</summary>
    public bool TrySyscall(ulong nextRip)
    {
        if ((State->Efer & Efer.SyscallEnable) == 0 || !IsProtected)
        {
            return Refuse(ExceptionVector.InvalidOpcode);
        }

        ushort selector = (ushort)((State->Star >> 32) & 0xFFFC);
        bool isLong = IsLongMode;
        if (isLong)
        {
            ulong target = Is64BitMode ? State->Lstar : State->Cstar;
            ulong flags = LazyFlags.Get(State) & ~Rflags.Resume;
            State->Gpr[1] = nextRip;
            State->Gpr[11] = flags;
            State->Rip = target;
            State->Flags = ((flags & ~State->Sfmask) | Rflags.AlwaysOne) & ~Rflags.Resume;
        }
        else
        {
            State->Gpr[1] = (uint)nextRip;
            State->Rip = (uint)State->Star;
            State->Flags = LazyFlags.Get(State) & ~(Rflags.Interrupt | Rflags.Resume | Rflags.Virtual8086);
        }

        SetFlat(&State->Cs, selector, (ushort)(FlatCode | (isLong ? SegmentAttributes.Long : SegmentAttributes.Big)));
        SetFlat(&State->Ss, (ushort)(selector + 8), FlatData);
        State->Cpl = 0;
        UpdateMode();
        TrapByNewFlags();
        return true;
    }

    /// <summary>Makes CS, SS and CPL what SYSCALL (0) or SYSRET to 64-bit code (3) has made them; RIP and flags are set already.</summary>
    public void SetFlatPrivilege(int cpl)
    {
        ulong star = State->Star;
        ushort code = cpl == 0 ? (ushort)((star >> 32) & 0xFFFC) : (ushort)(((star >> 48) + 16) | 3);
        ushort stack = cpl == 0 ? (ushort)(code + 8) : (ushort)(((star >> 48) + 8) | 3);
        ushort level = (ushort)(cpl << SegmentAttributes.DplShift);
        SetFlat(&State->Cs, code, (ushort)(FlatCode | SegmentAttributes.Long | level));
        SetFlat(&State->Ss, stack, (ushort)(FlatData | level));
        State->Cpl = cpl;
        UpdateMode();
    }

    /// <summary>SYSRET; <paramref name="size"/> 8 returns to 64-bit mode. False after a fault.</summary>
    public bool TrySysret(int size)
    {
        if ((State->Efer & Efer.SyscallEnable) == 0 || !IsProtected)
        {
            return Refuse(ExceptionVector.InvalidOpcode);
        }

        if (State->Cpl != 0)
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        // As on AMD processors, RCX is not looked at here: what is not canonical faults at level 3, when it is fetched.
        bool to64 = size == 8;

        ushort selector = (ushort)(State->Star >> 48);
        bool isLong = IsLongMode;
        if (isLong)
        {
            State->Flags = (State->Gpr[11] & Rflags.Defined & ~(Rflags.Resume | Rflags.Virtual8086)) | Rflags.AlwaysOne;
            State->FlagKind = FlagKind.Eager;
        }
        else
        {
            State->Flags |= Rflags.Interrupt;
        }

        State->Rip = to64 ? State->Gpr[1] : (uint)State->Gpr[1];
        ushort code = (ushort)((to64 ? selector + 16 : selector) | 3);
        const ushort User = 3 << SegmentAttributes.DplShift;
        SetFlat(&State->Cs, code, (ushort)(FlatCode | User | (to64 ? SegmentAttributes.Long : SegmentAttributes.Big)));
        SetFlat(&State->Ss, (ushort)((selector + 8) | 3), FlatData | User);
        State->Cpl = 3;
        UpdateMode();
        TrapByNewFlags();
        InterruptsEnabled();
        return true;
    }

    /// <summary>SYSENTER: as on AMD processors, only outside long mode. False after a fault.</summary>
    public bool TrySysenter()
    {
        if (IsLongMode)
        {
            return Refuse(ExceptionVector.InvalidOpcode);
        }

        if (!IsProtected || (State->SysenterCs & 0xFFFC) == 0)
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        ushort selector = (ushort)(State->SysenterCs & 0xFFFC);
        State->Flags &= ~(Rflags.Virtual8086 | Rflags.Interrupt | Rflags.Resume);
        SetFlat(&State->Cs, selector, FlatCode | SegmentAttributes.Big);
        SetFlat(&State->Ss, (ushort)(selector + 8), FlatData);
        State->Gpr[4] = (uint)State->SysenterEsp;
        State->Rip = (uint)State->SysenterEip;
        State->Cpl = 0;
        UpdateMode();
        return true;
    }

    /// <summary>SYSEXIT: as on AMD processors, only outside long mode. False after a fault.</summary>
    public bool TrySysexit()
    {
        if (IsLongMode)
        {
            return Refuse(ExceptionVector.InvalidOpcode);
        }

        if (!IsProtected || State->Cpl != 0 || (State->SysenterCs & 0xFFFC) == 0)
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        int selector = (int)(State->SysenterCs & 0xFFFC);
        const ushort User = 3 << SegmentAttributes.DplShift;
        SetFlat(&State->Cs, (ushort)((selector + 16) | 3), FlatCode | User | SegmentAttributes.Big);
        SetFlat(&State->Ss, (ushort)((selector + 24) | 3), FlatData | User);
        State->Gpr[4] = (uint)State->Gpr[1];
        State->Rip = (uint)State->Gpr[2];
        State->Cpl = 3;
        UpdateMode();
        return true;
    }

    private static void SetFlat(Segment* segment, ushort selector, ushort attributes) =>
        *segment = new Segment { Selector = selector, Limit = uint.MaxValue, Attributes = attributes };
}
