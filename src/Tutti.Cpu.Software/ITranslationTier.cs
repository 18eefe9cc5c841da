namespace Tutti.Cpu.Software;

/// <summary>Makes the tier of each vCPU that runs guest code faster than the interpreter.</summary>
public interface ITranslationTierFactory
{
    /// <summary>Bytes of native memory that the tier wants right before the vCPU's <see cref="CpuState"/>; a multiple of 16.</summary>
    int BytesBefore { get; }

    /// <summary>Bytes from the start of that memory to the end of what the tier wants behind the state.</summary>
    int BytesInAll { get; }

    ITranslationTier Create(SoftwareProcessor processor);
}

/// <summary>
/// A tier above the interpreter, owned by one vCPU: runs what it can, has single instructions interpreted, and is told of
/// everything that makes its copies of translations and code stale. Called on the vCPU's own thread.
/// </summary>
public interface ITranslationTier : ITlbFollower, ICodeHolder, IReturnObserver, IDisposable
{
    /// <summary>Whether the current mode is one that the tier runs.</summary>
    bool CanRun { get; }

    /// <summary>Runs guest code until something asks for attention, a fault is to be delivered or the mode changes to one that it does not run.</summary>
    void Run();

    /// <summary>What the tier has counted: groups and names of its own, which follow the interpreter's.</summary>
    IEnumerable<EngineCounter> ReadCounters();
}
