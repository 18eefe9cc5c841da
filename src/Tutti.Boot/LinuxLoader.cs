using Tutti.Boot.Acpi;
using Tutti.Cpu;
using Tutti.Memory;

namespace Tutti.Boot;

/// <summary>Puts a Linux kernel, its RAM disk, command line and firmware tables into guest memory.</summary>
public static class LinuxLoader
{
    /// <summary>Loads into <paramref name="memory"/> and returns the bootstrap processor's state at the kernel's entry.</summary>
    /// <remarks>Memory need not be zero. Pages that are not part of what is loaded stay as they are.</remarks>
    /// <exception cref="BootException">The kernel, RAM disk or command line cannot be used; the message says how to mend it.</exception>
    public static ProcessorRegisters Load(GuestMemory memory, BootOptions options)
    {
        ArgumentNullException.ThrowIfNull(memory);
        ArgumentNullException.ThrowIfNull(options);
        KernelFormat format = KernelFormatDetector.Detect(options.Kernel.Span);
        if (memory.Regions[0].End <= BootLayout.ExtendedMemoryStart)
        {
            throw new BootException("The machine has no memory above 1 MiB, too little for any Linux kernel: give it at least 64 MiB (--memory 64M).");
        }

        byte[] commandLine = BootCommandLine.Encode(options.CommandLine);
        ProcessorRegisters registers = format == KernelFormat.BzImage
            ? BzImageLoader.Load(memory, BzImage.Parse(options.Kernel), options, commandLine)
            : PvhLoader.Load(memory, ElfKernel.Parse(options.Kernel), options, commandLine);

        byte[] tables = AcpiTables.Build(options.Acpi, options.ProcessorCount, BootLayout.AcpiTables);
        if (tables.Length > BootLayout.AcpiTablesLimit)
        {
            throw new BootException($"The ACPI tables for {options.ProcessorCount} processors take {tables.Length} bytes, more than the {BootLayout.AcpiTablesLimit} below 1 MiB: give the machine fewer processors (--cpus).");
        }

        GuestWriter.Write(memory, BootLayout.AcpiTables, tables);
        return registers;
    }
}
