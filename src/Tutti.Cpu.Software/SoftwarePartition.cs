namespace Tutti.Cpu.Software;

/// <summary>The vCPUs of one VM in the software engine.</summary>
public sealed class SoftwarePartition : IPartition
{
    private readonly SoftwareProcessor[] _processors;

    /// <param name="options">The VM; each vCPU needs a local APIC (<see cref="PartitionOptions.CreateLocalApic"/>).</param>
    /// <param name="createInterpreter">Makes the interpreter of a vCPU.</param>
    /// <param name="tiers">Makes the tier above it; null for none.</param>
    /// <exception cref="ArgumentException">A local APIC is missing.</exception>
    public SoftwarePartition(PartitionOptions options, Func<SoftwareProcessor, IInterpreter> createInterpreter, ITranslationTierFactory? tiers)
    {
        var codePages = new CodePages(options.Memory);
        var bus = new BusLock();
        _processors = [.. Enumerable.Range(0, options.ProcessorCount).Select(index => new SoftwareProcessor(index, options, codePages, bus, createInterpreter, tiers))];
        codePages.Processors = [.. _processors.Select(processor => processor.Watch)];
        bus.Processors = [.. _processors.Select(processor => processor.Presence)];
    }

    public IReadOnlyList<IVirtualProcessor> Processors => _processors;

    public void Dispose()
    {
        foreach (SoftwareProcessor processor in _processors)
        {
            processor.Dispose();
        }
    }
}
