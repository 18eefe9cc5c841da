using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>Control, debug and model-specific registers, TLB upkeep, time, CPUID, HLT. Sources: Intel SDM volume 2; AMD APM volume 3.</summary>
internal static unsafe class ControlInstructions
{
    private const ulong KvmNoSuchCall = unchecked((ulong)-1000L);

    /// <summary>Aux: number of the control register.</summary>
    public static Op* MovFromControl(CpuState* state, Op* op)
    {
        if (state->Cpl != 0)
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        ulong value = op->Aux switch
        {
            0 => state->Cr0,
            2 => state->Cr2,
            3 => state->Cr3,
            4 => state->Cr4,
            _ => SoftwareProcessor.From(state).Control.TaskPriority,
        };
        SystemOperand.WriteRegister(state, op->Dst, SystemOperand.Size(op), value);
        return op + 1;
    }

    public static Op* MovToControl(CpuState* state, Op* op)
    {
        if (state->Cpl != 0)
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        ulong next = Flow.NextRip(state, op);
        SystemOperand.TryRead(state, op, SystemOperand.Size(op), out ulong value);
        SoftwareProcessor processor = SoftwareProcessor.From(state);
        bool done = true;
        switch (op->Aux)
        {
            case 0:
                done = processor.Control.TryWriteCr0(value);
                break;
            case 2:
                state->Cr2 = value;
                break;
            case 3:
                done = processor.Control.TryWriteCr3(value);
                break;
            case 4:
                done = processor.Control.TryWriteCr4(value);
                break;
            default:
                if (value > 15)
                {
                    return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
                }

                processor.Control.TaskPriority = (byte)value;
                break;
        }

        return done ? LeaveTo(state, op, next) : Flow.Fault(state, op);
    }

    public static Op* MovFromDebug(CpuState* state, Op* op)
    {
        int index = op->Aux;
        if (!SoftwareProcessor.From(state).Debug.TryAccessDebugRegister(ref index))
        {
            return Flow.Fault(state, op);
        }

        SystemOperand.WriteRegister(state, op->Dst, SystemOperand.Size(op), state->Dr[index]);
        return op + 1;
    }

    public static Op* MovToDebug(CpuState* state, Op* op)
    {
        int index = op->Aux;
        SoftwareProcessor processor = SoftwareProcessor.From(state);
        SystemOperand.TryRead(state, op, SystemOperand.Size(op), out ulong value);
        return processor.Debug.TryAccessDebugRegister(ref index) && processor.Debug.TryWriteDebugRegister(index, value)
            ? Flow.Leave(state, op)
            : Flow.Fault(state, op);
    }

    public static Op* Lmsw(CpuState* state, Op* op)
    {
        if (state->Cpl != 0)
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        // LMSW changes PE (only to 1), MP, EM and TS.
        ulong next = Flow.NextRip(state, op);
        if (!SystemOperand.TryRead(state, op, 2, out ulong value))
        {
            return Flow.Fault(state, op);
        }

        ulong cr0 = (state->Cr0 & ~0xEUL) | (value & 0xF);
        return SoftwareProcessor.From(state).Control.TryWriteCr0(cr0) ? LeaveTo(state, op, next) : Flow.Fault(state, op);
    }

    public static Op* Smsw(CpuState* state, Op* op)
    {
        if (SegmentInstructions.IsPrevented(state))
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        int size = (op->Flags & SystemOperand.InMemory) != 0 ? 2 : SystemOperand.Size(op);
        return SystemOperand.TryWrite(state, op, size, state->Cr0) ? op + 1 : Flow.Fault(state, op);
    }

    public static Op* Clts(CpuState* state, Op* op)
    {
        if (state->Cpl != 0)
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        state->Cr0 &= ~Cr0.TaskSwitched;
        state->FpuTraps &= ~FpuTrap.TaskSwitched;
        return op + 1;
    }

    public static Op* Invlpg(CpuState* state, Op* op)
    {
        if (state->Cpl != 0)
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        // No segment check: the address is not accessed.
        ulong offset = Addressing.Truncate(OperandAddress.Offset(state, op), op->AddressSize);
        bool is64 = (state->Mode & CodeMode.BitnessMask) == CodeMode.Bits64;
        ulong linear = is64
            ? Addressing.SegmentBase64(state, op->Segment) + offset
            : (uint)(CpuState.SegmentOf(state, op->Segment)->Base + offset);
        SoftwareProcessor.From(state).Tlb.InvalidatePage(linear);
        return Flow.Leave(state, op);
    }

    public static Op* Invpcid(CpuState* state, Op* op)
    {
        if (state->Cpl != 0)
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        if (!SystemOperand.TryReadMemory(state, op, 0, 8, out ulong pcid) || !SystemOperand.TryReadMemory(state, op, 8, 8, out ulong linear))
        {
            return Flow.Fault(state, op);
        }

        bool is64 = (state->Mode & CodeMode.BitnessMask) == CodeMode.Bits64;
        ulong type = *(ulong*)CpuState.Register(state, op->Dst);
        type = is64 ? type : (uint)type;
        bool noPcids = (state->Cr4 & Cr4.PcidEnable) == 0;
        bool canonical = SoftwareProcessor.From(state).Control.IsLoadable(linear);
        if (type > 3 || (type < 2 && (pcid > 0xFFF || (noPcids && pcid != 0))) || (type == 0 && !canonical))
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        SoftwareProcessor processor = SoftwareProcessor.From(state);
        bool isCurrent = noPcids || pcid == (state->Cr3 & 0xFFF);

        // Flushing more than is asked for is always right.
        if (type == 2)
        {
            processor.Tlb.Flush();
        }
        else if (type == 0 && isCurrent)
        {
            processor.Tlb.InvalidatePage(linear);
        }
        else
        {
            processor.Tlb.FlushButGlobal();
        }

        return Flow.Leave(state, op);
    }

    /// <summary>INVD, WBINVD and WBNOINVD, which is WBINVD where CPUID does not show it: memory is always coherent here.</summary>
    public static Op* InvalidateCaches(CpuState* state, Op* op) =>
        state->Cpl != 0 ? Flow.Raise(state, op, ExceptionVector.GeneralProtection) : op + 1;

    public static Op* Rdmsr(CpuState* state, Op* op)
    {
        if (state->Cpl != 0 || !SoftwareProcessor.From(state).Msrs.TryReadMsr((uint)state->Gpr[1], out ulong value))
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        state->Gpr[0] = (uint)value;
        state->Gpr[2] = value >> 32;
        return op + 1;
    }

    public static Op* Wrmsr(CpuState* state, Op* op)
    {
        uint number = (uint)state->Gpr[1];
        ulong value = (uint)state->Gpr[0] | (state->Gpr[2] << 32);
        ulong next = Flow.NextRip(state, op);
        if (state->Cpl != 0 || !SoftwareProcessor.From(state).Msrs.TryWriteMsr(number, value))
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        return number is Msr.Efer or Msr.ApicBase ? LeaveTo(state, op, next) : op + 1;
    }

    public static Op* Rdtsc(CpuState* state, Op* op)
    {
        if ((state->Cr4 & Cr4.TimeStampDisable) != 0 && state->Cpl != 0)
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        ulong tsc = SoftwareProcessor.From(state).Tsc.Read();
        state->Gpr[0] = (uint)tsc;
        state->Gpr[2] = tsc >> 32;
        return op + 1;
    }

    public static Op* Rdtscp(CpuState* state, Op* op)
    {
        Op* next = Rdtsc(state, op);
        if (next != null)
        {
            state->Gpr[1] = state->TscAux;
        }

        return next;
    }

    /// <summary>RDPMC of the four counters that every AMD64 processor has; these count nothing (see <see cref="Msr.PerfCounter0"/>).</summary>
    public static Op* Rdpmc(CpuState* state, Op* op)
    {
        bool mayRead = state->Cpl == 0 || (state->Cr4 & Cr4.PerformanceCounterEnable) != 0;
        if (!mayRead || (uint)state->Gpr[1] >= Msr.PerfCounterCount)
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        state->Gpr[0] = 0;
        state->Gpr[2] = 0;
        return op + 1;
    }

    public static Op* Cpuid(CpuState* state, Op* op)
    {
        SoftwareProcessor processor = SoftwareProcessor.From(state);
        CpuidResult result = processor.Control.QueryCpuid((uint)state->Gpr[0], (uint)state->Gpr[1]);
        state->Gpr[0] = result.Eax;
        state->Gpr[3] = result.Ebx;
        state->Gpr[1] = result.Ecx;
        state->Gpr[2] = result.Edx;
        return op + 1;
    }

    public static Op* Xgetbv(CpuState* state, Op* op)
    {
        if ((state->Cr4 & Cr4.OsXsave) == 0)
        {
            return Flow.Raise(state, op, ExceptionVector.InvalidOpcode);
        }

        if ((uint)state->Gpr[1] != 0)
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        state->Gpr[0] = (uint)state->Xcr0;
        state->Gpr[2] = state->Xcr0 >> 32;
        return op + 1;
    }

    public static Op* Xsetbv(CpuState* state, Op* op)
    {
        if ((state->Cr4 & Cr4.OsXsave) == 0)
        {
            return Flow.Raise(state, op, ExceptionVector.InvalidOpcode);
        }

        if (state->Cpl != 0)
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        ulong value = (uint)state->Gpr[0] | (state->Gpr[2] << 32);
        return SoftwareProcessor.From(state).Control.TryWriteXcr0((uint)state->Gpr[1], value) ? Flow.Leave(state, op) : Flow.Fault(state, op);
    }

    /// <summary>RDPKRU, at any level: ECX must be 0.</summary>
    public static Op* Rdpkru(CpuState* state, Op* op)
    {
        if ((state->Cr4 & Cr4.ProtectionKeyEnable) == 0)
        {
            return Flow.Raise(state, op, ExceptionVector.InvalidOpcode);
        }

        if ((uint)state->Gpr[1] != 0)
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        state->Gpr[0] = state->Pkru;
        state->Gpr[2] = 0;
        return op + 1;
    }

    /// <summary>WRPKRU, at any level: ECX and EDX must be 0.</summary>
    public static Op* Wrpkru(CpuState* state, Op* op)
    {
        if ((state->Cr4 & Cr4.ProtectionKeyEnable) == 0)
        {
            return Flow.Raise(state, op, ExceptionVector.InvalidOpcode);
        }

        if ((uint)state->Gpr[1] != 0 || (uint)state->Gpr[2] != 0)
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        SoftwareProcessor.From(state).Tlb.SetPkru((uint)state->Gpr[0]);
        return op + 1;
    }

    public static Op* Hlt(CpuState* state, Op* op)
    {
        if (state->Cpl != 0)
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        SoftwareProcessor processor = SoftwareProcessor.From(state);
        processor.Trace.CountHalt();
        processor.Pending.Halt();
        return Flow.Leave(state, op);
    }

    /// <summary>VMCALL and VMMCALL: none of KVM's hypercalls is offered in CPUID, so each answers "no such call".</summary>
    public static Op* Hypercall(CpuState* state, Op* op)
    {
        state->Gpr[0] = (state->Mode & CodeMode.BitnessMask) == CodeMode.Bits64 ? KvmNoSuchCall : KvmNoSuchCall & uint.MaxValue;
        return op + 1;
    }

    /// <summary>CLFLUSH and CLFLUSHOPT: a read as far as rights go.</summary>
    public static Op* FlushLine(CpuState* state, Op* op)
    {
        byte ignored;
        return SystemOperand.TryGetAddress(state, op, 0, 1, false, out ulong linear) && GuestAccess.ReadBytes(state, linear, &ignored, 1)
            ? op + 1
            : Flow.Fault(state, op);
    }

    /// <summary>As <see cref="Flow.Leave"/>, with the next address computed before the mode changed.</summary>
    private static Op* LeaveTo(CpuState* state, Op* op, ulong next)
    {
        state->Rip = next;
        state->InstructionCount += op->Count;
        return null;
    }
}
