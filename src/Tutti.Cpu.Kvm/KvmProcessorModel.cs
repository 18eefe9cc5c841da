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

    private readonly CpuModel _cpu;
    private readonly CpuidEntry[] _supported;
    private readonly bool _hasTscDeadline;
    private readonly int _processorCount;

    /// <exception cref="KvmUnavailableException">The host's processor can't be the model.</exception>
    internal KvmProcessorModel(KvmSystem system, PartitionOptions options)
    {
        VcpuMmapSize = system.VcpuMmapSize;
        int xsave2 = system.Check(KvmCapability.XSAVE2);
        HasXsave2 = xsave2 > 0;
        XsaveSize = Math.Max(LegacyXsaveSize, xsave2);
        Msrs = system.GetMsrIndexList();
        _cpu = options.Cpu;
        _supported = system.GetSupportedCpuid();
        _hasTscDeadline = system.Check(KvmCapability.TSC_DEADLINE_TIMER) != 0;
        _processorCount = options.ProcessorCount;
        IReadOnlyList<string> missing = _cpu.FindMissing(_supported, _hasTscDeadline);
        if (missing.Count > 0)
        {
            throw new KvmUnavailableException(_cpu.Refusal("this host", missing), "choose another with --cpu");
        }
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
        CpuidEntry[] entries = _cpu.Build(_supported, new CpuidProcessor
        {
            ApicId = (uint)index,
            ProcessorCount = _processorCount,
            TscKilohertz = GetTscKilohertz(vcpu),
            HasTscDeadline = _hasTscDeadline,
        });
        byte[] buffer = new byte[8 + (entries.Length * sizeof(KvmCpuidEntry2))];
        // SAFETY: the buffer is a kvm_cpuid2 with as many entries as its first word says.
        fixed (byte* cpuid = buffer)
        {
            *(int*)cpuid = entries.Length;
            KvmCpuidEntry2* to = (KvmCpuidEntry2*)(cpuid + 8);
            foreach (ref readonly CpuidEntry entry in entries.AsSpan())
            {
                *to++ = KvmCpuidEntry2.From(entry);
            }

            _ = Call(vcpu, nameof(KVM_SET_CPUID2), KVM_SET_CPUID2, cpuid);
        }
    }

    /// <summary>0 where the host's counter has no fixed rate.</summary>
    internal static uint GetTscKilohertz(FileDescriptor vcpu) => (uint)Math.Max(0, ioctl(vcpu.Number, KVM_GET_TSC_KHZ, null));
}
