using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Cpu;

/// <summary>Something that can run guest processors. Engine, then partition (one VM), then virtual processor.</summary>
public interface IEngine
{
    /// <summary>The name that <c>--engine</c> takes.</summary>
    string Name { get; }

    /// <summary>Whether partitions come with interrupt controllers of their own, so that ours stay out.</summary>
    bool BringsInterruptControllers { get; }

    /// <summary>The most vCPUs that a partition can have.</summary>
    int MaxProcessors { get; }

    IPartition CreatePartition(PartitionOptions options);
}

/// <summary>What an engine needs to know to make a partition.</summary>
public sealed class PartitionOptions
{
    public required GuestMemory Memory { get; init; }

    public required ICpuIo Io { get; init; }

    public required IGuestClock Clock { get; init; }

    public required CpuModel Cpu { get; init; }

    /// <summary>Number of vCPUs, 1 or more; vCPU 0 is the bootstrap processor.</summary>
    public int ProcessorCount { get; init; } = 1;

    /// <summary>Makes the local APIC of a vCPU; null when the engine brings its own.</summary>
    public Func<int, IProcessorSignals, ILocalApic>? CreateLocalApic { get; init; }
}

/// <summary>The processors of one VM and their view of memory.</summary>
public interface IPartition : IDisposable
{
    IReadOnlyList<IVirtualProcessor> Processors { get; }
}

/// <summary>One guest processor. All but <see cref="RequestExit"/> belongs to the thread that runs it.</summary>
public interface IVirtualProcessor
{
    int Index { get; }

    /// <summary>Copies the whole architectural state out. Only while the vCPU does not run.</summary>
    void GetRegisters(ProcessorRegisters registers);

    /// <summary>Replaces the whole architectural state. Only while the vCPU does not run.</summary>
    void SetRegisters(ProcessorRegisters registers);

    /// <summary>
    /// Runs guest code until something ends it. A halted vCPU waits inside, at no cost, for an interrupt or
    /// <see cref="RequestExit"/>.
    /// </summary>
    ProcessorExit Run();

    /// <summary>Makes a running, or the next, <see cref="Run"/> return <see cref="ProcessorExitKind.Requested"/>. Safe from any thread.</summary>
    void RequestExit();

    /// <summary>Guest instructions run since creation, as far as the engine counts them; else 0.</summary>
    ulong InstructionCount { get; }
}

/// <summary>Why <see cref="IVirtualProcessor.Run"/> came back.</summary>
public enum ProcessorExitKind
{
    /// <summary>Somebody called <see cref="IVirtualProcessor.RequestExit"/>.</summary>
    Requested,

    /// <summary>A fault while delivering a double fault; a PC resets here.</summary>
    TripleFault,

    /// <summary>The engine cannot go on; <see cref="ProcessorExit.Message"/> says why.</summary>
    InternalError,
}

/// <summary>The end of a run.</summary>
public readonly record struct ProcessorExit(ProcessorExitKind Kind, string? Message = null);
