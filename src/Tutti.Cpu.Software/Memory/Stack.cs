using System.Runtime.CompilerServices;
using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>Pushes and pops with the stack-pointer width of the current mode; RSP changes only when the access succeeded.</summary>
public static unsafe class Stack
{
    private const int Rsp = 4;
    private const int Ss = 2;

    /// <summary>False, and nothing changed, after a fault.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Push<TWidth>(CpuState* state, ulong value)
        where TWidth : struct, IWidth
    {
        if ((state->Mode & CodeMode.BitnessMask) == CodeMode.Bits64)
        {
            ulong rsp = state->Gpr[Rsp] - (ulong)TWidth.Bytes;
            if (!GuestAccess.Write<TWidth>(state, rsp, value))
            {
                return Fail(state);
            }

            state->Gpr[Rsp] = rsp;
            return true;
        }

        return PushSegmented<TWidth>(state, value);
    }

    /// <summary>False, and nothing changed, after a fault; the value is zero-extended.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Pop<TWidth>(CpuState* state, out ulong value)
        where TWidth : struct, IWidth
    {
        if (!Peek<TWidth>(state, 0, out value))
        {
            return false;
        }

        Move(state, TWidth.Bytes);
        return true;
    }

    /// <summary>Reads the stack at a distance in bytes above its top, without moving RSP.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Peek<TWidth>(CpuState* state, int distance, out ulong value)
        where TWidth : struct, IWidth
    {
        if ((state->Mode & CodeMode.BitnessMask) == CodeMode.Bits64)
        {
            return GuestAccess.Read<TWidth>(state, state->Gpr[Rsp] + (ulong)distance, out value) || Fail(state);
        }

        value = 0;
        return Addressing.TrySegmented(state, Ss, Wrap(state, state->Gpr[Rsp] + (ulong)distance), TWidth.Bytes, false, out ulong linear)
            && GuestAccess.Read<TWidth>(state, linear, out value);
    }

    /// <summary>Adds to the stack pointer.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Move(CpuState* state, long bytes) => SetPointer(state, state->Gpr[Rsp] + (ulong)bytes);

    /// <summary>Writes RSP, ESP or SP, as the mode has it; the upper bits of a 16-bit stack pointer stay.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void SetPointer(CpuState* state, ulong value)
    {
        if ((state->Mode & CodeMode.BitnessMask) == CodeMode.Bits64)
        {
            state->Gpr[Rsp] = value;
        }
        else if ((state->Mode & CodeMode.Stack32) != 0)
        {
            state->Gpr[Rsp] = (uint)value;
        }
        else
        {
            state->Gpr[Rsp] = (state->Gpr[Rsp] & ~0xFFFFUL) | (ushort)value;
        }
    }

    /// <summary>Cuts a stack offset to the stack-pointer width.</summary>
    public static ulong Wrap(CpuState* state, ulong offset)
    {
        if ((state->Mode & CodeMode.BitnessMask) == CodeMode.Bits64)
        {
            return offset;
        }

        return (state->Mode & CodeMode.Stack32) != 0 ? (uint)offset : (ushort)offset;
    }

    /// <summary>A stack access that is not canonical is a stack fault, whatever segment the instruction's operand is in.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static bool Fail(CpuState* state)
    {
        if (state->FaultVector == Faults.NonCanonical)
        {
            state->FaultVector = ExceptionVector.StackFault;
        }

        return false;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static bool PushSegmented<TWidth>(CpuState* state, ulong value)
        where TWidth : struct, IWidth
    {
        ulong pointer = Wrap(state, state->Gpr[Rsp] - (ulong)TWidth.Bytes);
        if (!Addressing.TrySegmented(state, Ss, pointer, TWidth.Bytes, true, out ulong linear)
            || !GuestAccess.Write<TWidth>(state, linear, value))
        {
            return false;
        }

        SetPointer(state, pointer);
        return true;
    }
}
