namespace Tutti.Cpu.Interpreter.Tests.Fuzz;

/// <summary>Processor modes that random code starts in.</summary>
public enum FuzzMode
{
    Real,
    Protected16,
    Protected32,
    Paged32,
    PhysicalAddressExtension,
    Virtual8086,
    Compatibility,
    LongSupervisor,
    LongUser,
}
