namespace Tutti.Cpu.Software;

/// <summary>
/// The tier of one vCPU that runs every instruction in every mode, owned by it and called on its thread. Faults are noted in
/// <see cref="CpuState"/>, for the run loop to deliver.
/// </summary>
public interface IInterpreter : IDisposable
{
    /// <summary>What it has decoded.</summary>
    ICodeHolder Code { get; }

    /// <summary>Runs guest code from RIP on until something asks for attention, a fault is noted, or it has to look for code anew.</summary>
    void Run();

    /// <summary>Runs the one instruction at RIP, between <see cref="DebugUnit.TryBeginStep"/> and <see cref="DebugUnit.AfterStep"/>.</summary>
    void RunStep();

    /// <summary>Runs the one instruction at RIP for another tier, which goes on behind it.</summary>
    void RunOne();

    /// <summary>What it has counted.</summary>
    IEnumerable<EngineCounter> ReadCounters();
}
