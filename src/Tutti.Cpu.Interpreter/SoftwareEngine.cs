using System.Runtime.InteropServices;

namespace Tutti.Cpu.Interpreter;

/// <summary>The engine that needs no hardware virtualization: it interprets guest code, on x86-64 hosts.</summary>
public sealed class SoftwareEngine : IEngine
{
    public string Name => "software";

    public bool BringsInterruptControllers => false;

    public int MaxProcessors => 64;

    public IPartition CreatePartition(PartitionOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            throw new PlatformNotSupportedException("The software engine needs an x86-64 host: it runs floating point and vector operations on the host's own units.");
        }

        ArgumentOutOfRangeException.ThrowIfLessThan(options.ProcessorCount, 1, nameof(options));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.ProcessorCount, MaxProcessors, nameof(options));
        return new SoftwarePartition(options);
    }
}

/// <summary>The vCPUs of one VM in the software engine.</summary>
internal sealed class SoftwarePartition : IPartition
{
    private readonly SoftwareProcessor[] _processors;

    public SoftwarePartition(PartitionOptions options)
    {
        var codePages = new CodePages(options.Memory);
        _processors = [.. Enumerable.Range(0, options.ProcessorCount).Select(index => new SoftwareProcessor(index, options, codePages))];
        codePages.Processors = _processors;
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
