using System.Runtime.CompilerServices;

namespace Tutti.Cpu.Interpreter;

/// <summary>
/// The x87 state that MMX instructions share. In the FXSAVE format registers stand in stack order, so physical register n
/// (MMn) is at slot (n - TOP) mod 8. Source: Intel SDM volume 1, section 9.5; volume 3, section 12.2.
/// </summary>
internal static unsafe class MmxState
{
    public const int FxControl = 0;
    public const int FxStatus = 2;
    public const int FxTags = 4;
    public const int FxRegisters = 32;

    private const int TopShift = 11;
    private const ushort TopMask = 7 << TopShift;
    private const int ExceptionBits = 0x3F;

    /// <summary>The transition that each MMX instruction makes: TOP becomes 0 and all registers valid.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Enter(CpuState* state)
    {
        if ((*(ushort*)(state->FxArea + FxStatus) & TopMask) != 0)
        {
            ClearTop(state);
        }

        state->FxArea[FxTags] = 0xFF;
    }

    /// <summary>Whether an unmasked x87 exception waits to be raised.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool IsX87Pending(CpuState* state) =>
        (*(ushort*)(state->FxArea + FxStatus) & ~*(ushort*)(state->FxArea + FxControl) & ExceptionBits) != 0;

    /// <summary>Address of an MMX register while TOP may not be 0.</summary>
    public static byte* Register(CpuState* state, int number)
    {
        int top = *(ushort*)(state->FxArea + FxStatus) >> TopShift;
        return state->FxArea + FxRegisters + (16 * ((number - top) & 7));
    }

    /// <summary>Sets TOP to 0; the physical registers keep their contents.</summary>
    private static void ClearTop(CpuState* state)
    {
        UInt128* slots = (UInt128*)(state->FxArea + FxRegisters);
        ushort* status = (ushort*)(state->FxArea + FxStatus);
        int top = (*status & TopMask) >> TopShift;
        // SAFETY: indices are cut to 0 to 7; the FX area holds eight slots of 16 bytes.
        UInt128* physical = stackalloc UInt128[8];
        for (int i = 0; i < 8; i++)
        {
            physical[(i + top) & 7] = slots[i];
        }

        Unsafe.CopyBlockUnaligned(slots, physical, 128);
        *status = (ushort)(*status & ~TopMask);
    }
}
