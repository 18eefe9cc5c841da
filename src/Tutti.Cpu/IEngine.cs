using System.Runtime.InteropServices;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Cpu;

/// <summary>Something that can run guest processors. Engine, then partition (one VM), then virtual processor.</summary>
public interface IEngine
{
    /// <summary>The name that <c>--engine</c> takes.</summary>
    string Name { get; }

    /// <summary>
    /// Whether partitions come with a PC's interrupt controllers and interval timer of their own, so that ours stay out:
    /// local APICs, I/O APIC, 8259s (ports 0x20, 0xA0, 0x4D0) and 8254 (ports 0x40 and 0x61). See <see cref="IPartition.InterruptControllers"/>.
    /// </summary>
    bool BringsInterruptControllers { get; }

    /// <summary>The most vCPUs that a partition can have.</summary>
    int MaxProcessors { get; }

    /// <summary>Whether its partitions show pages of RAM at further addresses of the host's, for which <see cref="GuestMemory.HostFile"/> must be a file.</summary>
    bool ShowsMemory => false;

    /// <summary>What its vCPUs can tell a <see cref="PartitionOptions.Trace"/>, beside what the machine sees of any engine (ports and addresses).</summary>
    TraceKinds Traces => TraceKinds.None;

    /// <exception cref="PlatformNotSupportedException">The host can't run this engine, or not with these options; the message says why, in one line.</exception>
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

    /// <summary>Told what the vCPUs do, as far as the engine can (<see cref="IEngine.Traces"/>); null for nobody.</summary>
    public IEngineTrace? Trace { get; init; }

    /// <summary>Makes the local APIC of a vCPU; null when the engine brings its own.</summary>
    public Func<int, IProcessorSignals, ILocalApic>? CreateLocalApic { get; init; }
}

/// <summary>The processors of one VM and their view of memory.</summary>
public interface IPartition : IDisposable
{
    IReadOnlyList<IVirtualProcessor> Processors { get; }

    /// <summary>The controllers that the engine brings; null where the machine provides them.</summary>
    IInterruptControllers? InterruptControllers => null;

    /// <summary>Guest writes that signal an eventfd inside the engine; null where every write comes to <see cref="PartitionOptions.Io"/>.</summary>
    IEventDoorbells? EventDoorbells => null;

    /// <summary>
    /// Stops the time that the engine itself gives to the guest (time-stamp counters, paravirtual clock), where it does not
    /// follow <see cref="PartitionOptions.Clock"/>. Partitions begin with it running. Only while no vCPU runs.
    /// </summary>
    void PauseTime()
    {
    }

    /// <summary>Lets that time go on from where it stopped. Only while no vCPU runs.</summary>
    void ResumeTime()
    {
    }
}

/// <summary>A PC's interrupt controllers that come with an engine's partition. Calls are safe from any thread.</summary>
public interface IInterruptControllers
{
    /// <summary>
    /// Drives an interrupt line. IRQ n, 0 to 23, drives I/O APIC pin n and, below 16, 8259 input n; but IRQ 0 drives pin 2,
    /// and there is no IRQ 2. Devices that share a line are wired-OR by whoever calls.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such line.</exception>
    void SetLine(int irq, bool asserted);

    /// <summary>Sends a message-signalled interrupt: what a device writes, and where (0xFEExxxxx).</summary>
    void SignalMsi(ulong address, uint data);

    /// <summary>
    /// Makes a message-signalled interrupt that costs less to raise than <see cref="SignalMsi"/>; null where the engine has no such thing.
    /// </summary>
    IInterruptMessage? CreateMessage() => null;
}

/// <summary>A message-signalled interrupt that an engine keeps ready. When its partition is gone, nothing comes of it.</summary>
public interface IInterruptMessage : IDisposable
{
    /// <summary>Says what is sent from now on, and where (0xFEExxxxx). One caller at a time.</summary>
    void Set(ulong address, uint data);

    /// <summary>Sends it. Safe from any thread, also beside <see cref="IDisposable.Dispose"/>.</summary>
    void Signal();
}

/// <summary>Ties guest writes at physical addresses to eventfds: the write adds to the counter, and the vCPU goes on. One caller at a time.</summary>
public interface IEventDoorbells
{
    /// <summary>Writes of any width that begin at an address signal from now on.</summary>
    /// <returns>False where the engine can't take it, and the writes come to <see cref="PartitionOptions.Io"/>.</returns>
    bool TryAttach(ulong address, SafeHandle eventFd);

    /// <summary>Undoes <see cref="TryAttach"/>.</summary>
    void Detach(ulong address, SafeHandle eventFd);
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

    /// <summary>Bytes, about, that <see cref="ReleaseMemory"/> would give back to the host. Safe from any thread.</summary>
    long ReleasableBytes => 0;

    /// <summary>
    /// Asks the vCPU to give back to the host what it keeps only to save work, such as translations of guest code. It does so soon, when
    /// it runs or waits in <see cref="Run"/>, and makes anew what it then needs. Returns at once. Safe from any thread.
    /// </summary>
    void ReleaseMemory()
    {
    }

    /// <summary>What the engine has counted on this vCPU since creation; nothing where it counts nothing. Only while the vCPU does not run.</summary>
    IEnumerable<EngineCounter> ReadCounters() => [];
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
