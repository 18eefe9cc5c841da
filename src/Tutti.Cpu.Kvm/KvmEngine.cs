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
    /// <exception cref="KvmUnavailableException">The host has no KVM that can be used.</exception>
    public static KvmPartition CreateKvmPartition(PartitionOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        ThreadInterruption.Prepare();
        using KvmSystem system = KvmSystem.Open();
        ArgumentOutOfRangeException.ThrowIfLessThan(options.ProcessorCount, 1, nameof(options));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.ProcessorCount, system.MaxProcessors, nameof(options));
        return new KvmPartition(system, options);
    }
}
