using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>IN, OUT, INS, OUTS. Source: Intel SDM volume 1, chapter "Input/Output".</summary>
internal static unsafe class PortInstructions
{
    private const int Rax = 0;
    private const int Rcx = 1;
    private const int Rdx = 2;
    private const int Rsi = 6;
    private const int Rdi = 7;
    private const int Es = 0;

    /// <summary>Imm: the port.</summary>
    public static Op* InImmediate(CpuState* state, Op* op) => In(state, op, (ushort)op->Imm);

    public static Op* InDx(CpuState* state, Op* op) => In(state, op, (ushort)state->Gpr[Rdx]);

    public static Op* OutImmediate(CpuState* state, Op* op) => Out(state, op, (ushort)op->Imm);

    public static Op* OutDx(CpuState* state, Op* op) => Out(state, op, (ushort)state->Gpr[Rdx]);

    private static Op* In(CpuState* state, Op* op, ushort port)
    {
        int size = SystemOperand.Size(op);
        SoftwareProcessor processor = SoftwareProcessor.From(state);
        if (!processor.Ports.TryPassPort(port, size))
        {
            return Flow.Fault(state, op);
        }

        ulong value = 0;
        // SAFETY: size is 1, 2 or 4 and the local has 8 bytes; so too in the other handlers here.
        processor.Ports.ReadPort(port, new Span<byte>(&value, size));
        SystemOperand.WriteRegister(state, Rax, size, value);
        return op + 1;
    }

    private static Op* Out(CpuState* state, Op* op, ushort port)
    {
        int size = SystemOperand.Size(op);
        SoftwareProcessor processor = SoftwareProcessor.From(state);
        if (!processor.Ports.TryPassPort(port, size))
        {
            return Flow.Fault(state, op);
        }

        ulong value = state->Gpr[Rax];
        processor.Ports.WritePort(port, new ReadOnlySpan<byte>(&value, size));
        return op + 1;
    }

    /// <summary>INS and REP INS.</summary>
    public static Op* Ins(CpuState* state, Op* op)
    {
        SoftwareProcessor processor = SoftwareProcessor.From(state);
        int size = SystemOperand.Size(op);
        ushort port = (ushort)state->Gpr[Rdx];
        if (!processor.Ports.TryPassPort(port, size))
        {
            return Flow.Fault(state, op);
        }

        while (Remaining(state, op) != 0)
        {
            // The destination is checked before the device is read: a fault must not lose what a FIFO gave.
            ulong offset = Addressing.Truncate(state->Gpr[Rdi], op->AddressSize);
            if (!Addressing.TrySegmented(state, Es, offset, size, true, out ulong linear)
                || !VectorMemory.ProbeWrite(state, linear, size))
            {
                return Flow.Fault(state, op);
            }

            ulong value = 0;
            processor.Ports.ReadPort(port, new Span<byte>(&value, size));
            if (!GuestAccess.WriteBytes(state, linear, (byte*)&value, size))
            {
                return Flow.Fault(state, op);
            }

            Advance(state, op, Rdi, size);
            if (!IsRepeated(op))
            {
                break;
            }

            if (state->Attention != 0 && Remaining(state, op) != 0)
            {
                return Flow.Again(state, op);
            }
        }

        return op + 1;
    }

    /// <summary>OUTS and REP OUTS.</summary>
    public static Op* Outs(CpuState* state, Op* op)
    {
        SoftwareProcessor processor = SoftwareProcessor.From(state);
        int size = SystemOperand.Size(op);
        ushort port = (ushort)state->Gpr[Rdx];
        if (!processor.Ports.TryPassPort(port, size))
        {
            return Flow.Fault(state, op);
        }

        while (Remaining(state, op) != 0)
        {
            ulong offset = Addressing.Truncate(state->Gpr[Rsi], op->AddressSize);
            ulong value = 0;
            if (!Addressing.TrySegmented(state, op->Segment, offset, size, false, out ulong linear)
                || !GuestAccess.ReadBytes(state, linear, (byte*)&value, size))
            {
                return Flow.Fault(state, op);
            }

            processor.Ports.WritePort(port, new ReadOnlySpan<byte>(&value, size));
            Advance(state, op, Rsi, size);
            if (!IsRepeated(op))
            {
                break;
            }

            if (state->Attention != 0 && Remaining(state, op) != 0)
            {
                return Flow.Again(state, op);
            }
        }

        return op + 1;
    }

    private static bool IsRepeated(Op* op) => (op->Flags & (OpFlags.Rep | OpFlags.Repne)) != 0;

    /// <summary>Elements left: CX in the address size, or one when not repeated.</summary>
    private static ulong Remaining(CpuState* state, Op* op) =>
        IsRepeated(op) ? Addressing.Truncate(state->Gpr[Rcx], op->AddressSize) : 1;

    private static void Advance(CpuState* state, Op* op, int register, int size)
    {
        long step = (state->Flags & Rflags.Direction) != 0 ? -size : size;
        AddToRegister(state, register, step, op->AddressSize);
        if (IsRepeated(op))
        {
            AddToRegister(state, Rcx, -1, op->AddressSize);
        }
    }

    private static void AddToRegister(CpuState* state, int register, long step, int addressSize) =>
        SystemOperand.WriteRegister(state, (byte)(register * 8), addressSize, state->Gpr[register] + (ulong)step);
}
