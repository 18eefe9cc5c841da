using System.Runtime.CompilerServices;
using Iced.Intel;

namespace Tutti.Cpu.Interpreter;

/// <summary>An operation on two values that leaves the flags alone, as a type.</summary>
internal interface IQuietOperation
{
    /// <summary>The result, not yet cut to the width. A shift's count is cut to the operand size already.</summary>
    static abstract ulong Run<TWidth>(ulong left, ulong right)
        where TWidth : struct, IWidth;
}

internal struct QuietAdd : IQuietOperation
{
    public static ulong Run<TWidth>(ulong left, ulong right)
        where TWidth : struct, IWidth => left + right;
}

internal struct QuietSubtract : IQuietOperation
{
    public static ulong Run<TWidth>(ulong left, ulong right)
        where TWidth : struct, IWidth => left - right;
}

internal struct QuietAnd : IQuietOperation
{
    public static ulong Run<TWidth>(ulong left, ulong right)
        where TWidth : struct, IWidth => left & right;
}

internal struct QuietOr : IQuietOperation
{
    public static ulong Run<TWidth>(ulong left, ulong right)
        where TWidth : struct, IWidth => left | right;
}

internal struct QuietXor : IQuietOperation
{
    public static ulong Run<TWidth>(ulong left, ulong right)
        where TWidth : struct, IWidth => left ^ right;
}

internal struct QuietShiftLeft : IQuietOperation
{
    public static ulong Run<TWidth>(ulong left, ulong right)
        where TWidth : struct, IWidth => left << (int)right;
}

internal struct QuietShiftRight : IQuietOperation
{
    public static ulong Run<TWidth>(ulong left, ulong right)
        where TWidth : struct, IWidth => left >> (int)right;
}

internal struct QuietShiftRightArithmetic : IQuietOperation
{
    public static ulong Run<TWidth>(ulong left, ulong right)
        where TWidth : struct, IWidth => (ulong)(TWidth.SignExtend(left) >> (int)right);
}

internal struct QuietRotateLeft : IQuietOperation
{
    public static ulong Run<TWidth>(ulong left, ulong right)
        where TWidth : struct, IWidth
    {
        int bits = TWidth.Bytes * 8;
        int turn = (int)right & (bits - 1);
        return turn == 0 ? left : (left << turn) | (left >> (bits - turn));
    }
}

internal struct QuietRotateRight : IQuietOperation
{
    public static ulong Run<TWidth>(ulong left, ulong right)
        where TWidth : struct, IWidth
    {
        int bits = TWidth.Bytes * 8;
        int turn = (int)right & (bits - 1);
        return turn == 0 ? left : (left >> turn) | (left << (bits - turn));
    }
}

/// <summary>Handlers of <see cref="IQuietOperation"/>.</summary>
internal static unsafe class Quiet<TOperation, TWidth>
    where TOperation : struct, IQuietOperation
    where TWidth : struct, IWidth
{
    public static Op* RegisterRegister(CpuState* state, Op* op) =>
        Run(state, op, TWidth.Load(CpuState.Register(state, op->Src)));

    public static Op* RegisterImmediate(CpuState* state, Op* op) => Run(state, op, op->Imm);

    public static Op* RegisterCl(CpuState* state, Op* op) => Run(state, op, state->Gpr[1] & (TWidth.Bytes == 8 ? 63UL : 31UL));

    public static Op* RegisterMemory(CpuState* state, Op* op) =>
        GuestAccess.Read<TWidth>(state, OperandAddress.Offset(state, op), out ulong right) ? Run(state, op, right) : Flow.Fault(state, op);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Op* Run(CpuState* state, Op* op, ulong right)
    {
        byte* destination = CpuState.Register(state, op->Dst);
        TWidth.StoreRegister(destination, TWidth.Truncate(TOperation.Run<TWidth>(TWidth.Load(destination), right)));
        return op + 1;
    }
}

/// <summary>Chooses handlers for instructions whose flags nobody reads; those that have none keep the one they have.</summary>
internal static unsafe class QuietHandlers
{
    public static void Replace(in Instruction instruction, Op* op)
    {
        switch (instruction.Mnemonic)
        {
            case Mnemonic.Add:
                ReplaceAlu<QuietAdd>(instruction, op);
                break;
            case Mnemonic.Sub:
                ReplaceAlu<QuietSubtract>(instruction, op);
                break;
            case Mnemonic.And:
                ReplaceAlu<QuietAnd>(instruction, op);
                break;
            case Mnemonic.Or:
                ReplaceAlu<QuietOr>(instruction, op);
                break;
            case Mnemonic.Xor:
                ReplaceAlu<QuietXor>(instruction, op);
                break;
            case Mnemonic.Shl or Mnemonic.Sal:
                ReplaceShift<QuietShiftLeft>(instruction, op);
                break;
            case Mnemonic.Shr:
                ReplaceShift<QuietShiftRight>(instruction, op);
                break;
            case Mnemonic.Sar:
                ReplaceShift<QuietShiftRightArithmetic>(instruction, op);
                break;
            case Mnemonic.Rol:
                ReplaceShift<QuietRotateLeft>(instruction, op);
                break;
            case Mnemonic.Ror:
                ReplaceShift<QuietRotateRight>(instruction, op);
                break;
            default:
                break;
        }
    }

    private static void ReplaceAlu<TOperation>(in Instruction instruction, Op* op)
        where TOperation : struct, IQuietOperation
    {
        if (instruction.Op0Kind != OpKind.Register)
        {
            return;
        }

        bool memory = instruction.Op1Kind == OpKind.Memory;
        if (memory && (op->AddressSize != 8 || op->Segment >= 4))
        {
            return;
        }

        OperandForm form = memory ? OperandForm.RegisterMemory
            : instruction.Op1Kind == OpKind.Register ? OperandForm.RegisterRegister
            : OperandForm.RegisterImmediate;
        op->Handler = RegisterOffset.SizeLog2(instruction.Op0Register) switch
        {
            0 => AluHandler<TOperation, W8>(form),
            1 => AluHandler<TOperation, W16>(form),
            2 => AluHandler<TOperation, W32>(form),
            _ => AluHandler<TOperation, W64>(form),
        };
    }

    private static void ReplaceShift<TOperation>(in Instruction instruction, Op* op)
        where TOperation : struct, IQuietOperation
    {
        if (instruction.Op0Kind != OpKind.Register)
        {
            return;
        }

        bool inCl = instruction.Op1Kind == OpKind.Register;
        op->Handler = RegisterOffset.SizeLog2(instruction.Op0Register) switch
        {
            0 => ShiftHandler<TOperation, W8>(inCl),
            1 => ShiftHandler<TOperation, W16>(inCl),
            2 => ShiftHandler<TOperation, W32>(inCl),
            _ => ShiftHandler<TOperation, W64>(inCl),
        };
    }

    private static delegate*<CpuState*, Op*, Op*> AluHandler<TOperation, TWidth>(OperandForm form)
        where TOperation : struct, IQuietOperation
        where TWidth : struct, IWidth => form switch
        {
            OperandForm.RegisterRegister => &Quiet<TOperation, TWidth>.RegisterRegister,
            OperandForm.RegisterImmediate => &Quiet<TOperation, TWidth>.RegisterImmediate,
            _ => &Quiet<TOperation, TWidth>.RegisterMemory,
        };

    private static delegate*<CpuState*, Op*, Op*> ShiftHandler<TOperation, TWidth>(bool inCl)
        where TOperation : struct, IQuietOperation
        where TWidth : struct, IWidth => inCl
            ? &Quiet<TOperation, TWidth>.RegisterCl
            : &Quiet<TOperation, TWidth>.RegisterImmediate;
}
