using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>
/// x87 handlers. The host's x87 runs each instruction on the guest's whole state, so rounding, precision, stack faults,
/// condition codes and the responses to unmasked exceptions are its own. The pointers to the last instruction and
/// operand are the guest's and kept here: in the 64-bit FXSAVE layout when set in 64-bit mode, else in the 32-bit one.
/// </summary>
/// <remarks>
/// With CR0.NE = 0 a pending exception raises #MF as with NE = 1: the FERR# line and IRQ 13 are not built.
/// </remarks>
internal static unsafe class X87Ops
{
    /// <summary>Raises a pending exception first.</summary>
    public const ushort Waits = 1 << 6;

    /// <summary>Not a control instruction: updates FOP, FIP, FDP.</summary>
    public const ushort Data = 1 << 7;

    public const ushort ClearsPointers = 1 << 8;

    public const int FxOpcode = 6;
    public const int FxInstruction = 8;
    public const int FxData = 16;

    /// <summary>IE, DE, ZE, OE, UE: unmasked, each keeps a store from happening; PE does not.</summary>
    private const int StoppingExceptions = 0x1F;

    // SAFETY: thunks get the aligned FxArea with valid MXCSR, and memory with as many bytes as they use; no exception is
    // pending when a waiting instruction is run (ThunkBuilder).

    public static Op* Run(CpuState* state, Op* op)
    {
        int fault = Unavailability(state, op->Flags);
        if (fault >= 0)
        {
            return Flow.Raise(state, op, fault);
        }

        byte* memory = null;
        ulong linear = 0;
        if (op->Src != 0)
        {
            if (!AnyAddress.TryGet(state, op, op->Src, op->Dst != 0, out linear))
            {
                return Flow.Fault(state, op);
            }

            memory = op->Dst == 0 ? VectorMemory.Read(state, linear, op->Src)
                : VectorMemory.ProbeWrite(state, linear, op->Src) ? state->VectorScratch
                : null;
            if (memory == null)
            {
                return Flow.Fault(state, op);
            }
        }

        if ((op->Flags & VectorTraits.FlagsIn) != 0)
        {
            LazyFlags.Materialize(state);
        }

        ulong flags = Invoke(state, op->Imm, memory);
        if ((op->Flags & VectorTraits.FlagsOut) != 0)
        {
            LazyFlags.SetArithmetic(state, flags);
        }

        UpdatePointers(state, op);
        ushort* control = (ushort*)(state->FxArea + MmxState.FxControl);
        if (op->Dst != 0 && (control[1] & ~control[0] & StoppingExceptions) == 0)
        {
            FinishWrite(state, linear, memory, op->Src);
        }

        return op + 1;
    }

    /// <summary>WAIT: only raises what is pending.</summary>
    public static Op* Wait(CpuState* state, Op* op)
    {
        const ulong Stops = Cr0.MonitorCoprocessor | Cr0.TaskSwitched;
        if ((state->Cr0 & Stops) == Stops)
        {
            return Flow.Raise(state, op, ExceptionVector.DeviceNotAvailable);
        }

        return MmxState.IsX87Pending(state) ? Flow.Raise(state, op, ExceptionVector.FloatingPoint) : op + 1;
    }

    public static Op* StoreStatusToAx(CpuState* state, Op* op)
    {
        if (Unavailability(state, 0) is var fault and >= 0)
        {
            return Flow.Raise(state, op, fault);
        }

        *(ushort*)state->Gpr = *(ushort*)(state->FxArea + MmxState.FxStatus);
        return op + 1;
    }

    /// <summary>FNSTSW and FNSTCW to memory.</summary>
    public static Op* StoreWord(CpuState* state, Op* op)
    {
        if (Unavailability(state, 0) is var fault and >= 0)
        {
            return Flow.Raise(state, op, fault);
        }

        return AnyAddress.TryGet(state, op, 2, true, out ulong linear)
            && GuestAccess.Write<W16>(state, linear, *(ushort*)(state->FxArea + op->Aux))
            ? op + 1
            : Flow.Fault(state, op);
    }

    /// <summary>FNENI, FNDISI, FNSETPM: no operation since the 387.</summary>
    public static Op* Nothing(CpuState* state, Op* op) =>
        Unavailability(state, 0) is var fault and >= 0 ? Flow.Raise(state, op, fault) : op + 1;

    /// <summary>Vector of #NM or #MF, or -1.</summary>
    public static int Unavailability(CpuState* state, uint flags)
    {
        if ((state->FpuTraps & (FpuTrap.TaskSwitched | FpuTrap.Emulation)) != 0)
        {
            return ExceptionVector.DeviceNotAvailable;
        }

        return (flags & Waits) != 0 && MmxState.IsX87Pending(state) ? ExceptionVector.FloatingPoint : -1;
    }

    /// <summary>Runs an x87 thunk and keeps the host's addresses out of the guest's pointers.</summary>
    public static ulong Invoke(CpuState* state, ulong thunk, byte* memory)
    {
        byte* area = state->FxArea;
        ushort opcode = *(ushort*)(area + FxOpcode);
        ulong instruction = *(ulong*)(area + FxInstruction);
        ulong data = *(ulong*)(area + FxData);
        *(uint*)(area + CpuState.FxMxcsr) &= ~VectorOps.MxcsrReserved;

        // The host must not see ES where no flag is unmasked: a waiting instruction could trap there.
        ushort* status = (ushort*)(area + MmxState.FxStatus);
        *status = (ushort)((*status & 0x7F7F) | (MmxState.IsX87Pending(state) ? 0x8080 : 0));
        ulong flags = ((delegate* unmanaged[SuppressGCTransition]<byte*, byte*, byte*, CpuState*, ulong>)thunk)(area, memory, null, state);
        SetPointers(state, opcode, instruction, data);
        return flags;
    }

    public static void SetPointers(CpuState* state, ushort opcode, ulong instruction, ulong data)
    {
        *(ushort*)(state->FxArea + FxOpcode) = opcode;
        *(ulong*)(state->FxArea + FxInstruction) = instruction;
        *(ulong*)(state->FxArea + FxData) = data;
    }

    /// <summary>
    /// Writes what <see cref="VectorMemory.ProbeWrite"/> has found writable. Another processor may have changed the page
    /// tables since; the write then vanishes, for the instruction has run.
    /// </summary>
    public static void FinishWrite(CpuState* state, ulong linear, byte* buffer, int size)
    {
        if (!GuestAccess.WriteBytes(state, linear, buffer, size))
        {
            state->FaultVector = -1;
        }
    }

    /// <summary>Notes where the instruction and its operand are.</summary>
    public static void UpdatePointers(CpuState* state, Op* op)
    {
        if ((op->Flags & ClearsPointers) != 0)
        {
            SetPointers(state, 0, 0, 0);
        }

        if ((op->Flags & Data) == 0)
        {
            return;
        }

        bool is64 = (state->Mode & CodeMode.BitnessMask) == CodeMode.Bits64;
        ulong instruction = state->Rip + op->IpOffset;
        *(ushort*)(state->FxArea + FxOpcode) = op->Aux;
        *(ulong*)(state->FxArea + FxInstruction) = is64 ? instruction : (uint)instruction | ((ulong)state->Cs.Selector << 32);
        if (op->Src != 0)
        {
            ulong offset = Addressing.Truncate(OperandAddress.Offset(state, op), op->AddressSize);
            ulong selector = CpuState.SegmentOf(state, op->Segment)->Selector;
            *(ulong*)(state->FxArea + FxData) = is64 ? offset : (uint)offset | (selector << 32);
        }
    }
}
