namespace Tutti.Boot.Acpi;

/// <summary>A run of addresses, or of ports, that a host bridge sends on to its bus.</summary>
/// <param name="Start">The first.</param>
/// <param name="Size">How many, 1 or more.</param>
public readonly record struct AcpiWindow(ulong Start, ulong Size);

/// <summary>What the ACPI tables tell of a PCI host bridge with bus 0 alone.</summary>
public sealed record AcpiPciBus
{
    /// <summary>Bytes of ECAM for one bus.</summary>
    public const ulong EcamSize = 1 << 20;

    /// <summary>Slots of the bus.</summary>
    public const int SlotCount = 32;

    /// <summary>INTA to INTD.</summary>
    public const int PinCount = 4;

    /// <summary>Physical address of the enhanced configuration access mechanism, below 4 GiB and a multiple of 1 MiB.</summary>
    public required uint EcamAddress { get; init; }

    /// <summary>Ports of the bus; at most 65536 together.</summary>
    public required IReadOnlyList<AcpiWindow> PortWindows { get; init; }

    /// <summary>Memory of the bus, each below or above 4 GiB.</summary>
    public required IReadOnlyList<AcpiWindow> MemoryWindows { get; init; }

    /// <summary>The global system interrupt of a slot (0 to 31) and pin (0 to 3) when the system uses the I/O APIC; level-triggered.</summary>
    public required Func<int, int, int> GlobalInterrupt { get; init; }

    /// <summary>The same when it uses the 8259s, 3 to 15.</summary>
    public required Func<int, int, int> LegacyInterrupt { get; init; }
}
