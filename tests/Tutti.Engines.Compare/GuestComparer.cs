using Tutti.Cpu;
using Tutti.Engines.Compare.Guests;

namespace Tutti.Engines.Compare;

/// <summary>Runs named guests on two engines, each time on new machines, and compares everything.</summary>
internal sealed class GuestComparer(IEngine first, IEngine second)
{
    private const int Chunk = 0x1_0000;

    /// <summary>How the last guest ended on the first engine.</summary>
    public Ending Ending { get; private set; }

    /// <exception cref="PlatformNotSupportedException">This host can't run one of the engines.</exception>
    public CaseResult Compare(NamedGuest guest)
    {
        using var firstMachine = new GuestMachine(first, GuestBuilder.RamSize);
        using var secondMachine = new GuestMachine(second, GuestBuilder.RamSize);
        EndState firstEnd = Run(guest, firstMachine);
        EndState secondEnd = Run(guest, secondMachine);
        Ending = firstEnd.Ending;
        List<Difference> differences = [];
        StateComparison.Compare(firstEnd, secondEnd, guest.UndefinedFlags, differences);
        for (ulong address = 0; address < GuestBuilder.RamSize; address += Chunk)
        {
            StateComparison.CompareMemory(firstMachine.Memory, secondMachine.Memory, address, Chunk, differences);
        }

        return new CaseResult(guest.Name, string.Empty, guest.Mode.ToString(), differences);
    }

    private static EndState Run(NamedGuest guest, GuestMachine machine)
    {
        var builder = new GuestBuilder(machine.Memory, guest.Mode);
        guest.Build(builder);
        if (HostEvidence.IsTranslated)
        {
            builder.LoadTaskRegisterFirst();
        }

        var end = new EndState();
        machine.Run(builder.Registers, end);
        return end;
    }
}
