using System.Runtime.CompilerServices;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>Near branches.</summary>
internal static unsafe class Branches
{
    /// <summary>In <see cref="Op.Aux"/>: a target in 64-bit mode too far from the block's start for Op.Target, so Imm holds the distance.</summary>
    public const ushort FarAway = 8;

    /// <summary>Goes on behind a block that did not end with a branch.</summary>
    public static Op* EndOfBlock(CpuState* state, Op* op) => Flow.Jump(state, op, Flow.NextRip(state, op));

    /// <summary>Takes a direct branch in 64-bit mode.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Op* Take(CpuState* state, Op* op)
    {
        state->InstructionCount += op->Count;
        state->Rip += (ulong)(long)op->Target;
        Op* link = op->Link;
        return link != null && state->Attention == 0 ? link : Resolve(state, op);
    }

    /// <summary>Takes a direct branch in any other mode: the target is cut to the operand size in Aux. Also for <see cref="FarAway"/>.</summary>
    public static Op* TakeLegacy(CpuState* state, Op* op)
    {
        if (op->Aux == FarAway)
        {
            return Flow.Jump(state, op, state->Rip + op->Imm);
        }

        ulong target = state->Rip + (ulong)(long)op->Target;
        return Flow.Jump(state, op, op->Aux == 2 ? (ushort)target : (uint)target);
    }

    public static Op* Jump(CpuState* state, Op* op) => Take(state, op);

    public static Op* JumpIf<TCondition>(CpuState* state, Op* op)
        where TCondition : struct, ICondition => TCondition.Holds(state) ? Take(state, op) : op + 1;

    public static Op* JumpIfLegacy<TCondition>(CpuState* state, Op* op)
        where TCondition : struct, ICondition => TCondition.Holds(state) ? TakeLegacy(state, op) : op + 1;

    public static Op* Call(CpuState* state, Op* op) =>
        Stack.Push<W64>(state, state->Rip + op->IpOffset + op->Length) ? Take(state, op) : Flow.Fault(state, op);

    public static Op* CallLegacy<TWidth>(CpuState* state, Op* op)
        where TWidth : struct, IWidth =>
        Stack.Push<TWidth>(state, Flow.NextRip(state, op)) ? TakeLegacy(state, op) : Flow.Fault(state, op);

    public static Op* JumpRegister<TWidth>(CpuState* state, Op* op)
        where TWidth : struct, IWidth => JumpTo<TWidth>(state, op, TWidth.Load(CpuState.Register(state, op->Dst)));

    public static Op* JumpMemory<TWidth>(CpuState* state, Op* op)
        where TWidth : struct, IWidth =>
        AnyAddress.TryGet(state, op, TWidth.Bytes, false, out ulong linear) && GuestAccess.Read<TWidth>(state, linear, out ulong target)
            ? JumpTo<TWidth>(state, op, target)
            : Flow.Fault(state, op);

    public static Op* CallRegister<TWidth>(CpuState* state, Op* op)
        where TWidth : struct, IWidth => CallTo<TWidth>(state, op, TWidth.Load(CpuState.Register(state, op->Dst)));

    public static Op* CallMemory<TWidth>(CpuState* state, Op* op)
        where TWidth : struct, IWidth =>
        AnyAddress.TryGet(state, op, TWidth.Bytes, false, out ulong linear) && GuestAccess.Read<TWidth>(state, linear, out ulong target)
            ? CallTo<TWidth>(state, op, target)
            : Flow.Fault(state, op);

    /// <summary>RET, with the bytes to drop behind the return address in Imm.</summary>
    public static Op* Return<TWidth>(CpuState* state, Op* op)
        where TWidth : struct, IWidth
    {
        if (!Stack.Peek<TWidth>(state, 0, out ulong target))
        {
            return Flow.Fault(state, op);
        }

        if (!IsTarget<TWidth>(state, target))
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        Stack.Move(state, TWidth.Bytes + (long)op->Imm);
        return Flow.Jump(state, op, target);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Op* JumpTo<TWidth>(CpuState* state, Op* op, ulong target)
        where TWidth : struct, IWidth =>
        IsTarget<TWidth>(state, target) ? Flow.Jump(state, op, target) : Flow.Raise(state, op, ExceptionVector.GeneralProtection);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Op* CallTo<TWidth>(CpuState* state, Op* op, ulong target)
        where TWidth : struct, IWidth
    {
        if (!IsTarget<TWidth>(state, target))
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        return Stack.Push<TWidth>(state, Flow.NextRip(state, op)) ? Flow.Jump(state, op, target) : Flow.Fault(state, op);
    }

    /// <summary>A target that is not canonical is the branch's own fault, before it changes anything.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool IsTarget<TWidth>(CpuState* state, ulong target)
        where TWidth : struct, IWidth => TWidth.Bytes < 8 || CpuState.IsCanonical(state, target);

    /// <summary>LOOP, LOOPE, LOOPNE (Imm 0, 1, 2) and JCXZ (3), counting in the register of the address size.</summary>
    public static Op* Loop(CpuState* state, Op* op)
    {
        byte* counter = (byte*)(state->Gpr + 1);
        ulong count = Addressing.Truncate(*(ulong*)counter, op->AddressSize);
        if (op->Imm == 3)
        {
            return count == 0 ? TakeAny(state, op) : op + 1;
        }

        count = Addressing.Truncate(count - 1, op->AddressSize);
        switch (op->AddressSize)
        {
            case 2:
                W16.StoreRegister(counter, count);
                break;
            case 4:
                W32.StoreRegister(counter, count);
                break;
            default:
                *(ulong*)counter = count;
                break;
        }

        bool condition = op->Imm switch { 1 => LazyFlags.Zero(state), 2 => !LazyFlags.Zero(state), _ => true };
        return count != 0 && condition ? TakeAny(state, op) : op + 1;
    }

    private static Op* TakeAny(CpuState* state, Op* op) =>
        (state->Mode & CodeMode.BitnessMask) == CodeMode.Bits64 ? Take(state, op) : TakeLegacy(state, op);

    /// <summary>RIP is the target already. Finds its block, and links it when it lies in the same page: then the same bytes are always meant.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static Op* Resolve(CpuState* state, Op* op)
    {
        if (state->Attention != 0 || BlockInterpreter.From(state).IsRunningOne)
        {
            return null;
        }

        ulong target = state->Rip;
        ulong source = target - (ulong)(long)op->Target + op->IpOffset;
        JumpCacheEntry* entry = state->JumpCache + JumpCacheEntry.IndexOf(target);
        Op* next = entry->Rip == target && entry->Tag == state->JumpTag && !BlockCache.IsStale((Op*)entry->Ops)
            ? (Op*)entry->Ops
            : BlockInterpreter.From(state).Code.Find();
        if (next != null && ((source ^ target) >> 12) == 0 && state->Attention == 0
            && !BlockInterpreter.From(state).Code.IsTemporary(next))
        {
            op->Link = next;
        }

        return next;
    }
}

/// <summary>CMP or TEST together with the conditional branch behind it; the flags are left for later readers all the same.</summary>
internal static unsafe class FusedBranch<TCondition, TWidth>
    where TCondition : struct, ICondition
    where TWidth : struct, IWidth
{
    public static Op* CompareRegisterRegister(CpuState* state, Op* op) =>
        Compared(state, op, TWidth.Load(CpuState.Register(state, op->Dst)), TWidth.Load(CpuState.Register(state, op->Src)));

    public static Op* CompareRegisterImmediate(CpuState* state, Op* op) =>
        Compared(state, op, TWidth.Load(CpuState.Register(state, op->Dst)), op->Imm);

    public static Op* CompareRegisterMemory(CpuState* state, Op* op) =>
        GuestAccess.Read<TWidth>(state, OperandAddress.Offset(state, op), out ulong right)
            ? Compared(state, op, TWidth.Load(CpuState.Register(state, op->Dst)), right)
            : Flow.Fault(state, op);

    public static Op* CompareMemoryRegister(CpuState* state, Op* op) =>
        GuestAccess.Read<TWidth>(state, OperandAddress.Offset(state, op), out ulong left)
            ? Compared(state, op, left, TWidth.Load(CpuState.Register(state, op->Src)))
            : Flow.Fault(state, op);

    public static Op* CompareMemoryImmediate(CpuState* state, Op* op) =>
        GuestAccess.Read<TWidth>(state, OperandAddress.Offset(state, op), out ulong left)
            ? Compared(state, op, left, op->Imm)
            : Flow.Fault(state, op);

    public static Op* TestRegisterRegister(CpuState* state, Op* op) =>
        Tested(state, op, TWidth.Load(CpuState.Register(state, op->Dst)) & TWidth.Load(CpuState.Register(state, op->Src)));

    public static Op* TestRegisterImmediate(CpuState* state, Op* op) =>
        Tested(state, op, TWidth.Load(CpuState.Register(state, op->Dst)) & op->Imm);

    public static Op* TestMemoryImmediate(CpuState* state, Op* op) =>
        GuestAccess.Read<TWidth>(state, OperandAddress.Offset(state, op), out ulong left)
            ? Tested(state, op, left & op->Imm)
            : Flow.Fault(state, op);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Op* Compared(CpuState* state, Op* op, ulong left, ulong right)
    {
        LazyFlags.Set<TWidth>(state, FlagKind.Subtract, TWidth.Truncate(left - right), left, right);
        return TCondition.HoldsAfterCompare<TWidth>(state, left, right) ? Branches.Take(state, op) : op + 1;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Op* Tested(CpuState* state, Op* op, ulong result)
    {
        LazyFlags.Set<TWidth>(state, FlagKind.Logic, result, 0, 0);
        return TCondition.HoldsAfterTest<TWidth>(state, result) ? Branches.Take(state, op) : op + 1;
    }
}
