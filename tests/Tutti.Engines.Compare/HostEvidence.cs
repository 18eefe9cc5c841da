using System.Diagnostics;
using System.Runtime.Intrinsics.X86;
using Tutti.Cpu;
using Tutti.Engines.Compare.Guests;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Engines.Compare;

/// <summary>What was measured of an engine on this host, before anything is compared.</summary>
/// <param name="Ring0MegaInstructions">Millions of instructions a second of 64-bit code at level 0.</param>
internal sealed record HostEvidence(double Ring0MegaInstructions)
{
    /// <summary>
    /// Below this no processor runs level 0 itself: instruction emulators reach one or two, QEMU's translator, seen from inside, some
    /// hundreds.
    /// </summary>
    private const double LeastOfHardware = 20;

    private const string BreakpointsStay = "QEMU's translator keeps a virtual machine's breakpoints armed after it is gone";
    private const int Rounds = 200_000;

    /// <summary>Whether code at level 0 runs on the processor, and not in an emulator of instructions.</summary>
    public bool RunsRing0 => Ring0MegaInstructions >= LeastOfHardware;

    /// <summary>
    /// Whether the processor below is QEMU's translator, which says so in CPUID 40000000h. It ends the whole machine ("invalid tss type")
    /// where 32-bit code of a virtual machine goes to an inner level with a TR that VMRUN has loaded: guests have to load it.
    /// </summary>
    public static bool IsTranslated { get; } = X86Base.IsSupported && X86Base.CpuId(0x4000_0000, 0) is { Ebx: 0x5447_4354, Ecx: 0x4354_4743, Edx: 0x4743_5447 };

    /// <summary>Guests that take the whole machine down where <see cref="IsTranslated"/>, and why.</summary>
    public static IReadOnlyDictionary<string, string> NotForTranslator { get; } = new Dictionary<string, string>
    {
        ["long: #DB of general detect"] = "with DR7.GD of a virtual machine QEMU's translator stops its host, too",
        ["protected: #DB of an instruction breakpoint"] = BreakpointsStay,
        ["protected: #DB of a data breakpoint"] = BreakpointsStay,
        ["fault: #DB of a data breakpoint"] = BreakpointsStay,
        ["fault: #DB of an instruction breakpoint, before it"] = BreakpointsStay,
        ["fault: RF in the image of the flags passes an instruction breakpoint"] = BreakpointsStay,
    };

    /// <exception cref="PlatformNotSupportedException">This host can't run the engine.</exception>
    public static HostEvidence Measure(IEngine engine)
    {
        using var machine = new GuestMachine(engine, GuestBuilder.RamSize);
        var builder = new GuestBuilder(machine.Memory, GuestMode.Long);
        builder.Program(a =>
        {
            Iced.Intel.Label again = a.CreateLabel();
            a.Label(ref again);
            a.dec(rcx);
            a.jne(again);
        });
        var end = new EndState();

        // The first run pays for what comes up on demand.
        builder.Registers.Gpr[1] = 1;
        machine.Run(builder.Registers, end);
        builder.Registers.Gpr[1] = Rounds;
        long before = machine.RunTicks;
        machine.Run(builder.Registers, end);
        double seconds = (double)(machine.RunTicks - before) / Stopwatch.Frequency;
        return new HostEvidence(2.0 * Rounds / seconds / 1e6);
    }
}
