using Tutti.Boot.Acpi;

namespace Tutti.Boot;

/// <summary>What is to be booted.</summary>
public sealed record BootOptions
{
    /// <summary>The kernel file: a bzImage, or a vmlinux with a PVH entry.</summary>
    public required ReadOnlyMemory<byte> Kernel { get; init; }

    /// <summary>The initial RAM disk; empty for none.</summary>
    public ReadOnlyMemory<byte> Initrd { get; init; }

    /// <summary>The kernel command line, ASCII without NUL.</summary>
    public string CommandLine { get; init; } = string.Empty;

    /// <summary>Number of processors that the ACPI tables name, 1 to 1024; their APIC IDs are 0, 1, 2, …</summary>
    public int ProcessorCount { get; init; } = 1;

    /// <summary>Where the ACPI tables say that the devices are.</summary>
    public AcpiHardware Acpi { get; init; } = new();
}
