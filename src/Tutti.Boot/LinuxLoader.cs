using Tutti.Cpu;
using Tutti.Memory;

namespace Tutti.Boot;

/// <summary>Puts a Linux kernel, its RAM disk, command line and firmware tables into guest memory.</summary>
public static class LinuxLoader
{
    /// <summary>Loads into <paramref name="memory"/>, which must be all zero, and returns the bootstrap processor's state at the kernel's entry.</summary>
    /// <exception cref="BootException">The kernel, RAM disk or command line cannot be used; the message says how to mend it.</exception>
    public static ProcessorRegisters Load(GuestMemory memory, BootOptions options) =>
        throw new BootException("Loading kernels is not built yet.");
}
