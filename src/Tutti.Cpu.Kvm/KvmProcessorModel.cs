using Tutti.Host;
using Tutti.X86;
using static Tutti.Cpu.Kvm.KvmCalls;
using static Tutti.Cpu.Kvm.KvmIoctl;

namespace Tutti.Cpu.Kvm;

/// <summary>What all vCPUs of a partition have in common: sizes, MSRs, and the CPUID table that each gets its own form of.</summary>
internal sealed unsafe class KvmProcessorModel
{
    /// <summary>Bytes of KVM_GET_XSAVE, and the least of KVM_GET_XSAVE2.</summary>
    private const int LegacyXsaveSize = 4096;

    private readonly KvmCpuidEntry2[] _supported;
    private readonly int _processorCount;

    internal KvmProcessorModel(KvmSystem system, PartitionOptions options)
    {
        VcpuMmapSize = system.VcpuMmapSize;
        int xsave2 = system.Check(KvmCapability.XSAVE2);
        HasXsave2 = xsave2 > 0;
        XsaveSize = Math.Max(LegacyXsaveSize, xsave2);
        Msrs = system.GetMsrIndexList();
        _supported = system.GetSupportedCpuid();
        _processorCount = options.ProcessorCount;
    }

    internal int VcpuMmapSize { get; }

    internal bool HasXsave2 { get; }

    /// <summary>Bytes of a vCPU's XSAVE state.</summary>
    internal int XsaveSize { get; }

    /// <summary>The MSRs that belong to a vCPU's state.</summary>
    internal uint[] Msrs { get; }

    /// <summary>Tells a new vCPU what CPUID shows.</summary>
    internal void SetCpuid(FileDescriptor vcpu, int index)
    {
        KvmCpuidEntry2[] entries = _supported;
        byte[] buffer = new byte[8 + (entries.Length * sizeof(KvmCpuidEntry2))];
        // SAFETY: the buffer is a kvm_cpuid2 with as many entries as its first word says.
        fixed (byte* cpuid = buffer)
        {
            *(int*)cpuid = entries.Length;
            entries.CopyTo(new Span<KvmCpuidEntry2>(cpuid + 8, entries.Length));
            _ = Call(vcpu, nameof(KVM_SET_CPUID2), KVM_SET_CPUID2, cpuid);
        }
    }
}
