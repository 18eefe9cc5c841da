using System.Runtime.CompilerServices;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>Bits of <see cref="Op.Flags"/> of the ops that run a thunk of <see cref="VexThunkBuilder"/>.</summary>
internal static class VexTraits
{
    /// <summary>Two bits: which operand is in memory, when one is.</summary>
    public const int MemoryShift = 6;

    /// <summary>The memory operand is the destination.</summary>
    public const ushort Store = 1 << 8;

    public const ushort Mxcsr = 1 << 9;

    public const ushort FlagsOut = 1 << 10;

    /// <summary>The memory operand must lie on a multiple of its size.</summary>
    public const ushort Aligned = 1 << 11;

    /// <summary>Operand 0 is a vector register.</summary>
    public const ushort VectorFirst = 1 << 12;

    /// <summary>The result is in half precision, where flush-to-zero does not act: VCVTPS2PH.</summary>
    public const ushort Halves = 1 << 13;
}

/// <summary>Where the operands of a VEX instruction stand; a vector register by its lower half.</summary>
internal unsafe struct VexOperands
{
    public byte* First;
    public byte* Second;
    public byte* Third;
    public byte* Fourth;
}

/// <summary>
/// Handlers of VEX-encoded vector instructions. In ops that run a thunk Imm is the thunk, Target holds the offsets of operands
/// 0 (low half) and 1 (high half) in <see cref="CpuState"/>, Aux that of operand 2, Dst the number of the register that is
/// operand 3, Src the bytes of the memory operand or 0.
/// </summary>
internal static unsafe class VexOps
{
    private const ulong Enabled = XsaveLayout.Sse | XsaveLayout.Avx;
    private const uint MxcsrMasks = 0x1F80;

    // SAFETY for all handlers: offsets were made from register numbers by the translator, memory operands come from
    // checked accessors with as many bytes as the instruction uses, and thunks neither fault nor trap (VexThunkBuilder).

    public static Op* Run(CpuState* state, Op* op)
    {
        if (Unavailability(state) is var fault and >= 0)
        {
            return Flow.Raise(state, op, fault);
        }

        VexOperands operands = new()
        {
            First = (byte*)state + (ushort)op->Target,
            Second = (byte*)state + ((uint)op->Target >> 16),
            Third = (byte*)state + op->Aux,
            Fourth = CpuState.Xmm(state, op->Dst),
        };
        ulong linear = 0;
        if (op->Src != 0 && !TryGetMemory(state, op, ref operands, out linear))
        {
            return Flow.Fault(state, op);
        }

        ulong flags;
        uint mxcsr = *(uint*)(state->FxArea + CpuState.FxMxcsr);
        if ((op->Flags & VexTraits.Mxcsr) != 0 && (mxcsr & (MxcsrMasks | VectorOps.MxcsrReserved)) != MxcsrMasks)
        {
            if (!SseExceptions.TryRun(state, op, operands, out flags))
            {
                return Flow.Fault(state, op);
            }
        }
        else
        {
            flags = Invoke(state, op, operands);
        }

        if ((op->Flags & VexTraits.Store) != 0)
        {
            X87Ops.FinishWrite(state, linear, operands.First, op->Src);
        }

        if ((op->Flags & VexTraits.FlagsOut) != 0)
        {
            LazyFlags.SetArithmetic(state, flags);
        }

        return op + 1;
    }

    public static ulong Invoke(CpuState* state, Op* op, in VexOperands operands) =>
        ((delegate* unmanaged[SuppressGCTransition]<byte*, byte*, byte*, CpuState*, byte*, ulong>)op->Imm)(
            operands.First, operands.Second, operands.Third, state, operands.Fourth);

    /// <summary>
    /// Vector of the exception that a VEX instruction on vector registers raises now, or -1. CR0.EM and CR4.OSFXSR do not matter.
    /// Source: Intel SDM volume 2, section 2.4, "Exceptions Type 4" and its like.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int Unavailability(CpuState* state)
    {
        if ((state->Cr4 & Cr4.OsXsave) == 0 || (state->Xcr0 & Enabled) != Enabled)
        {
            return ExceptionVector.InvalidOpcode;
        }

        return (state->FpuTraps & FpuTrap.TaskSwitched) != 0 ? ExceptionVector.DeviceNotAvailable : -1;
    }

    public static Op* ZeroUpper(CpuState* state, Op* op)
    {
        if (Unavailability(state) is var fault and >= 0)
        {
            return Flow.Raise(state, op, fault);
        }

        // SAFETY: at most the 16 upper halves.
        Unsafe.InitBlockUnaligned(state->YmmHigh, 0, 16 * VectorCount(state));
        return op + 1;
    }

    public static Op* ZeroAll(CpuState* state, Op* op)
    {
        if (Unavailability(state) is var fault and >= 0)
        {
            return Flow.Raise(state, op, fault);
        }

        // SAFETY: at most the 16 halves of each kind.
        Unsafe.InitBlockUnaligned(state->YmmHigh, 0, 16 * VectorCount(state));
        Unsafe.InitBlockUnaligned(CpuState.Xmm(state, 0), 0, 16 * VectorCount(state));
        return op + 1;
    }

    public static Op* LoadMxcsr(CpuState* state, Op* op) =>
        Unavailability(state) is var fault and >= 0 ? Flow.Raise(state, op, fault) : FxSave.SetMxcsr(state, op);

    public static Op* StoreMxcsr(CpuState* state, Op* op) =>
        Unavailability(state) is var fault and >= 0 ? Flow.Raise(state, op, fault) : FxSave.GetMxcsr(state, op);

    /// <summary>XMM8 to XMM15 exist only in 64-bit mode.</summary>
    public static uint VectorCount(CpuState* state) => (state->Mode & CodeMode.BitnessMask) == CodeMode.Bits64 ? 16u : 8u;

    private static bool TryGetMemory(CpuState* state, Op* op, ref VexOperands operands, out ulong linear)
    {
        bool stores = (op->Flags & VexTraits.Store) != 0;
        if (!AnyAddress.TryGet(state, op, op->Src, stores, out linear))
        {
            return false;
        }

        if ((op->Flags & VexTraits.Aligned) != 0 && (linear & (ulong)(op->Src - 1)) != 0)
        {
            Faults.Raise(state, ExceptionVector.GeneralProtection, 0);
            return false;
        }

        byte* memory = !stores ? VectorMemory.Read(state, linear, op->Src)
            : VectorMemory.ProbeWrite(state, linear, op->Src) ? state->VectorScratch
            : null;
        switch ((op->Flags >> VexTraits.MemoryShift) & 3)
        {
            case 0:
                operands.First = memory;
                break;
            case 1:
                operands.Second = memory;
                break;
            default:
                operands.Third = memory;
                break;
        }

        return memory != null;
    }
}
