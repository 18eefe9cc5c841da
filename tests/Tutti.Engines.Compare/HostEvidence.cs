using System.Diagnostics;
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

    private const int Rounds = 200_000;

    /// <summary>Whether code at level 0 runs on the processor, and not in an emulator of instructions.</summary>
    public bool RunsRing0 => Ring0MegaInstructions >= LeastOfHardware;

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
