using System.Runtime.CompilerServices;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>How a handler goes on.</summary>
internal static unsafe class Flow
{
    /// <summary>Gives up this instruction for the fault that has been raised; RIP is the instruction's own.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public static Op* Fault(CpuState* state, Op* op)
    {
        if (state->FaultVector == Faults.NonCanonical)
        {
            state->FaultVector = op->Segment == 2 ? ExceptionVector.StackFault : ExceptionVector.GeneralProtection;
        }

        return Again(state, op);
    }

    /// <summary>Raises a fault with error code and gives up this instruction.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public static Op* Raise(CpuState* state, Op* op, int vector, uint error = 0)
    {
        Faults.Raise(state, vector, error);
        return Fault(state, op);
    }

    /// <summary>Back to the run loop; the same instruction runs again (a string instruction that was interrupted).</summary>
    public static Op* Again(CpuState* state, Op* op)
    {
        state->Rip += op->IpOffset;
        state->InstructionCount += (ulong)(op->Count - 1);
        return null;
    }

    /// <summary>Back to the run loop; the next instruction is the one behind this. For what may have changed mode, paging or pending events.</summary>
    public static Op* Leave(CpuState* state, Op* op)
    {
        state->Rip = NextRip(state, op);
        state->InstructionCount += op->Count;
        return null;
    }

    /// <summary>The address behind this instruction.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong NextRip(CpuState* state, Op* op)
    {
        ulong next = state->Rip + op->IpOffset + op->Length;
        return (state->Mode & CodeMode.BitnessMask) == CodeMode.Bits64 ? next : (uint)next;
    }

    /// <summary>Goes on at another address: straight to its block where that is known, else by way of the run loop.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Op* Jump(CpuState* state, Op* op, ulong target)
    {
        state->InstructionCount += op->Count;
        state->Rip = target;
        if (state->Attention != 0)
        {
            return null;
        }

        JumpCacheEntry* entry = state->JumpCache + JumpCacheEntry.IndexOf(target);
        return entry->Rip == target && entry->Tag == state->JumpTag ? (Op*)entry->Ops : null;
    }
}
