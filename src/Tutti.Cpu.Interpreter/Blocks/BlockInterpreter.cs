using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Tutti.Cpu.Interpreter;

/// <summary>The first tier of one vCPU: runs decoded blocks, one op after the other.</summary>
internal sealed unsafe class BlockInterpreter : IInterpreter
{
    private readonly CpuState* _state;
    private readonly ProcessorTrace _trace;
    private GCHandle _self;

    public BlockInterpreter(SoftwareProcessor processor, IBlockBuilder builder)
    {
        _state = processor.State;
        _trace = processor.Trace;
        _self = GCHandle.Alloc(this);
        _state->Interpreter = GCHandle.ToIntPtr(_self);
        Code = new BlockCache(processor, builder);
    }

    /// <summary>The decoded blocks.</summary>
    public BlockCache Code { get; }

    ICodeHolder IInterpreter.Code => Code;

    /// <summary>Within <see cref="RunOne"/>: a branch need not look for the ops of its target.</summary>
    public bool IsRunningOne { get; private set; }

    /// <summary>The interpreter of the processor that owns a state.</summary>
    // SAFETY: only the constructor sets the handle.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static BlockInterpreter From(CpuState* state) =>
        Unsafe.As<BlockInterpreter>(GCHandle.FromIntPtr(state->Interpreter).Target!);

    /// <inheritdoc/>
    public void Run()
    {
        CpuState* state = _state;
        Op* op = Code.Find();
        while (op != null)
        {
            op = op->Handler(state, op);
        }
    }

    /// <inheritdoc/>
    public void RunStep()
    {
        CpuState* state = _state;
        Op* op = Code.FindSingle();
        while (op != null)
        {
            // A step is one instruction, also where it has ended the need for steps (IRET that clears TF) and knows the ops it jumps to.
            Op* next = op->Handler(state, op);
            op = next != op + 1 ? null : next;
        }
    }

    /// <inheritdoc/>
    public void RunOne()
    {
        CpuState* state = _state;
        Op* op = Code.FindOne();
        if (op == null)
        {
            return;
        }

        _trace.CountSingle(Code.NameOf(op));
        IsRunningOne = true;
        Op* next = op->Handler(state, op);
        IsRunningOne = false;
        if (next == op + 1)
        {
            state->Rip = Flow.NextRip(state, op);
            state->InstructionCount += op->Count;
        }
    }

    /// <inheritdoc/>
    public IEnumerable<EngineCounter> ReadCounters() => Code.ReadCounters();

    public void Dispose()
    {
        Code.Dispose();
        if (_self.IsAllocated)
        {
            _self.Free();
        }
    }
}
