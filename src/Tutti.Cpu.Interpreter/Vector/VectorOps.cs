using System.Runtime.CompilerServices;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>Bits of <see cref="Op.Flags"/> of the ops that run a thunk.</summary>
internal static class VectorTraits
{
    /// <summary>#UD and #NM rules of SSE.</summary>
    public const ushort Sse = 1 << 6;

    /// <summary>Touches MMX registers: #UD and #NM rules of MMX, pending x87 exceptions, MMX state.</summary>
    public const ushort Mmx = 1 << 7;

    /// <summary>Operand 0 is an MMX register that is written.</summary>
    public const ushort MmxResult = 1 << 8;

    public const ushort Mxcsr = 1 << 9;
    public const ushort FlagsIn = 1 << 10;
    public const ushort FlagsOut = 1 << 11;

    /// <summary>The memory operand must lie on a 16-byte boundary.</summary>
    public const ushort Aligned = 1 << 12;

    /// <summary>Operand 1, not operand 2, is the r/m operand that may be in memory.</summary>
    public const ushort MemorySecond = 1 << 13;

    /// <summary>Waits: a pending x87 exception is raised first, although no MMX register is touched.</summary>
    public const ushort CheckX87 = 1 << 14;
}

/// <summary>
/// Handlers that run thunks. In their ops Imm is the thunk, Target holds the offsets of operands 0 (low half) and 1 (high
/// half) in <see cref="CpuState"/>, Aux that of operand 2, Src the bytes of the memory operand or 0.
/// </summary>
internal static unsafe class VectorOps
{
    private const uint MxcsrMasks = 0x1F80;

    /// <summary>MXCSR bits that must be clear; also those that the host must never get to see set.</summary>
    public const uint MxcsrReserved = 0xFFFF_0000;

    // SAFETY for all handlers: offsets were made from register numbers by the translator, memory operands come from
    // checked accessors with as many bytes as the instruction reads, and thunks neither fault nor trap (ThunkBuilder).

    /// <summary>SSE without flags or MXCSR, register operands: the hot one.</summary>
    public static Op* SseRegister(CpuState* state, Op* op)
    {
        if (state->FpuTraps != 0)
        {
            return SseUnavailable(state, op);
        }

        // SAFETY: Imm of a vector op is a thunk that lives as long as the process; operands are registers or checked memory.
        ((delegate* unmanaged[SuppressGCTransition]<byte*, byte*, byte*, CpuState*, ulong>)op->Imm)(
            Operand0(state, op), Operand1(state, op), null, state);
        return op + 1;
    }

    /// <summary>SSE without flags or MXCSR, operand 1 in memory.</summary>
    public static Op* SseMemory<TAddress>(CpuState* state, Op* op)
        where TAddress : struct, IAddress
    {
        if (state->FpuTraps != 0)
        {
            return SseUnavailable(state, op);
        }

        if (!TAddress.TryGet(state, op, op->Src, false, out ulong linear))
        {
            return Flow.Fault(state, op);
        }

        if ((linear & 15) != 0 && (op->Flags & VectorTraits.Aligned) != 0)
        {
            return Misaligned(state, op);
        }

        byte* memory = VectorMemory.Read(state, linear, op->Src);
        if (memory == null)
        {
            return Flow.Fault(state, op);
        }

        ((delegate* unmanaged[SuppressGCTransition]<byte*, byte*, byte*, CpuState*, ulong>)op->Imm)(
            Operand0(state, op), memory, null, state);
        return op + 1;
    }

    /// <summary>SSE floating point, register operands.</summary>
    public static Op* FloatRegister(CpuState* state, Op* op)
    {
        if (state->FpuTraps != 0)
        {
            return SseUnavailable(state, op);
        }

        return RunFloat(state, op, Operand1(state, op));
    }

    /// <summary>SSE floating point, operand 1 in memory.</summary>
    public static Op* FloatMemory<TAddress>(CpuState* state, Op* op)
        where TAddress : struct, IAddress
    {
        if (state->FpuTraps != 0)
        {
            return SseUnavailable(state, op);
        }

        if (!TAddress.TryGet(state, op, op->Src, false, out ulong linear))
        {
            return Flow.Fault(state, op);
        }

        if ((linear & 15) != 0 && (op->Flags & VectorTraits.Aligned) != 0)
        {
            return Misaligned(state, op);
        }

        byte* memory = VectorMemory.Read(state, linear, op->Src);
        return memory == null ? Flow.Fault(state, op) : RunFloat(state, op, memory);
    }

    /// <summary>Everything else: flags, MMX, general registers.</summary>
    public static Op* General(CpuState* state, Op* op)
    {
        uint traits = op->Flags;
        if ((traits & (VectorTraits.Sse | VectorTraits.Mmx)) != 0)
        {
            int fault = Unavailability(state, traits);
            if (fault >= 0)
            {
                return Flow.Raise(state, op, fault);
            }
        }

        byte* second = Operand1(state, op);
        byte* third = (byte*)state + op->Aux;
        if (op->Src != 0)
        {
            if (!AnyAddress.TryGet(state, op, op->Src, false, out ulong linear))
            {
                return Flow.Fault(state, op);
            }

            if ((linear & 15) != 0 && (traits & VectorTraits.Aligned) != 0)
            {
                return Misaligned(state, op);
            }

            byte* memory = VectorMemory.Read(state, linear, op->Src);
            if (memory == null)
            {
                return Flow.Fault(state, op);
            }

            second = (traits & VectorTraits.MemorySecond) != 0 ? memory : second;
            third = (traits & VectorTraits.MemorySecond) == 0 ? memory : third;
        }

        if ((traits & VectorTraits.Mmx) != 0)
        {
            MmxState.Enter(state);
        }

        if ((traits & VectorTraits.FlagsIn) != 0)
        {
            LazyFlags.Materialize(state);
        }

        if ((traits & VectorTraits.Mxcsr) != 0)
        {
            return RunFloat(state, op, second);
        }

        ulong flags = ((delegate* unmanaged[SuppressGCTransition]<byte*, byte*, byte*, CpuState*, ulong>)op->Imm)(
            Operand0(state, op), second, third, state);
        Finish(state, op, flags);
        return op + 1;
    }

    /// <summary>Does nothing: hints, fences (guest memory is host memory, which the emulated order already covers).</summary>
    public static Op* Nothing(CpuState* state, Op* op) => op + 1;

    /// <summary>A fence that orders this processor's accesses before and behind it for all others.</summary>
    public static Op* Fence(CpuState* state, Op* op)
    {
        Interlocked.MemoryBarrier();
        return op + 1;
    }

    /// <summary>The #UD or #NM of an SSE instruction while <see cref="CpuState.FpuTraps"/> is not 0.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public static Op* SseUnavailable(CpuState* state, Op* op) =>
        Flow.Raise(state, op, Unavailability(state, VectorTraits.Sse));

    /// <summary>#GP(0): a 16-byte operand off its boundary. Also for operands in the stack segment.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public static Op* Misaligned(CpuState* state, Op* op) => Flow.Raise(state, op, ExceptionVector.GeneralProtection);

    /// <summary>Vector of the exception that availability rules raise, or -1. Source: Intel SDM volume 2, section 2.4 and 2.5.</summary>
    public static int Unavailability(CpuState* state, uint traits)
    {
        uint invalid = (traits & VectorTraits.Sse) != 0 ? FpuTrap.Emulation | FpuTrap.NoOsFxsr : FpuTrap.Emulation;
        if ((state->FpuTraps & invalid) != 0)
        {
            return ExceptionVector.InvalidOpcode;
        }

        if ((state->FpuTraps & FpuTrap.TaskSwitched) != 0)
        {
            return ExceptionVector.DeviceNotAvailable;
        }

        bool waits = (traits & (VectorTraits.Mmx | VectorTraits.CheckX87)) != 0;
        return waits && MmxState.IsX87Pending(state) ? ExceptionVector.FloatingPoint : -1;
    }

    /// <summary>Gives flags to the guest and marks an MMX result.</summary>
    public static void Finish(CpuState* state, Op* op, ulong flags)
    {
        if ((op->Flags & VectorTraits.FlagsOut) != 0)
        {
            LazyFlags.SetArithmetic(state, flags);
        }

        if ((op->Flags & VectorTraits.MmxResult) != 0)
        {
            *(ushort*)(Operand0(state, op) + 8) = 0xFFFF;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static byte* Operand0(CpuState* state, Op* op) => (byte*)state + (ushort)op->Target;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static byte* Operand1(CpuState* state, Op* op) => (byte*)state + ((uint)op->Target >> 16);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Op* RunFloat(CpuState* state, Op* op, byte* second)
    {
        uint mxcsr = *(uint*)(state->FxArea + CpuState.FxMxcsr);
        if ((mxcsr & (MxcsrMasks | MxcsrReserved)) != MxcsrMasks)
        {
            return SseExceptions.Run(state, op, second);
        }

        ulong flags = ((delegate* unmanaged[SuppressGCTransition]<byte*, byte*, byte*, CpuState*, ulong>)op->Imm)(
            Operand0(state, op), second, null, state);
        if ((op->Flags & (VectorTraits.FlagsOut | VectorTraits.MmxResult)) != 0)
        {
            Finish(state, op, flags);
        }

        return op + 1;
    }
}
