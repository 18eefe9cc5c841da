using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>Interrupt instructions, far transfers, SYSCALL and SYSENTER. The rules are in <see cref="SoftwareProcessor"/>.</summary>
internal static unsafe class TransferInstructions
{
    public static Op* Iret(CpuState* state, Op* op) =>
        Finish(state, op, SoftwareProcessor.From(state).InterruptReturns.TryReturnFromInterrupt(SystemOperand.Size(op), Flow.NextRip(state, op)));

    public static Op* Syscall(CpuState* state, Op* op) =>
        Finish(state, op, SoftwareProcessor.From(state).SystemCalls.TrySyscall(Flow.NextRip(state, op)));

    public static Op* Sysret(CpuState* state, Op* op) =>
        Finish(state, op, SoftwareProcessor.From(state).SystemCalls.TrySysret(SystemOperand.Size(op)));

    public static Op* Sysenter(CpuState* state, Op* op) => Finish(state, op, SoftwareProcessor.From(state).SystemCalls.TrySysenter());

    public static Op* Sysexit(CpuState* state, Op* op) => Finish(state, op, SoftwareProcessor.From(state).SystemCalls.TrySysexit());

    /// <summary>INT n. Imm: the vector.</summary>
    public static Op* Int(CpuState* state, Op* op) => RaiseSoftware(state, op, (int)op->Imm, EventSource.Software);

    public static Op* Int3(CpuState* state, Op* op) => RaiseSoftware(state, op, ExceptionVector.Breakpoint, EventSource.Breakpoint);

    public static Op* Int1(CpuState* state, Op* op) => RaiseSoftware(state, op, ExceptionVector.Debug, EventSource.IceBreakpoint);

    public static Op* Into(CpuState* state, Op* op) =>
        LazyFlags.Overflow(state) ? RaiseSoftware(state, op, ExceptionVector.Overflow, EventSource.Breakpoint) : op + 1;

    /// <summary>BOUND: signed index against two signed bounds in memory. Dst: the index.</summary>
    public static Op* Bound(CpuState* state, Op* op)
    {
        int size = SystemOperand.Size(op);
        if (!SystemOperand.TryReadMemory(state, op, 0, size, out ulong lower) || !SystemOperand.TryReadMemory(state, op, size, size, out ulong upper))
        {
            return Flow.Fault(state, op);
        }

        ulong index = *(ulong*)CpuState.Register(state, op->Dst);
        bool inside = size == 2
            ? (short)index >= (short)lower && (short)index <= (short)upper
            : (int)index >= (int)lower && (int)index <= (int)upper;
        return inside ? op + 1 : Flow.Raise(state, op, ExceptionVector.BoundRange);
    }

    /// <summary>Far JMP or CALL to an immediate pointer. Imm: the offset, Aux: the selector.</summary>
    public static Op* JumpImmediate(CpuState* state, Op* op) => Jump(state, op, (ushort)op->Aux, op->Imm);

    public static Op* CallImmediate(CpuState* state, Op* op) => Call(state, op, (ushort)op->Aux, op->Imm);

    /// <summary>Far JMP or CALL through memory: offset, then selector.</summary>
    public static Op* JumpMemory(CpuState* state, Op* op) =>
        TryReadPointer(state, op, out ushort selector, out ulong offset) ? Jump(state, op, selector, offset) : Flow.Fault(state, op);

    public static Op* CallMemory(CpuState* state, Op* op) =>
        TryReadPointer(state, op, out ushort selector, out ulong offset) ? Call(state, op, selector, offset) : Flow.Fault(state, op);

    /// <summary>Far RET. Imm: bytes to drop behind the return address.</summary>
    public static Op* Return(CpuState* state, Op* op) =>
        Finish(state, op, SoftwareProcessor.From(state).Returns.TryReturnFar(SystemOperand.Size(op), (ushort)op->Imm));

    private static Op* Jump(CpuState* state, Op* op, ushort selector, ulong offset) =>
        Finish(state, op, SoftwareProcessor.From(state).Transfers.TryJumpFar(selector, offset, Flow.NextRip(state, op)));

    private static Op* Call(CpuState* state, Op* op, ushort selector, ulong offset) =>
        Finish(state, op, SoftwareProcessor.From(state).Transfers.TryCallFar(selector, offset, SystemOperand.Size(op), Flow.NextRip(state, op)));

    private static bool TryReadPointer(CpuState* state, Op* op, out ushort selector, out ulong offset)
    {
        int size = SystemOperand.Size(op);
        selector = 0;
        if (!SystemOperand.TryReadMemory(state, op, 0, size, out offset) || !SystemOperand.TryReadMemory(state, op, size, 2, out ulong value))
        {
            return false;
        }

        selector = (ushort)value;
        return true;
    }

    private static Op* RaiseSoftware(CpuState* state, Op* op, int vector, EventSource source) =>
        Finish(state, op, SoftwareProcessor.From(state).Delivery.TryRaiseSoftware(vector, source, Flow.NextRip(state, op)));

    /// <summary>RIP is the target's when the transfer is done; it is still the block's when it faulted.</summary>
    private static Op* Finish(CpuState* state, Op* op, bool done)
    {
        if (!done)
        {
            // A fault behind the point of no return of a task switch belongs to the new task, which has its own RIP.
            return SoftwareProcessor.From(state).Tasks.TakeSwitchedTask() ? null : Flow.Fault(state, op);
        }

        return Flow.Jump(state, op, state->Rip);
    }
}
