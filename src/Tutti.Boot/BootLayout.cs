namespace Tutti.Boot;

/// <summary>
/// Guest physical addresses of what the loader puts below 1 MiB. All of it is free for the kernel to reuse, as it reads
/// these structures before it hands low memory out; the ACPI tables lie where a BIOS keeps its own and are reserved.
/// </summary>
public static class BootLayout
{
    /// <summary>Global descriptor table; the task state segment follows in the same page.</summary>
    public const ulong Gdt = 0x1000;

    /// <summary>Task state segment, 104 bytes of zero.</summary>
    public const ulong Tss = 0x1800;

    /// <summary>hvm_start_info, its module list and memory map (PVH).</summary>
    public const ulong StartInfo = 0x6000;

    /// <summary>boot_params, one page (Linux boot protocol).</summary>
    public const ulong BootParams = 0x7000;

    /// <summary>PML4, then one page-directory-pointer table, then four page directories.</summary>
    public const ulong PageTables = 0x9000;

    /// <summary>The kernel command line with its NUL, at most 64 KiB.</summary>
    public const ulong CommandLine = 0x2_0000;

    /// <summary>Behind this, up to 640 KiB, a PC keeps its extended BIOS data area.</summary>
    public const ulong LowMemoryEnd = 0x9_FC00;

    /// <summary>The RSDP, on the first address that a search for it looks at, and all tables behind it.</summary>
    public const ulong AcpiTables = 0xE_0000;

    /// <summary>Bytes for ACPI tables.</summary>
    public const int AcpiTablesLimit = 0x2_0000;

    /// <summary>1 MiB: kernels and RAM disks lie above.</summary>
    public const ulong ExtendedMemoryStart = 0x10_0000;
}
