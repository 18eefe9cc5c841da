namespace Tutti.X86;

/// <summary>
/// Which features processors, and the programs that look for them, have only together with others. Sources: the chapters of Intel SDM volume 1 and
/// AMD APM volume 1 on each extension ("detection"); for state components Intel SDM volume 1, 13.1.
/// </summary>
internal static class CpuFeatureNeeds
{
    /// <summary>A feature, or several, and what each of them needs itself; what that needs in turn has its own row.</summary>
    private static readonly (string Features, string Needs)[] Rows =
    [
        ("MMX FXSR", "FPU"),
        ("MMXEXT 3DNOW", "MMX"),
        ("3DNOWEXT", "3DNOW"),
        ("FFXSR SSE XSAVE", "FXSR"),
        ("SSE2", "SSE"),
        ("SSE3 AES PCLMULQDQ SHA GFNI", "SSE2"),
        ("SSSE3 SSE4A", "SSE3"),
        ("SSE4.1", "SSSE3"),
        ("SSE4.2", "SSE4.1"),

        // A state component is there when the feature is that has it, and the other way round.
        ("XSAVE", "XCR0.X87 XCR0.SSE"),
        ("XCR0.X87 XCR0.SSE XSAVEOPT XSAVEC XGETBV_ECX1 XFD MPX PKU AMX-TILE", "XSAVE"),
        ("XSAVES", "XSAVEC"),
        ("CET_SS CET_IBT", "XSAVES"),
        ("AVX", "SSE4.2 XSAVE XCR0.AVX"),
        ("XCR0.AVX", "AVX"),
        ("PKU", "XCR0.PKRU"),
        ("XCR0.PKRU", "PKU"),
        ("MPX", "XCR0.BNDREGS XCR0.BNDCSR"),
        ("XCR0.BNDREGS XCR0.BNDCSR", "MPX"),
        ("AMX-TILE", "XCR0.TILECFG XCR0.TILEDATA"),
        ("XCR0.TILECFG XCR0.TILEDATA AMX-BF16 AMX-INT8 AMX-FP16 AMX-COMPLEX", "AMX-TILE"),

        ("AVX2 FMA F16C VAES VPCLMULQDQ FMA4 XOP", "AVX"),
        ("VAES", "AES"),
        ("VPCLMULQDQ", "PCLMULQDQ"),
        ("AVX-VNNI AVX-IFMA AVX-VNNI-INT8 AVX-VNNI-INT16 AVX-NE-CONVERT SHA512 SM3 SM4 AVX512F", "AVX2"),
        ("AVX512F", "FMA F16C XCR0.OPMASK XCR0.ZMM_HI256 XCR0.HI16_ZMM"),
        ("XCR0.OPMASK XCR0.ZMM_HI256 XCR0.HI16_ZMM", "AVX512F"),
        ("AVX512DQ AVX512CD AVX512BW AVX512VL AVX512PF AVX512ER AVX512_IFMA AVX512_VPOPCNTDQ AVX512_VNNI AVX512_4VNNIW AVX512_4FMAPS "
            + "AVX512_VP2INTERSECT AVX10", "AVX512F"),
        ("AVX512_VBMI AVX512_VBMI2 AVX512_BITALG AVX512_BF16 AVX512_FP16", "AVX512BW"),

        ("LM", "PAE"),
        ("NX", "PAE"),
        ("PSE-36", "PSE"),
        ("SYSCALL LAHF64 CMPXCHG16B PCID FSGSBASE LA57 PAGE1GB", "LM"),
        ("CMPXCHG16B", "CMPXCHG8B"),
        ("INVPCID", "PCID"),
        ("MCA", "MCE"),
        ("X2APIC TSC-DEADLINE ARAT", "APIC"),
        ("TSC-DEADLINE RDTSCP TSC_ADJUST INVARIANT_TSC", "TSC"),
        ("MTRR PAT", "MSR"),
        ("CLFLUSHOPT CLWB", "CLFLUSH"),
        ("PKS", "LM"),

        ("KVM_CLOCKSOURCE KVM_NOP_IO_DELAY KVM_MMU_OP KVM_CLOCKSOURCE2 KVM_ASYNC_PF KVM_STEAL_TIME KVM_PV_EOI KVM_PV_UNHALT KVM_PV_TLB_FLUSH "
            + "KVM_PV_SEND_IPI KVM_POLL_CONTROL KVM_PV_SCHED_YIELD", "HYPERVISOR"),
        ("KVM_CLOCKSOURCE_STABLE", "KVM_CLOCKSOURCE2"),
        ("KVM_ASYNC_PF_VMEXIT KVM_ASYNC_PF_INT", "KVM_ASYNC_PF"),
    ];

    private static readonly ILookup<string, string> Needs = Rows
        .SelectMany(row => row.Features.Split(' ').SelectMany(feature => row.Needs.Split(' ').Select(need => (Feature: feature, Need: need))))
        .ToLookup(pair => pair.Feature, pair => pair.Need, StringComparer.Ordinal);

    private static readonly ILookup<string, string> Dependents = Needs
        .SelectMany(needs => needs.Select(need => (Need: need, Feature: needs.Key)))
        .ToLookup(pair => pair.Need, pair => pair.Feature, StringComparer.Ordinal);

    /// <summary>Names in the table, for a test that they are features.</summary>
    internal static IEnumerable<string> Names => Needs.Select(needs => needs.Key).Concat(Dependents.Select(needs => needs.Key));

    /// <summary>The feature and all that it needs.</summary>
    internal static HashSet<string> With(string feature) => Reach(feature, Needs);

    /// <summary>The feature and all that needs it.</summary>
    internal static HashSet<string> Without(string feature) => Reach(feature, Dependents);

    private static HashSet<string> Reach(string feature, ILookup<string, string> next)
    {
        HashSet<string> reached = new(StringComparer.Ordinal) { feature };
        Queue<string> open = new([feature]);
        while (open.TryDequeue(out string? name))
        {
            foreach (string other in next[name].Where(reached.Add))
            {
                open.Enqueue(other);
            }
        }

        return reached;
    }
}
