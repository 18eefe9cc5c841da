using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>MUL, IMUL, DIV and IDIV. The source is a register (Src) or memory.</summary>
internal static unsafe class MultiplyDivide<TWidth>
    where TWidth : struct, IWidth
{
    private static int Bits => TWidth.Bytes * 8;

    public static Op* MultiplyRegister(CpuState* state, Op* op) => Multiply(state, op, FromRegister(state, op));

    public static Op* MultiplyMemory(CpuState* state, Op* op) =>
        TryFromMemory(state, op, out ulong source) ? Multiply(state, op, source) : Flow.Fault(state, op);

    public static Op* MultiplySignedRegister(CpuState* state, Op* op) => MultiplySigned(state, op, FromRegister(state, op));

    public static Op* MultiplySignedMemory(CpuState* state, Op* op) =>
        TryFromMemory(state, op, out ulong source) ? MultiplySigned(state, op, source) : Flow.Fault(state, op);

    public static Op* DivideRegister(CpuState* state, Op* op) => Divide(state, op, FromRegister(state, op));

    public static Op* DivideMemory(CpuState* state, Op* op) =>
        TryFromMemory(state, op, out ulong source) ? Divide(state, op, source) : Flow.Fault(state, op);

    public static Op* DivideSignedRegister(CpuState* state, Op* op) => DivideSigned(state, op, FromRegister(state, op));

    public static Op* DivideSignedMemory(CpuState* state, Op* op) =>
        TryFromMemory(state, op, out ulong source) ? DivideSigned(state, op, source) : Flow.Fault(state, op);

    /// <summary>IMUL r, r/m.</summary>
    public static Op* ProductRegister(CpuState* state, Op* op) =>
        Product(state, op, TWidth.Load(CpuState.Register(state, op->Dst)), FromRegister(state, op));

    public static Op* ProductMemory(CpuState* state, Op* op) =>
        TryFromMemory(state, op, out ulong source)
            ? Product(state, op, TWidth.Load(CpuState.Register(state, op->Dst)), source)
            : Flow.Fault(state, op);

    /// <summary>IMUL r, r/m, imm.</summary>
    public static Op* ProductRegisterImmediate(CpuState* state, Op* op) => Product(state, op, FromRegister(state, op), op->Imm);

    public static Op* ProductMemoryImmediate(CpuState* state, Op* op) =>
        TryFromMemory(state, op, out ulong source) ? Product(state, op, source, op->Imm) : Flow.Fault(state, op);

    private static ulong FromRegister(CpuState* state, Op* op) => TWidth.Load(CpuState.Register(state, op->Src));

    private static bool TryFromMemory(CpuState* state, Op* op, out ulong value)
    {
        value = 0;
        return AnyAddress.TryGet(state, op, TWidth.Bytes, false, out ulong linear)
            && GuestAccess.Read<TWidth>(state, linear, out value);
    }

    private static Op* Multiply(CpuState* state, Op* op, ulong source)
    {
        ulong high = Math.BigMul(TWidth.Load((byte*)state->Gpr), source, out ulong low);
        if (Bits < 64)
        {
            high = low >> Bits;
        }

        StorePair(state, low, high);
        SetOverflow(state, TWidth.Truncate(low), TWidth.Truncate(high) != 0);
        return op + 1;
    }

    private static Op* MultiplySigned(CpuState* state, Op* op, ulong source)
    {
        Int128 product = (Int128)TWidth.SignExtend(TWidth.Load((byte*)state->Gpr)) * TWidth.SignExtend(source);
        ulong low = TWidth.Truncate((ulong)product);
        StorePair(state, low, (ulong)(product >> Bits));
        SetOverflow(state, low, product != TWidth.SignExtend(low));
        return op + 1;
    }

    private static Op* Product(CpuState* state, Op* op, ulong left, ulong right)
    {
        long high = Math.BigMul(TWidth.SignExtend(left), TWidth.SignExtend(right), out long wide);
        ulong result = TWidth.Truncate((ulong)wide);
        bool overflow = Bits == 64 ? high != wide >> 63 : wide != TWidth.SignExtend(result);
        TWidth.StoreRegister(CpuState.Register(state, op->Dst), result);
        SetOverflow(state, result, overflow);
        return op + 1;
    }

    private static Op* Divide(CpuState* state, Op* op, ulong divisor)
    {
        if (divisor == 0)
        {
            return Flow.Raise(state, op, ExceptionVector.DivideError);
        }

        (ulong low, ulong high) = LoadPair(state);
        if (high >= divisor)
        {
            return Flow.Raise(state, op, ExceptionVector.DivideError);
        }

        ulong quotient;
        ulong remainder;
        if (Bits == 64 && high != 0)
        {
            UInt128 dividend = new(high, low);
            UInt128 wide = dividend / divisor;
            quotient = (ulong)wide;
            remainder = low - (quotient * divisor);
        }
        else
        {
            ulong dividend = Bits == 64 ? low : (high << Bits) | low;
            (quotient, remainder) = Math.DivRem(dividend, divisor);
        }

        StorePair(state, quotient, remainder);
        return op + 1;
    }

    private static Op* DivideSigned(CpuState* state, Op* op, ulong source)
    {
        long divisor = TWidth.SignExtend(source);
        if (divisor == 0)
        {
            return Flow.Raise(state, op, ExceptionVector.DivideError);
        }

        (ulong low, ulong high) = LoadPair(state);
        Int128 dividend = ((Int128)TWidth.SignExtend(high) << Bits) | (Int128)low;

        // The only case that Int128 itself cannot divide.
        if (dividend == Int128.MinValue && divisor == -1)
        {
            return Flow.Raise(state, op, ExceptionVector.DivideError);
        }

        Int128 quotient = dividend == (long)dividend && !((long)dividend == long.MinValue && divisor == -1)
            ? (long)dividend / divisor
            : dividend / divisor;
        ulong result = TWidth.Truncate((ulong)quotient);
        if (quotient != TWidth.SignExtend(result))
        {
            return Flow.Raise(state, op, ExceptionVector.DivideError);
        }

        StorePair(state, result, TWidth.Truncate((ulong)(dividend - (quotient * divisor))));
        return op + 1;
    }

    /// <summary>AH:AL, DX:AX, EDX:EAX or RDX:RAX.</summary>
    private static (ulong Low, ulong High) LoadPair(CpuState* state)
    {
        byte* rax = (byte*)state->Gpr;
        return TWidth.Bytes == 1 ? (rax[0], rax[1]) : (TWidth.Load(rax), TWidth.Load((byte*)(state->Gpr + 2)));
    }

    private static void StorePair(CpuState* state, ulong low, ulong high)
    {
        byte* rax = (byte*)state->Gpr;
        TWidth.StoreRegister(rax, low);
        TWidth.StoreRegister(TWidth.Bytes == 1 ? rax + 1 : (byte*)(state->Gpr + 2), high);
    }

    private static void SetOverflow(CpuState* state, ulong result, bool overflow) =>
        LazyFlags.SetMixed<TWidth>(state, result, overflow ? Rflags.Carry | Rflags.Overflow : 0);
}
