using Tutti.Cpu;
using Tutti.Devices;
using Tutti.Devices.Acpi;
using Tutti.Devices.InterruptControllers;
using Tutti.Devices.Keyboard;
using Tutti.Devices.Serial;
using Tutti.Devices.Timers;
using Tutti.Memory;

namespace Tutti.Machine;

/// <summary>
/// Everything that a reset puts back: the devices at a PC's addresses, the partition, and the threads of its vCPUs.
/// A machine makes a new one for each power-on and each reset.
/// </summary>
internal sealed class Board : ICpuIo, IDisposable
{
    private readonly Lock _chipset;
    private readonly GuestMemory _memory;
    private readonly PortBus _ports = new();
    private readonly MmioBus _mmio = new();
    private readonly AcpiPm _acpi;
    private readonly Action<int, ProcessorExit> _onProcessorExit;
    private readonly Thread[] _threads;

    /// <param name="onProcessorExit">Told, on the vCPU's thread, why a vCPU can't go on.</param>
    internal Board(
        MachineOptions options,
        GuestMemory memory,
        IGuestClock clock,
        Lock chipset,
        IPowerControl power,
        Action onPanic,
        SerialConsole? console,
        Action<int, ProcessorExit> onProcessorExit)
    {
        _chipset = chipset;
        _memory = memory;
        _onProcessorExit = onProcessorExit;
        ApicBus bus = new();
        InterruptRouter router = InterruptRouter.Create(bus, out DualPic8259 pic, out IoApic ioApic);
        _mmio.Map(PcAddresses.IoApic, 0x1000, ioApic);
        _ports.Map(0x20, 2, pic.Master);
        _ports.Map(0xA0, 2, pic.Slave);
        _ports.Map(0x4D0, 2, pic.Elcr);
        _acpi = new AcpiPm(clock, router.GetLine(AcpiPmPorts.SciIrq), power);
        _ports.Map(AcpiPmPorts.Base, AcpiPmPorts.Length, _acpi, maxWidth: 4);
        _ports.Map(AcpiPmPorts.Reset, 1, new ResetControl(power));
        _ports.Map(PanicDevice.Port, 1, new PanicDevice(onPanic));
        MapKeyboard(router, power);
        MapSerialPorts(clock, router, console);
        MapTimers(clock, router);
        _ports.Map(PostCodePort.Port, 1, new PostCodePort());
        options.AddDevices?.Invoke(_ports);
        Partition = options.Engine.CreatePartition(new PartitionOptions
        {
            Memory = memory,
            Io = this,
            Clock = clock,
            Cpu = options.Cpu,
            ProcessorCount = options.ProcessorCount,
            CreateLocalApic = (index, signals) => CreateLocalApic(index, signals, bus, clock),
        });
        Gate = new ProcessorGate(Partition.Processors);
        _threads = [.. Partition.Processors.Select(CreateThread)];
    }

    internal IPartition Partition { get; }

    internal ProcessorGate Gate { get; }

    internal ulong InstructionCount => Partition.Processors.Aggregate(0UL, (sum, p) => sum + p.InstructionCount);

    /// <summary>Starts the vCPUs' threads, which wait at <see cref="Gate"/> while it is closed.</summary>
    internal void StartThreads() => Array.ForEach(_threads, t => t.Start());

    /// <summary>Call under the chipset lock.</summary>
    internal void PressPowerButton() => _acpi.PressPowerButton();

    /// <summary>Dumps all vCPUs. Only while they are stopped.</summary>
    internal string DescribeProcessors() => string.Join("\n", Partition.Processors.Select(processor =>
    {
        ProcessorRegisters registers = new();
        processor.GetRegisters(registers);
        return RegisterDump.Format(processor.Index, registers, _memory);
    }));

    /// <summary>Ends the threads, which must have been stopped, and the partition.</summary>
    public void Dispose()
    {
        Gate.End();
        foreach (Thread thread in _threads)
        {
            if (!thread.ThreadState.HasFlag(ThreadState.Unstarted))
            {
                thread.Join();
            }
        }

        Partition.Dispose();
    }

    public void ReadPort(ushort port, Span<byte> data)
    {
        lock (_chipset)
        {
            _ports.Read(port, data);
        }
    }

    public void WritePort(ushort port, ReadOnlySpan<byte> data)
    {
        lock (_chipset)
        {
            _ports.Write(port, data);
        }
    }

    public void ReadMmio(ulong address, Span<byte> data)
    {
        lock (_chipset)
        {
            _mmio.Read(address, data);
        }
    }

    public void WriteMmio(ulong address, ReadOnlySpan<byte> data)
    {
        lock (_chipset)
        {
            _mmio.Write(address, data);
        }
    }

    private LockedLocalApic CreateLocalApic(int index, IProcessorSignals signals, ApicBus bus, IGuestClock clock)
    {
        LocalApic apic = new((uint)index, bus, clock, signals, isBootstrap: index == 0);
        if (index == 0)
        {
            apic.EnableVirtualWireMode();
        }

        return new LockedLocalApic(apic, _chipset);
    }

    private void MapKeyboard(InterruptRouter router, IPowerControl power)
    {
        A20Gate a20 = new();
        I8042 keyboard = new(router.GetLine(1), a20, power);
        _ports.Map(0x60, 1, keyboard.Data);
        _ports.Map(0x64, 1, keyboard.Command);
        _ports.Map(0x92, 1, new SystemControlPortA(a20, power));
    }

    private void MapTimers(IGuestClock clock, InterruptRouter router)
    {
        Pit8254 pit = new(clock, router.GetLine(0));
        _ports.Map(0x40, 4, pit);
        _ports.Map(0x61, 1, new SystemControlPortB(clock, pit));
        ulong low = _memory.Regions[0].Size;
        _ports.Map(
            CmosRegisters.Port,
            CmosRegisters.PortCount,
            new CmosRtc(clock, router.GetLine(CmosRegisters.RtcIrq), low, _memory.Size - low));
    }

    private void MapSerialPorts(IGuestClock clock, InterruptRouter router, SerialConsole? console)
    {
        foreach ((ushort port, int irq) in PcAddresses.SerialPorts)
        {
            SerialConsole? cable = port == Serial16550Registers.Com1Port ? console : null;
            Serial16550 serial = new(clock, router.GetLine(irq), cable ?? (ISerialBackend)new UnpluggedSerial());
            _ports.Map(port, Serial16550Registers.PortCount, serial);
            cable?.Connect(serial);
        }
    }

    private Thread CreateThread(IVirtualProcessor processor) =>
        new(() => RunProcessor(processor), 1 << 20) { Name = $"vCPU {processor.Index}", IsBackground = true };

    private void RunProcessor(IVirtualProcessor processor)
    {
        while (Gate.Enter())
        {
            ProcessorExit exit;
            try
            {
                exit = processor.Run();
            }
            catch (Exception e)
            {
                // Whatever an engine throws is its error, and must end this machine, not the process.
                exit = new ProcessorExit(ProcessorExitKind.InternalError, e.ToString());
            }

            bool isOver = exit.Kind != ProcessorExitKind.Requested;
            Gate.Leave(close: isOver);
            if (isOver)
            {
                _onProcessorExit(processor.Index, exit);
            }
        }
    }

    /// <summary>The other end of a serial port that nothing is plugged into.</summary>
    private sealed class UnpluggedSerial : ISerialBackend
    {
        public void Transmit(ReadOnlySpan<byte> data)
        {
            // Sent into the air.
        }

        public void ReceiveReady()
        {
            // Nothing ever waits to be received.
        }
    }
}
