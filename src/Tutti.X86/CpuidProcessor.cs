namespace Tutti.X86;

/// <summary>What a table of CPUID answers depends on besides the model and the host: the vCPU it is for.</summary>
public readonly record struct CpuidProcessor
{
    /// <summary>How fast the local APIC timers of both KVM (KVM_CAP_X86_APIC_BUS_CYCLES_NS, by default) and our own count: 1 GHz.</summary>
    internal const uint ApicTimerKilohertz = 1_000_000;

    /// <summary>The vCPU's APIC ID, different for each; vCPUs have those from 0 up.</summary>
    public required uint ApicId { get; init; }

    /// <summary>vCPUs in the machine, 1 or more: as many cores of one thread each, in one package.</summary>
    public required int ProcessorCount { get; init; }

    /// <summary>What the vCPU's time-stamp counter runs at (KVM_GET_TSC_KHZ), in kHz; 0 when that is not known, and then it isn't shown.</summary>
    public uint TscKilohertz { get; init; }

    /// <summary>
    /// Whether the local APIC timer has TSC-deadline mode (KVM_CAP_TSC_DEADLINE_TIMER). Older kernels do not say so
    /// in KVM_GET_SUPPORTED_CPUID.
    /// </summary>
    public bool HasTscDeadline { get; init; }

    /// <summary>Bits of an APIC ID that tell cores apart.</summary>
    internal int CoreIdBits => CoreIdBitsFor(ProcessorCount);

    internal static int CoreIdBitsFor(int processorCount) => 32 - System.Numerics.BitOperations.LeadingZeroCount((uint)processorCount - 1);

    /// <summary>Leaf 1 EBX: APIC ID, logical processors, CLFLUSH line of 8 quadwords.</summary>
    internal uint LegacyTopology => (ApicId << 24) | ((uint)Math.Min(ProcessorCount, 255) << 16) | (8u << 8);

    /// <summary>Leaf 80000008h ECX: the width of core IDs, cores less one.</summary>
    internal uint AmdCoreCount => ((uint)CoreIdBits << 12) | (((uint)ProcessorCount - 1) & 0xFF);

    /// <summary>Leaf 0Bh: one thread a core, all cores in one package.</summary>
    internal IEnumerable<CpuidEntry> TopologyRows() =>
    [
        new(CpuidLeaf.Topology, 0, new CpuidResult(0, 1, 0x100, ApicId)),
        new(CpuidLeaf.Topology, 1, new CpuidResult((uint)CoreIdBits, (uint)ProcessorCount, 0x201, ApicId)),
        new(CpuidLeaf.Topology, 2, new CpuidResult(0, 0, 2, ApicId)),
    ];

    /// <summary>
    /// Fills in who shares a cache (leaf 4, and 8000001Dh EAX, AMD's leaf of the same layout): the third level is shared by
    /// all, the ones below by nobody. Intel also repeats the number of cores.
    /// </summary>
    internal CpuidResult ShareCache(CpuidResult cache, bool countCores)
    {
        uint all = (1u << CoreIdBits) - 1;
        uint level = (cache.Eax >> 5) & 7;
        uint sharing = level >= 3 ? Math.Min(all, 0xFFF) << 14 : 0;
        uint cores = countCores ? Math.Min(all, 0x3F) << 26 : 0;
        return (cache.Eax & 0x1F) == 0 ? default : cache with { Eax = (cache.Eax & 0x3FFF) | sharing | cores };
    }

    /// <summary>Leaves 15h, 16h and 40000010h, as far as the frequency is known.</summary>
    internal IEnumerable<CpuidEntry> FrequencyRows()
    {
        if (TscKilohertz == 0)
        {
            return [];
        }

        (uint numerator, uint denominator) = ApproximateRatio(TscKilohertz, ApicTimerKilohertz);
        uint megahertz = (TscKilohertz + 500) / 1000;
        return
        [
            // The crystal that the local APIC timer counts, and how many times faster the TSC is.
            new(CpuidLeaf.TscFrequency, new CpuidResult(denominator, numerator, ApicTimerKilohertz * 1000, 0)),
            new(CpuidLeaf.ProcessorFrequency, new CpuidResult(megahertz, megahertz, 0, 0)),
            new(CpuidLeaf.HypervisorFrequency, new CpuidResult(TscKilohertz, ApicTimerKilohertz, 0, 0)),
        ];
    }

    /// <summary>
    /// The closest fraction (by continued fractions) whose numerator is at most 4294: Linux multiplies it with the crystal's
    /// kHz in 32 bits. At worst that is 0.012 % off; leaf 40000010h is exact.
    /// </summary>
    private static (uint Numerator, uint Denominator) ApproximateRatio(ulong value, ulong unit)
    {
        const ulong MaxNumerator = uint.MaxValue / ApicTimerKilohertz;
        (ulong Numerator, ulong Denominator) current = (1, 0);
        (ulong Numerator, ulong Denominator) previous = (0, 1);
        (ulong dividend, ulong divisor) = (value, unit);
        while (divisor != 0)
        {
            ulong quotient = dividend / divisor;
            ulong largest = Math.Min(quotient, (MaxNumerator - previous.Numerator) / Math.Max(current.Numerator, 1));
            (ulong Numerator, ulong Denominator) next =
                ((largest * current.Numerator) + previous.Numerator, (largest * current.Denominator) + previous.Denominator);
            if (largest < quotient)
            {
                // The next convergent is too large: the last one, or the best between the two.
                current = Error(next) * current.Denominator < Error(current) * next.Denominator ? next : current;
                break;
            }

            (previous, current) = (current, next);
            (dividend, divisor) = (divisor, dividend % divisor);
        }

        return ((uint)current.Numerator, (uint)current.Denominator);

        ulong Error((ulong Numerator, ulong Denominator) fraction) =>
            (ulong)Math.Abs((long)(value * fraction.Denominator) - (long)(unit * fraction.Numerator));
    }
}
