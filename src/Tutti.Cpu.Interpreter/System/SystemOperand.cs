using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>Operands that may be a general register or memory, told apart at run time: system instructions are too rare for a copy of each.</summary>
internal static unsafe class SystemOperand
{
    /// <summary>In <see cref="Op.Flags"/>: the operand is in memory, not in register <see cref="Op.Dst"/>.</summary>
    public const ushort InMemory = 1 << 8;

    /// <summary>Reads the operand, zero-extended; false after a fault.</summary>
    public static bool TryRead(CpuState* state, Op* op, int size, out ulong value)
    {
        if ((op->Flags & InMemory) == 0)
        {
            byte* register = CpuState.Register(state, op->Dst);
            value = size switch { 1 => *register, 2 => *(ushort*)register, 4 => *(uint*)register, _ => *(ulong*)register };
            return true;
        }

        return TryReadMemory(state, op, 0, size, out value);
    }

    /// <summary>Writes the operand; 32-bit register writes clear the upper half. False after a fault.</summary>
    public static bool TryWrite(CpuState* state, Op* op, int size, ulong value)
    {
        if ((op->Flags & InMemory) == 0)
        {
            WriteRegister(state, op->Dst, size, value);
            return true;
        }

        return TryWriteMemory(state, op, 0, size, value);
    }

    public static void WriteRegister(CpuState* state, byte offset, int size, ulong value)
    {
        byte* register = CpuState.Register(state, offset);
        switch (size)
        {
            case 1:
                *register = (byte)value;
                break;
            case 2:
                *(ushort*)register = (ushort)value;
                break;
            case 4:
                *(ulong*)register = (uint)value;
                break;
            default:
                *(ulong*)register = value;
                break;
        }
    }

    /// <summary>Reads memory at a distance behind the operand's address.</summary>
    public static bool TryReadMemory(CpuState* state, Op* op, int distance, int size, out ulong value)
    {
        value = 0;
        if (!TryGetAddress(state, op, distance, size, false, out ulong linear))
        {
            return false;
        }

        ulong buffer = 0;
        bool done = GuestAccess.ReadBytes(state, linear, (byte*)&buffer, size);
        value = buffer;
        return done;
    }

    public static bool TryWriteMemory(CpuState* state, Op* op, int distance, int size, ulong value) =>
        TryGetAddress(state, op, distance, size, true, out ulong linear)
        && GuestAccess.WriteBytes(state, linear, (byte*)&value, size);

    public static bool TryGetAddress(CpuState* state, Op* op, int distance, int size, bool write, out ulong linear)
    {
        ulong offset = Addressing.Truncate(OperandAddress.Offset(state, op) + (ulong)distance, op->AddressSize);
        return Addressing.TrySegmented(state, op->Segment, offset, size, write, out linear);
    }

    public static int Size(Op* op) => OpFlags.Size(*op);
}
