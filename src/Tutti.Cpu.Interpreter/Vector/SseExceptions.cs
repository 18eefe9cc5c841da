using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>
/// SSE floating point while some exception is unmasked. The host runs the instruction with all masked; what it reports
/// decides whether the guest gets the result or an exception. Source: Intel SDM volume 1, sections 11.5.2 and 11.5.3.
/// </summary>
/// <remarks>
/// Where an unmasked overflow or underflow is raised, MXCSR.PE is the masked response's: a processor sets it only when the
/// result would be inexact with an unbounded exponent too. DPPS and DPPD report the flags of all their steps, where a
/// processor stops at the first step that raises. Whether there is an exception, and all results, are the same.
/// </remarks>
internal static unsafe class SseExceptions
{
    private const uint Invalid = 1;
    private const uint Denormal = 2;
    private const uint DivideByZero = 4;
    private const uint Underflow = 16;
    private const uint Flags = 0x3F;
    private const uint PreComputation = Invalid | Denormal | DivideByZero;
    private const uint AllMasked = 0x1F80;
    private const int MaskShift = 7;
    private const uint FlushToZero = 0x8000;

    /// <summary>Runs the op's thunk. Memory has been read and availability checked.</summary>
    public static Op* Run(CpuState* state, Op* op, byte* second)
    {
        uint* register = (uint*)(state->FxArea + CpuState.FxMxcsr);
        uint mxcsr = *register & ~VectorOps.MxcsrReserved;
        uint unmasked = ~(mxcsr >> MaskShift) & Flags;
        byte* destination = VectorOps.Operand0(state, op);

        // SAFETY: slot 1 of the scratch area; slot 0 may hold the memory operand.
        byte* result = state->VectorScratch + 16;
        uint control = (mxcsr & ~Flags & ~((uint)FlushToZero * ((unmasked >> 4) & 1))) | AllMasked;
        uint raised = RunMasked(state, op, second, destination, result, control, out ulong flags);
        if ((unmasked & Underflow) != 0 && (raised & Underflow) == 0)
        {
            // Unmasked underflow is raised for exact tiny results too; flush-to-zero makes the host report every tiny result.
            byte* ignored = state->VectorScratch + 32;
            raised |= RunMasked(state, op, second, destination, ignored, control | FlushToZero, out _) & Underflow;
        }

        if ((raised & unmasked & PreComputation) != 0)
        {
            *register = mxcsr | (raised & PreComputation);
            return RaiseException(state, op);
        }

        *register = mxcsr | raised;
        if ((raised & unmasked) != 0)
        {
            return RaiseException(state, op);
        }

        *(UInt128*)destination = *(UInt128*)result;
        VectorOps.Finish(state, op, flags);
        return op + 1;
    }

    /// <summary>
    /// The same for a VEX instruction: false after an exception was raised, with operand 0 as it was. Its result is in
    /// operand 0 otherwise.
    /// </summary>
    public static bool TryRun(CpuState* state, Op* op, in VexOperands operands, out ulong flags)
    {
        uint* register = (uint*)(state->FxArea + CpuState.FxMxcsr);
        uint mxcsr = *register & ~VectorOps.MxcsrReserved;
        uint unmasked = ~(mxcsr >> MaskShift) & Flags;
        int distance = (op->Flags & VexTraits.VectorFirst) != 0 ? CpuState.YmmHighDistance : 0;

        // SAFETY: operand 0 has 16 bytes, and as many at the distance of the upper half where it is a vector register. Other
        // operands are registers (16 bytes behind the last general one belong to the state too) or the scratch area.
        UInt128* original = stackalloc UInt128[2];
        UInt128* result = stackalloc UInt128[2];
        Copy((UInt128*)operands.First, original, distance);
        uint control = (mxcsr & ~Flags & ~((uint)FlushToZero * ((unmasked >> 4) & 1))) | AllMasked;
        *register = control;
        flags = VexOps.Invoke(state, op, operands);
        uint raised = *register & Flags;
        Copy((UInt128*)operands.First, result, distance);
        if ((unmasked & Underflow) != 0 && (raised & Underflow) == 0)
        {
            // As above; results in half precision are not flushed, so they are looked at.
            Restore(original, operands.First, distance);
            *register = control | FlushToZero;
            VexOps.Invoke(state, op, operands);
            bool tiny = (op->Flags & VexTraits.Halves) != 0 ? HasTinyHalf((ushort*)result, op->Src != 0 ? op->Src / 2 : 8) : (*register & Underflow) != 0;
            raised |= tiny ? Underflow : 0;
        }

        bool pre = (raised & unmasked & PreComputation) != 0;
        *register = mxcsr | (pre ? raised & PreComputation : raised);
        bool traps = (raised & unmasked) != 0;
        Restore(traps ? original : result, operands.First, distance);
        if (traps)
        {
            // The caller gives up the instruction, as after a fault of its operand.
            Faults.Raise(state, Vector(state), 0);
        }

        return !traps;
    }

    private static void Copy(UInt128* from, UInt128* to, int distance)
    {
        to[0] = *from;
        to[1] = *(UInt128*)((byte*)from + distance);
    }

    private static void Restore(UInt128* from, byte* to, int distance)
    {
        *(UInt128*)(to + distance) = from[1];
        *(UInt128*)to = from[0];
    }

    private static bool HasTinyHalf(ushort* halves, int count)
    {
        bool tiny = false;
        for (int i = 0; i < count; i++)
        {
            tiny |= (halves[i] & 0x7C00) == 0 && (halves[i] & 0x3FF) != 0;
        }

        return tiny;
    }

    private static uint RunMasked(CpuState* state, Op* op, byte* second, byte* destination, byte* result, uint control, out ulong flags)
    {
        uint* register = (uint*)(state->FxArea + CpuState.FxMxcsr);
        *register = control;
        *(UInt128*)result = *(UInt128*)destination;
        flags = ((delegate* unmanaged[SuppressGCTransition]<byte*, byte*, byte*, CpuState*, ulong>)op->Imm)(result, second, null, state);
        return *register & Flags;
    }

    private static Op* RaiseException(CpuState* state, Op* op) => Flow.Raise(state, op, Vector(state));

    private static int Vector(CpuState* state) =>
        (state->Cr4 & Cr4.OsXmmException) != 0 ? ExceptionVector.SimdFloatingPoint : ExceptionVector.InvalidOpcode;
}
