namespace Tutti.Engines.Compare;

internal static partial class KnownDifferences
{
    private const ulong Precision = 1 << 5;
    private const ulong OverflowAndUnderflow = 0b1_1000;
    private const string Ring3Only = "a KVM without hardware below it: it runs 64-bit code at level 3 on the processor and emulates the rest";

    /// <summary>Guests that a KVM which emulates level 0 runs otherwise, by what is missing in it.</summary>
    private static readonly (string Name, string Manual, string[] Guests)[] Emulated =
    [
        (
            "gates and returns between levels",
            "Intel SDM 3, 7.12.1 and 2, INT n, IRET; AMD APM 2, 8.9: INT n leads through its gate; the frame has the address behind it and RF clear; IRETQ pops 64 bits at its operand size, restores IOPL from level 0 and drops data segments that the outer level may not use.",
            [
                "protected: a call gate leads to inner code with arguments", "protected: an interrupt changes to the inner stack",
                "protected: #GP of a gate that user code may not call", "protected: POPF at level 3 leaves IOPL and IF alone",
                "user: an interrupt pushes five quadwords on the inner stack", "user: an interrupt on a stack of the table",
                "user: INT and IRETQ come back", "fault: #GP of IRETQ to a data segment", "fault: #GP of IRETQ to a non-canonical address",
                "transfer: IRETQ to level 3 and back by an interrupt", "transfer: IRETQ to level 3 drops kernel data segments",
                "transfer: IRETQ to compatibility mode", "transfer: a call gate of long mode", "transfer: #GP of IRET to an inner level",
                "transfer: SYSEXIT",
            ]),
        (
            "SYSCALL, selectors and control bits of user code",
            "Intel SDM 2, SYSCALL, MOV, CLI, RDFSBASE; 3, 2.5: SYSCALL loads CS and SS from STAR and masks RFLAGS; EFER.SCE, CR0.TS, CR0.EM, CR4.FSGSBASE and IOPL govern user code; segment loads are seen by level 0.",
            [
                "user: SYSCALL and SYSRET", "user: SYSRET to compatibility mode", "user: SYSCALL with TF masked",
                "user: #UD of SYSRET's opcode when EFER.SCE is clear", "user: CLI and STI with IOPL", "user: #NM of an x87 instruction with TS",
                "user: #UD of SSE with EM", "user: segment loads", "user: #UD of RDFSBASE without CR4.FSGSBASE", "ports: all widths at level 3",
                "user: RDFSBASE and WRGSBASE", "user: a far return to 32-bit code",
                "transfer: SYSRET with a 16-bit-aligned selector",
            ]),
        (
            "AC in user code",
            "Intel SDM 3, 7.12.1.3: an interrupt gate clears TF, NT, RF, VM and IF; AC stays.",
            ["user: #AC of a misaligned access", "user: POPFQ without IOPL leaves IF and IOPL alone"]),
        (
            "paging formats and SMAP",
            "Intel SDM 3, 5.3, 5.4, 5.5.4: 32-bit and PAE paging, and 1 GiB pages where CPUID shows them; 5.6: SMAP concerns data, not fetches.",
            [
                "paging: a 1 GiB page", "paging: 32-bit tables, A and D", "paging: 32-bit tables, #PF", "paging: 4 MiB pages",
                "paging: PAE tables", "paging: SMAP forbids level 0 to read user pages", "paging: shutdown or #GP of a PDPTE with reserved bits",
            ]),
        (
            "debug exceptions of emulated code",
            "Intel SDM 3, 19.2.4, 19.3.1.4, 2 MOV: data breakpoints trap behind the access; MOV SS holds debug exceptions for one instruction.",
            ["protected: #DB of a data breakpoint", "fault: #DB of a data breakpoint", "long: MOV SS holds a single step for one instruction"]),
        (
            "faults while a fault is delivered",
            "Intel SDM 3, 7.15, Interrupt 8: a benign exception and a page fault are handled one after the other; a page fault on the way sets CR2.",
            [
                "fault: #DF of a fault while a fault is delivered", "fault: #DF of a page fault within a page fault",
                "fault: a benign fault, then a page fault on the stack",
            ]),
        (
            "memory types in PAT",
            "Intel SDM 3, 13.12.2: a reserved type in IA32_PAT is #GP(0).",
            ["long: #GP of a PAT type that is reserved"]),
        (
            "reserved bits of MXCSR",
            "Intel SDM 2, LDMXCSR: a reserved bit is #GP(0).",
            ["sse: #GP of reserved MXCSR bits"]),
        (
            "device reads ahead of a fault",
            "Intel SDM 2, INS: each element is read and stored before the next; the one that faults stops the repetition.",
            ["ports: REP INS stops at a page fault"]),
    ];

    public static IReadOnlyList<KnownDifference> All { get; } =
    [
        new(
            "not emulated",
            "KVM API, 5. The kvm_run structure, KVM_EXIT_INTERNAL_ERROR: KVM met an instruction that its emulator does not have; with hardware below it, it meets only few.",
            Ring3Only,
            (result, _, host) => !host.RunsRing0 && result.Differences.Any(d => d.Field == "ending" && d.First.Contains("could not emulate", StringComparison.Ordinal))),
        new(
            "accessed bit of a refused access",
            "Intel SDM 3, 5.8: the processor sets A in an entry that it uses; whether an access that is refused counts as a use is its own affair.",
            "neither",
            (_, difference, _) => difference.Bits == Tutti.X86.PageTableEntry.Accessed && IsPageTable(difference)),
        new(
            "#UD in place of #GP",
            "Intel SDM 2, exceptions of SSE instructions: a memory operand that is not aligned is #GP(0).",
            Ring3Only,
            (result, _, host) => !host.RunsRing0 && result.Differences.Any(d => d.Field == "end"
                && d.First.StartsWith("exception 6 ", StringComparison.Ordinal) && d.Second.StartsWith("exception 13 error 0 ", StringComparison.Ordinal)
                && d.First[^8..] == d.Second[^8..])),
        new(
            "alignment checks in user code",
            "Intel SDM 3, 2.5, CR0.AM: RFLAGS.AC checks alignment only with CR0.AM set.",
            Ring3Only,
            (result, _, host) => !host.RunsRing0 && result.Differences.Any(d => d.Field == "end" && d.First.StartsWith("exception 17 error 0 ", StringComparison.Ordinal))),
        new(
            "inexact result beside an unmasked overflow or underflow",
            "Intel SDM 1, 11.5.2.4 to 11.5.2.6: PE tells whether the result, rounded with an exponent without bounds, is inexact.",
            "software: it computes with exceptions masked, and has no such result to look at",
            (_, difference, _) => difference is { Field: "mxcsr", Bits: Precision } && (difference.FirstValue & ~(difference.FirstValue >> 7) & OverflowAndUnderflow) != 0),
        new(
            "AC in user code",
            "Intel SDM 3, 7.12.1.3: an interrupt gate clears TF, NT, RF, VM and IF; AC stays.",
            Ring3Only,
            (result, difference, host) => !host.RunsRing0 && result.Mode == "Ring3" && difference is { Field: "rflags", Bits: Tutti.X86.Rflags.AlignmentCheck }),
        .. Emulated.Select(entry => new KnownDifference(
            entry.Name, entry.Manual, Ring3Only, (result, _, host) => !host.RunsRing0 && entry.Guests.Contains(result.Name))),
    ];

    private static bool IsPageTable(Difference difference) =>
        difference.Address is >= Guests.GuestBuilder.PageTables and < Guests.GuestBuilder.PageTables + 0x8000;
}
