using Tutti.Cpu;
using Tutti.Devices;
using Tutti.Devices.Pci;
using Tutti.Host;
using Tutti.Memory;

namespace Tutti.Machine;

/// <summary>
/// A machine: RAM, a board of devices, and one host thread for each vCPU. Power-on to the end is one call of
/// <see cref="Run"/>; the other methods are safe from any thread meanwhile.
/// </summary>
public sealed class VirtualMachine : IDisposable
{
    /// <summary>How long a vCPU may take to leave guest code before the engine counts as broken.</summary>
    internal TimeSpan Patience { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How long a slow console holds up the end of a machine that somebody stopped.</summary>
    public static readonly TimeSpan LastOutput = TimeSpan.FromSeconds(1);

    private readonly MachineOptions _options;
    private readonly HostMapping _mapping;
    private readonly Lock _chipset = new();
    private readonly Lock _stateLock = new();
    private readonly HostEvent _control = new();
    private readonly HostClock _clock;
    private readonly SerialConsole? _console;
    private readonly Power _power;
    private Board? _board;
    private MachineExit? _end;
    private bool _isResetWanted;
    private bool _isPaused;
    private bool _isPoweredOn;
    private bool _isStuck;
    private int _runs;

    /// <summary>Reserves the memory; devices and processors come with <see cref="Run"/>.</summary>
    /// <exception cref="ArgumentException">The options make no machine.</exception>
    /// <exception cref="HostException">The host has no room.</exception>
    public VirtualMachine(MachineOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (options.ProcessorCount < 1 || options.ProcessorCount > options.Engine.MaxProcessors)
        {
            throw new ArgumentException($"The engine {options.Engine.Name} takes 1 to {options.Engine.MaxProcessors} processors.", nameof(options));
        }

        if (options.MemorySize <= 0 || options.MemorySize % GuestMemoryLayout.PageSize != 0)
        {
            throw new ArgumentException("Memory is a whole number of 4096-byte pages, at least one.", nameof(options));
        }

        if (options.PciFunctions.Count >= PciRegisters.SlotCount)
        {
            throw new ArgumentException($"A machine takes at most {PciRegisters.SlotCount - 1} PCI functions.", nameof(options));
        }

        _options = options;
        _power = new Power(this);
        _mapping = MapMemory(options);
        _clock = new HostClock(_chipset, options.PowerOnTime ?? DateTimeOffset.UtcNow, e => OnFailure("guest timers", e));
        _console = options.Console == null ? null : new SerialConsole(options.Console, _chipset, e => OnFailure("console input", e));
    }

    /// <summary>Guest instructions that all vCPUs have run since the last reset, as far as the engine counts them.</summary>
    public ulong InstructionCount => _board?.InstructionCount ?? 0;

    /// <summary>Whether the guest has read console input since power-on.</summary>
    public bool HasReadConsole => _console?.HasBeenRead ?? false;

    /// <summary>
    /// What engine and board have counted since the last reset, all vCPUs together. Only after <see cref="Run"/>; empty where a vCPU
    /// could not be stopped.
    /// </summary>
    public IReadOnlyList<EngineCounter> ReadCounters() => _isStuck ? [] : _board?.ReadCounters() ?? [];

    /// <summary>Powers on and runs until the machine ends; for one call.</summary>
    /// <param name="timeout">How long at most in host time; null for ever.</param>
    /// <exception cref="Tutti.Boot.BootException">The boot step cannot load its guest.</exception>
    /// <exception cref="PlatformNotSupportedException">The engine can't run this machine on this host; the message is one line.</exception>
    /// <exception cref="HostException">The host refuses what the engine needs.</exception>
    public MachineExit Run(TimeSpan? timeout = null)
    {
        if (Interlocked.Increment(ref _runs) != 1)
        {
            throw new InvalidOperationException("A machine runs once.");
        }

        long end = timeout == null ? long.MaxValue : HostTime.Nanoseconds + (long)(timeout.Value.TotalMilliseconds * 1e6);
        try
        {
            while (true)
            {
                PowerOn();
                MachineExit? exit = WaitForEnd(end);
                PowerDown();
                if (exit is { IsByGuest: false })
                {
                    _console?.Release();
                }

                if (!TryStopProcessors(end))
                {
                    _isStuck = true;
                    return new MachineExit(MachineExitKind.InternalError, "A processor did not stop when it was asked to.");
                }

                _clock.Pause();
                if (exit != null)
                {
                    _end = Complete(exit);
                    return _end;
                }

                TakeBoardDown();
                _mapping.Zero();
            }
        }
        finally
        {
            _clock.Pause();
            EndConsole();
        }
    }

    /// <summary>Ends the run as soon as the processors have stopped.</summary>
    public void Stop(string? message = null) => RequestEnd(new MachineExit(MachineExitKind.Stopped, message));

    /// <summary>Ends the run with an internal error: something that the machine depends on has failed. Safe from any thread.</summary>
    /// <param name="where">What failed.</param>
    /// <param name="error">With what.</param>
    public void Fail(string where, Exception error) => OnFailure(where, error);

    /// <summary>Presses the ACPI power button.</summary>
    public void PressPowerButton()
    {
        lock (_chipset)
        {
            _board?.PressPowerButton();
        }
    }

    /// <summary>Bytes of host memory, about, that <see cref="ReleaseMemory"/> would give back.</summary>
    public long ReleasableBytes
    {
        get
        {
            lock (_stateLock)
            {
                return _board?.Partition.Processors.Sum(processor => processor.ReleasableBytes) ?? 0;
            }
        }
    }

    /// <summary>Asks the engine to give back to the host what it keeps only to save work. It does so soon after; returns at once.</summary>
    public void ReleaseMemory()
    {
        lock (_stateLock)
        {
            foreach (IVirtualProcessor processor in _board?.Partition.Processors ?? [])
            {
                processor.ReleaseMemory();
            }
        }
    }

    /// <summary>Stops the processors and guest time.</summary>
    public void Pause()
    {
        lock (_stateLock)
        {
            _isPaused = true;
            if (_board == null || !_board.Gate.Close(Patience))
            {
                return;
            }

            try
            {
                PauseTime(_board);
            }
            catch (HostException e)
            {
                OnFailure("guest time", e);
            }
        }
    }

    /// <summary>Goes on after <see cref="Pause"/>.</summary>
    public void Resume()
    {
        lock (_stateLock)
        {
            _isPaused = false;
            if (!_isPoweredOn || _end != null || _isResetWanted)
            {
                return;
            }

            try
            {
                ResumeTime(_board!);
                _board!.Gate.Open();
            }
            catch (HostException e)
            {
                OnFailure("guest time", e);
            }
        }
    }

    /// <summary>Takes everything down; not while <see cref="Run"/> is under way.</summary>
    public void Dispose()
    {
        EndConsole();
        _clock.Dispose();
        if (_isStuck)
        {
            // A thread may still use the memory: better a leak than a crash.
            return;
        }

        TakeBoardDown();
        _mapping.Dispose();
        _control.Dispose();
    }

    /// <summary>A file's memory where that costs nothing: it has huge pages only if the host gives them when it is asked.</summary>
    private static HostMapping MapMemory(MachineOptions options)
    {
        if (options.SharesMemory && options.Engine.ShowsMemory && options.MemorySize >= GuestMemory.ChunkSize)
        {
            HostMapping? mapping = null;
            try
            {
                mapping = new HostMapping(options.MemorySize, shared: true);
                if (mapping.TryUseHugePage(0) || Environment.GetEnvironmentVariable("TUTTI_DIRECT") == "1")
                {
                    return mapping;
                }
            }
            catch (HostException)
            {
                // No such file: private memory does as well.
            }

            mapping?.Dispose();
        }

        return new HostMapping(options.MemorySize, hugePages: true);
    }

    private void PowerOn()
    {
        GuestMemory memory = new(GuestMemoryLayout.Pc((ulong)_options.MemorySize), _mapping.Address)
        {
            HostFile = _mapping.File?.Number ?? -1,
            Populate = _mapping.File == null ? null : offset => _mapping.TryUseHugePage(offset),
        };
        ProcessorRegisters start = _options.Boot(memory);
        Board board = new(_options, memory, _clock, _chipset, _power, _power.Panic, _console, OnProcessorExit);
        try
        {
            board.Partition.Processors[0].SetRegisters(start);
            board.StartThreads();
            lock (_stateLock)
            {
                bool isToRun = !_isPaused && _end == null;
                if (!isToRun)
                {
                    // The engine's time runs from the start.
                    board.PauseTime();
                }

                _board = board;
                _isPoweredOn = true;
                if (isToRun)
                {
                    _clock.Resume();
                    board.Gate.Open();
                }
            }
        }
        catch
        {
            board.Dispose();
            throw;
        }
    }

    /// <summary>From now on <see cref="Resume"/> starts nothing: this board's vCPUs are to stop for good.</summary>
    private void PowerDown()
    {
        lock (_stateLock)
        {
            _isPoweredOn = false;
        }
    }

    /// <summary>
    /// Stops guest time. In this order, as in <see cref="ResumeTime"/>: what the engine's time runs on longer here, it begins
    /// later there, so that the two stay together over many pauses.
    /// </summary>
    private void PauseTime(Board board)
    {
        _clock.Pause();
        board.PauseTime();
    }

    private void ResumeTime(Board board)
    {
        _clock.Resume();
        board.ResumeTime();
    }

    /// <summary>Stops the processors for good. One that waits for a slow reader of the console has the time that it needs.</summary>
    private bool TryStopProcessors(long end)
    {
        while (!_board!.Gate.Close(Patience))
        {
            if (_console?.TakeHoldUp() != true)
            {
                return false;
            }

            if (HostTime.Nanoseconds > end)
            {
                _console.Release();
            }
        }

        return true;
    }

    /// <summary>Waits until the run is over; null when the machine shall reset instead.</summary>
    private MachineExit? WaitForEnd(long end)
    {
        while (true)
        {
            lock (_stateLock)
            {
                if (_end != null)
                {
                    return _end;
                }

                if (_isResetWanted)
                {
                    _isResetWanted = false;
                    return ResetExit();
                }
            }

            long left = end == long.MaxValue ? -1 : Math.Max(0, end - HostTime.Nanoseconds);
            if (left == 0)
            {
                return new MachineExit(MachineExitKind.TimedOut);
            }

            _ = _control.Wait(left);
        }
    }

    private MachineExit? ResetExit()
    {
        if (_console is { PanicSeen: true })
        {
            return new MachineExit(MachineExitKind.GuestPanic, "The guest's kernel panicked and reset the machine.");
        }

        return _options.NoReboot ? new MachineExit(MachineExitKind.Reset) : null;
    }

    private MachineExit Complete(MachineExit exit)
    {
        if (exit.Kind is MachineExitKind.TripleFault or MachineExitKind.InternalError)
        {
            exit = exit with { Registers = _board!.DescribeProcessors() };
        }

        return exit with { PanicSeen = _console is { PanicSeen: true } };
    }

    private void RequestEnd(MachineExit exit)
    {
        // Not under _stateLock: devices call this under the chipset lock, and Pause takes the two the other way round.
        _ = Interlocked.CompareExchange(ref _end, exit, null);
        Volatile.Read(ref _board)?.Gate.BeginClose();
        _control.Signal();
    }

    private void RequestReset()
    {
        Volatile.Write(ref _isResetWanted, true);
        Volatile.Read(ref _board)?.Gate.BeginClose();
        _control.Signal();
    }

    private void OnFailure(string where, Exception e) =>
        RequestEnd(new MachineExit(MachineExitKind.InternalError, $"{where}: {Failure.Describe(e)}"));

    private void OnProcessorExit(int processor, ProcessorExit exit)
    {
        string message = exit.Message ?? (exit.Kind == ProcessorExitKind.TripleFault
            ? "A fault occurred while the processor delivered a double fault."
            : "The engine gave no reason.");
        RequestEnd(new MachineExit(
            exit.Kind == ProcessorExitKind.TripleFault ? MachineExitKind.TripleFault : MachineExitKind.InternalError,
            $"vCPU {processor}: {message}"));
    }

    private void TakeBoardDown()
    {
        Board? board;
        lock (_stateLock)
        {
            board = _board;
            _board = null;
        }

        _clock.CancelAll();
        board?.Dispose();
    }

    private void EndConsole() =>
        _console?.End(_end is { IsByGuest: true } ? null : LastOutput);

    private sealed class Power(VirtualMachine machine) : IPowerControl
    {
        public void PowerOff() => machine.RequestEnd(new MachineExit(MachineExitKind.PoweredOff));

        public void Reset() => machine.RequestReset();

        /// <summary>What the pvpanic device reports.</summary>
        internal void Panic() => machine.RequestEnd(
            new MachineExit(MachineExitKind.GuestPanic, "The guest's kernel panicked."));
    }
}
