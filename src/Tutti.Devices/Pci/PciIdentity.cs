namespace Tutti.Devices.Pci;

/// <summary>What a function says that it is. Source: PCI Local Bus Specification 3.0, 6.2.1, and the class codes of its appendix D.</summary>
public readonly record struct PciIdentity(
    ushort VendorId,
    ushort DeviceId,
    byte BaseClass,
    byte SubClass,
    byte ProgrammingInterface,
    byte Revision = 0,
    ushort SubsystemVendorId = 0,
    ushort SubsystemId = 0);

/// <summary>What a base address register decodes.</summary>
public enum PciBarKind
{
    /// <summary>I/O ports.</summary>
    Io,

    /// <summary>Physical addresses below 4 GiB.</summary>
    Memory32,

    /// <summary>Physical addresses anywhere; takes two registers.</summary>
    Memory64,

    /// <summary>The same, where reads have no side effects.</summary>
    Memory64Prefetchable,
}

/// <summary>
/// State of a function's configuration space: what the guest can write in it, its INTx output, and the MSI-X table where it has one. What
/// the function is of itself it keeps elsewhere.
/// </summary>
public sealed record PciFunctionState(byte[] Configuration, bool InterruptAsserted, MsixState? Msix);
