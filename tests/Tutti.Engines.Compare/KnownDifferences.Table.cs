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
    ];

    private const string Translator = "QEMU's translator, below KVM";

    /// <summary>Guests that QEMU's translator runs otherwise.</summary>
    private static readonly (string Name, string Manual, string[] Guests)[] Translated =
    [
        (
            "segment limits and types",
            "Intel SDM 3, 6.3, 6.5: an access beyond the limit, through a null selector, or against the type is #GP(0), in the stack segment #SS(0).",
            [
                "real: #GP of a word across the segment's end", "real: #SS of a word across the stack segment's end",
                "real: a limit loaded in protected mode stays", "protected: expand-down segments end below their limit",
                "protected: #GP of a limit", "protected: #GP of a write to a read-only segment", "protected: #GP of a null data segment's use",
            ]),
        (
            "canonical addresses",
            "Intel SDM 2, WRMSR: a non-canonical base is #GP(0); AMD APM 3, RET: #GP(0) before the return; Intel SDM 3, 7.15, Interrupt 12: a stack access is #SS(0).",
            [
                "long: #GP of a non-canonical MSR", "long: #GP of a non-canonical LSTAR", "user: #SS of a non-canonical stack",
                "user: #GP of RET to a non-canonical address",
            ]),
        (
            "INT1",
            "Intel SDM 2, INT n/INTO/INT3/INT1: F1 is a #DB trap.",
            ["long: #DB of INT1"]),
        (
            "arithmetic flags after SYSCALL",
            "Intel SDM 2, SYSCALL: RFLAGS is masked with IA32_FMASK; flags that are not in it stay.",
            ["user: SYSCALL and SYSRET", "user: SYSRET to compatibility mode"]),
        (
            "no #AC and no #XM",
            "Intel SDM 3, 7.15, Interrupts 17 and 19.",
            ["user: #AC of a misaligned access", "user: #XM of an unmasked SSE exception"]),
        (
            "write bit of a page fault of a read and write",
            "Intel SDM 3, 5.7: W/R is set for an access that writes, as a read-modify-write does.",
            ["fault: #PF of a read and write"]),
        (
            "null SS with a stack of the table",
            "Intel SDM 2, INT n: SS becomes null where the level changes; a stack of the table alone replaces RSP.",
            [
                "fault: #PF of PUSH leaves RSP", "fault: #PF of POP leaves RSP", "fault: #DF of a fault while a fault is delivered",
                "fault: #DF of a page fault within a page fault", "fault: a benign fault, then a page fault on the stack",
            ]),
        (
            "targets that are not canonical",
            "Intel SDM 2, JMP, IRET: #GP(0) before the transfer; 3, 7.15, Interrupt 12: a stack access is #SS(0).",
            [
                "fault: #SS of a non-canonical address from RBP", "fault: #GP of JMP to a non-canonical address",
                "fault: #GP of IRETQ to a non-canonical address",
            ]),
        (
            "error code of a gate",
            "Intel SDM 3, 7.13: the error code has the vector in bits 15:3, and IDT (bit 1) set.",
            ["fault: #NP of an interrupt gate", "fault: #GP of a gate that is none", "fault: #GP of a vector beyond the IDT"]),
        (
            "MMX registers and MXCSR",
            "Intel SDM 1, 9.2.2: a write of an MMX register sets its exponent to ones; 2, LDMXCSR: a reserved bit is #GP(0).",
            ["mmx: packs and shuffles", "sse: #GP of reserved MXCSR bits"]),
    ];

    public static IReadOnlyList<KnownDifference> All { get; } =
    [
        new(
            "RF in the image of the flags",
            "Intel SDM 3, 19.3.1.1: a fault pushes RF set.",
            Translator,
            (_, difference, _) => HostEvidence.IsTranslated && difference.Address != null && ulong.IsPow2(difference.Bits)
                && ulong.Log2(difference.Bits) % 8 == 0 && (difference.SecondValue & difference.Bits) != 0),
        new(
            "write bit of a page fault of LOCK",
            "Intel SDM 3, 5.7: W/R is set for an access that writes, as a read-modify-write does.",
            Translator,
            (result, _, _) => HostEvidence.IsTranslated && result.Differences.Any(d => d.Field == "end"
                && d.First.StartsWith("exception 14 error ", StringComparison.Ordinal) && d.Second.StartsWith("exception 14 error ", StringComparison.Ordinal))),
        new(
            "arithmetic flags and DF at a fault",
            "Intel SDM 3, 7.5: a fault leaves the state as it was before the instruction; the same streams run on a processor agree with the software engine.",
            Translator,
            (result, difference, _) => HostEvidence.IsTranslated && IsArithmeticAtFault(result, difference)),
        new(
            "null SS with a stack of the table",
            "Intel SDM 2, INT n: SS becomes null where the level changes; a stack of the table alone replaces RSP.",
            Translator,
            (result, difference, _) => HostEvidence.IsTranslated && result.Mode == "Ring0" && difference.Field is "ss.selector" or "ss.attributes"),
        new(
            "device reads ahead of a fault",
            "Intel SDM 2, INS: each element is read and stored before the next; the one that faults stops the repetition.",
            "KVM's emulator of instructions: it reads many elements at once",
            (result, difference, _) => result.Name == "ports: REP INS stops at a page fault" && difference.Field == "io"),
        new(
            "dirty bit of an emulated read and write",
            "Intel SDM 3, 5.8: the processor sets D when it writes; a write to a device is one, too.",
            "KVM's emulator of instructions: it keeps the address that it has found for the read",
            (result, difference, _) => result.Name.StartsWith("mmio: ", StringComparison.Ordinal) && difference.Bits == Tutti.X86.PageTableEntry.Dirty && IsPageTable(difference)),
        new(
            "reserved bits of PDPTEs",
            "Intel SDM 3, 5.4.1: MOV to CR0 that turns PAE paging on is #GP(0) where a present PDPTE has reserved bits; AMD APM 2, 15.25.10: with nested paging the entries are read and checked at each walk.",
            "software: it does as AMD's processors with nested paging do",
            (result, _, host) => host.RunsRing0 && result.Name == "paging: shutdown or #GP of a PDPTE with reserved bits"),
        new(
            "limit bits of LAR",
            "Intel SDM 2, LAR: bits 19:16 are undefined; AMD APM 3, LAR: the descriptor's limit bits.",
            "neither",
            (result, difference, _) => result.Name == "long: LAR and LSL" && difference is { Field: "rbx", Bits: 0xF_0000 }),
        .. Translated.Select(entry => new KnownDifference(
            entry.Name, entry.Manual, Translator, (result, _, _) => HostEvidence.IsTranslated && entry.Guests.Contains(result.Name))),
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

    /// <summary>The flags, or their image in a frame together with RF; a stream's text ends with how it ended.</summary>
    private static bool IsArithmeticAtFault(CaseResult result, Difference difference)
    {
        const ulong Image = Tutti.X86.Rflags.Arithmetic | Tutti.X86.Rflags.Direction | Tutti.X86.Rflags.Resume;
        string ending = result.Text[(result.Text.LastIndexOf('\n') + 1)..].Trim();
        bool isFault = ending.StartsWith("exception 14 ", StringComparison.Ordinal) || ending.StartsWith("exception 6 ", StringComparison.Ordinal);
        return isFault && (difference.Field == "rflags" ? (difference.Bits & ~Image) == 0
            : difference.Address != null && IsWithin(difference.Bits, Image));
    }

    /// <summary>Whether the bits lie in those of a value at some byte of the word.</summary>
    private static bool IsWithin(ulong bits, ulong value) => Enumerable.Range(-3, 11).Any(at => (bits & ~(at < 0 ? value >> (-8 * at) : value << (8 * at))) == 0);

    private static bool IsPageTable(Difference difference) =>
        difference.Address is >= Guests.GuestBuilder.PageTables and < Guests.GuestBuilder.PageTables + 0x8000;
}
