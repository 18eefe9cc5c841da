using Tutti.Boot;
using Tutti.Cpu;
using Tutti.Devices;
using Tutti.Devices.Pci;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Machine;

/// <summary>The description of a machine.</summary>
public sealed record MachineOptions
{
    /// <summary>Bytes of RAM, a multiple of 4096.</summary>
    public required long MemorySize { get; init; }

    /// <summary>vCPUs, 1 to the engine's <see cref="IEngine.MaxProcessors"/>.</summary>
    public int ProcessorCount { get; init; } = 1;

    public required IEngine Engine { get; init; }

    /// <summary>What the vCPUs show of themselves.</summary>
    public CpuModel Cpu { get; init; } = CpuModel.Host;

    /// <summary>
    /// What firmware does: fills zeroed memory and gives the state in which the bootstrap processor starts. Called at
    /// power-on and again at each reset; see <see cref="BootLinux"/>.
    /// </summary>
    public required Func<GuestMemory, ProcessorRegisters> Boot { get; init; }

    /// <summary>What the first serial port is connected to; null for nothing.</summary>
    public IConsoleBackend? Console { get; init; }

    /// <summary>
    /// Puts further devices on the ports and addresses of each new board, where none of its own are; null for none. A board
    /// calls its devices under one lock, from its vCPUs' threads.
    /// </summary>
    public Action<PortBus, MmioBus>? AddDevices { get; init; }

    /// <summary>
    /// Makes the functions of each new board's PCI bus, at every power-on and reset, in the order of their slots from 1 on; at most 31. The
    /// board disposes of them when it ends, before RAM changes.
    /// </summary>
    public IReadOnlyList<Func<BoardServices, PciFunction>> PciFunctions { get; init; } = [];

    /// <summary>
    /// Whether RAM may be a file's in memory, which engines that show it at further addresses run faster with; where the host has no huge pages for
    /// such files, it is private memory all the same. TUTTI_WINDOW=0 in the environment says no.
    /// </summary>
    public bool SharesMemory { get; init; } = Environment.GetEnvironmentVariable("TUTTI_WINDOW") != "0";

    /// <summary>Whether a reset that the guest asks for ends the run.</summary>
    public bool NoReboot { get; init; }

    /// <summary>Whether accesses to ports and to addresses of devices are counted, which <see cref="VirtualMachine.ReadCounters"/> then tells too.</summary>
    public bool CountsAccesses { get; init; }

    /// <summary>Told what the vCPUs do; null for nobody.</summary>
    public IEngineTrace? Trace { get; init; }

    /// <summary>What of any engine's guest a <see cref="Trace"/> can tell, because the machine sees it.</summary>
    public static TraceKinds MachineTraces => TraceKinds.Ports | TraceKinds.Mmio;

    /// <summary>Wall-clock time at power-on; null for the host's.</summary>
    public DateTimeOffset? PowerOnTime { get; init; }

    /// <summary>A boot step for a Linux kernel; the ACPI tables get the addresses of this machine's devices.</summary>
    public static Func<GuestMemory, ProcessorRegisters> BootLinux(BootOptions options)
    {
        return memory => LinuxLoader.Load(memory, options with { Acpi = PcAddresses.Acpi(memory) });
    }
}
