using System.Runtime.InteropServices;
using Tutti.Host;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>Something that an engine needs of its host.</summary>
/// <param name="Name">What it is, in a few words.</param>
/// <param name="Problem">Why the host does not have it, in one line; null where it does.</param>
public sealed record HostRequirement(string Name, string? Problem);

/// <summary>
/// The engine that needs no hardware virtualization: it interprets guest code, on x86-64 hosts, or has a tier above the interpreter
/// run what that can.
/// </summary>
public sealed class SoftwareEngine : IEngine
{
    private readonly ITranslationTierFactory? _tiers;

    /// <summary>The engine that interprets everything.</summary>
    public SoftwareEngine()
        : this(null)
    {
    }

    /// <summary>The engine that interprets what a tier above the interpreter does not run.</summary>
    /// <param name="tiers">Makes that tier; null for the interpreter alone.</param>
    public SoftwareEngine(ITranslationTierFactory? tiers)
    {
        _tiers = tiers;
    }

    public string Name => "software";

    public bool BringsInterruptControllers => false;

    public int MaxProcessors => 64;

    public TraceKinds Traces => TraceKinds.Blocks | TraceKinds.Exceptions | TraceKinds.Interrupts | (_tiers == null ? TraceKinds.None : TraceKinds.Exits);

    public bool ShowsMemory => _tiers != null;

    public IPartition CreatePartition(PartitionOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        RequireHost(RuntimeInformation.ProcessArchitecture == Architecture.X64 && HostFeatures.X8664V2, NativeThunks.Prepare);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.ProcessorCount, 1, nameof(options));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.ProcessorCount, MaxProcessors, nameof(options));
        ProcessorCpuid.RequireModel(options.Cpu);
        return new SoftwarePartition(options, static processor => new BlockInterpreter(processor, new BlockBuilder()), _tiers);
    }

    /// <summary>What the engine needs of its host, and what of it this one lacks.</summary>
    public static IReadOnlyList<HostRequirement> CheckHost()
    {
        bool isX64 = RuntimeInformation.ProcessArchitecture == Architecture.X64;
        return
        [
            new("x86-64-v2 instructions", FindProblem(isX64 && HostFeatures.X8664V2, static () => { })),
            new("executable memory", FindProblem(true, isX64 ? NativeThunks.Prepare : static () => { })),
        ];
    }

    /// <summary>What a CPU model needs and this engine, on this host, lacks; empty when it can run.</summary>
    public static IReadOnlyList<string> FindMissing(CpuModel model) => ProcessorCpuid.FindMissing(model);

    private static string? FindProblem(bool hasInstructions, Action getExecutableMemory)
    {
        try
        {
            RequireHost(hasInstructions, getExecutableMemory);
            return null;
        }
        catch (PlatformNotSupportedException e)
        {
            return e.Message;
        }
    }

    /// <summary>Refuses hosts on which some guest instruction would fail later, in the middle of a run.</summary>
    /// <exception cref="PlatformNotSupportedException">The host cannot run the engine; the message says why, in one line.</exception>
    internal static void RequireHost(bool hasInstructions, Action getExecutableMemory)
    {
        if (!hasInstructions)
        {
            throw new PlatformNotSupportedException("The software engine needs an x86-64-v2 host (SSE4.2, POPCNT): it runs floating point and vector operations on the host's own units.");
        }

        try
        {
            getExecutableMemory();
        }
        catch (HostException e)
        {
            throw new PlatformNotSupportedException($"The software engine needs executable memory, which this host forbids: {e.Message}.", e);
        }
    }
}
