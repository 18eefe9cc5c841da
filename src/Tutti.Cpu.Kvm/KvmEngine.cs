using Tutti.Host;

namespace Tutti.Cpu.Kvm;

/// <summary>The engine that runs guests on the processor's own virtualization, through Linux's <c>/dev/kvm</c>.</summary>
public sealed class KvmEngine : IEngine
{
    public string Name => "kvm";

    public bool BringsInterruptControllers => true;

    /// <summary>What the host's KVM allows.</summary>
    /// <exception cref="KvmUnavailableException">The host has no KVM that can be used.</exception>
    public int MaxProcessors
    {
        get
        {
            using KvmSystem system = KvmSystem.Open();
            return system.MaxProcessors;
        }
    }

    public IPartition CreatePartition(PartitionOptions options) => CreateKvmPartition(options);

    /// <summary>The same, as the type that also wires eventfds to doorbells and interrupts.</summary>
    /// <exception cref="KvmUnavailableException">The host has no KVM that can be used, or not with these options.</exception>
    public static KvmPartition CreateKvmPartition(PartitionOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.ProcessorCount, 1, nameof(options));
        using KvmSystem system = KvmSystem.Open();
        if (options.ProcessorCount > system.MaxProcessors)
        {
            throw new KvmUnavailableException(
                $"the host's KVM runs at most {system.MaxProcessors} vCPUs in a VM, not {options.ProcessorCount}", "ask for fewer with --cpus");
        }

        try
        {
            ThreadInterruption.Prepare();
            return new KvmPartition(system, options);
        }
        catch (HostException e)
        {
            throw KvmUnavailableException.From(e);
        }
    }
}
