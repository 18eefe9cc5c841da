using Tutti.Cpu;
using Tutti.Devices;
using Tutti.Devices.InterruptControllers;
using Tutti.Memory;

namespace Tutti.Machine;

/// <summary>
/// Everything that a reset puts back: the devices at a PC's addresses, the partition, and the threads of its vCPUs.
/// A machine makes a new one for each power-on and each reset.
/// </summary>
internal sealed class Board : IDisposable
{
    private readonly Lock _chipsetLock;
    private readonly GuestMemory _memory;
    private readonly InterruptRouter _router;
    private readonly Chipset _chipset;
    private readonly PciRoot _pci;
    private readonly Action<int, ProcessorExit> _onProcessorExit;
    private readonly Thread[] _threads;
    private readonly ObservedIo? _observed;
    private bool _isTimePaused;

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
        _chipsetLock = chipset;
        _memory = memory;
        _onProcessorExit = onProcessorExit;
        SystemBus bus = new(chipset);
        _observed = options.CountsAccesses || options.Trace != null ? new ObservedIo(bus, options.Trace) : null;
        SoftwareInterrupts? interrupts = options.Engine.BringsInterruptControllers ? null : new(clock, chipset);

        // Before the devices, whose interrupt lines may end in it.
        Partition = options.Engine.CreatePartition(new PartitionOptions
        {
            Memory = memory,
            Io = (ICpuIo?)_observed ?? bus,
            Clock = clock,
            Cpu = options.Cpu,
            Trace = options.Trace,
            ProcessorCount = options.ProcessorCount,
            CreateLocalApic = interrupts == null ? null : interrupts.CreateLocalApic,
        });
        PciRoot? pci = null;
        try
        {
            IInterruptControllers controllers = interrupts?.Controllers ?? Partition.InterruptControllers
                ?? throw new InvalidOperationException($"The engine {options.Engine.Name} brings no interrupt controllers, though it says so.");
            _router = new InterruptRouter(controllers);
            interrupts?.Map(bus, _router);
            _chipset = new Chipset(bus.Ports, _router, memory, clock, power, onPanic, console);
            _pci = pci = new PciRoot(bus, _router, new BoardMessages(controllers, chipset), chipset);
            options.AddDevices?.Invoke(bus.Ports, bus.Mmio);
            bus.Doorbells.Connect(Partition.EventDoorbells);
            pci.AddFunctions(options.PciFunctions, new BoardServices(memory, clock, bus.Doorbells, chipset));
            Gate = new ProcessorGate(Partition.Processors);
            _threads = [.. Partition.Processors.Select(CreateThread)];
        }
        catch
        {
            pci?.Dispose();
            Partition.Dispose();
            throw;
        }
    }

    internal IPartition Partition { get; }

    internal ProcessorGate Gate { get; }

    internal ulong InstructionCount => Partition.Processors.Aggregate(0UL, (sum, p) => sum + p.InstructionCount);

    /// <summary>What the engine and the board have counted. Only while the vCPUs are stopped.</summary>
    internal IReadOnlyList<EngineCounter> ReadCounters() =>
        EngineCounter.Sum(Partition.Processors.SelectMany(processor => processor.ReadCounters()).Concat(_observed?.ReadCounters() ?? []));

    /// <summary>Starts the vCPUs' threads, which wait at <see cref="Gate"/> while it is closed.</summary>
    internal void StartThreads() => Array.ForEach(_threads, t => t.Start());

    /// <summary>Call under the chipset lock.</summary>
    internal void PressPowerButton() => _chipset.PressPowerButton();

    /// <summary>Stops the time that the engine gives, if it runs. Only while the vCPUs are stopped.</summary>
    internal void PauseTime()
    {
        if (!_isTimePaused)
        {
            Partition.PauseTime();
            _isTimePaused = true;
        }
    }

    /// <summary>Lets that time go on, if it stands. Only while the vCPUs are stopped.</summary>
    internal void ResumeTime()
    {
        if (_isTimePaused)
        {
            Partition.ResumeTime();
            _isTimePaused = false;
        }
    }

    /// <summary>Dumps all vCPUs. Only while they are stopped.</summary>
    internal string DescribeProcessors() => string.Join("\n", Partition.Processors.Select(DescribeProcessor));

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

        // Requests under way use RAM and the engine's interrupts: they end first.
        _pci.Dispose();

        // Console input and the power button still reach the devices, but must not reach an engine's controllers.
        lock (_chipsetLock)
        {
            _router.Disconnect();
        }

        Partition.Dispose();
    }

    private string DescribeProcessor(IVirtualProcessor processor)
    {
        ProcessorRegisters registers = new();
        try
        {
            processor.GetRegisters(registers);
        }
        catch (Exception e)
        {
            // This tells about a failure, perhaps of the engine: one more of its failures must not hide the first.
            return $"vCPU {processor.Index}: its registers could not be read: {Failure.Describe(e)}";
        }

        return RegisterDump.Format(processor.Index, registers, _memory);
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
                exit = new ProcessorExit(ProcessorExitKind.InternalError, Failure.Describe(e));
            }

            bool isOver = exit.Kind != ProcessorExitKind.Requested;
            Gate.Leave(close: isOver);
            if (isOver)
            {
                _onProcessorExit(processor.Index, exit);
            }
        }
    }
}
