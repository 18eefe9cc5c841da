using System.Globalization;
using Tutti.Boot;
using Tutti.Cpu;
using Tutti.Guests;
using Tutti.Host;
using Tutti.Machine;
using Tutti.Storage;

namespace Tutti.Cli;

/// <summary><c>tutti run</c>: a machine on the user's terminal, from checked options to an exit status.</summary>
internal sealed class RunCommand : IDisposable
{
    /// <summary>What a kernel gets that comes without an image; <c>--append</c> follows it, and the last word of a kind counts.</summary>
    internal const string DefaultCommandLine = "console=ttyS0,115200n8r panic=-1";

    private readonly RunOptions _options;
    private readonly ImageCatalog _catalog;
    private readonly RunDeadline _deadline;
    private readonly CancellationTokenSource _cancel;
    private readonly TerminationSignals _signals;
    private readonly Lock _lock = new();
    private readonly GuestDevices _devices;
    private GuestKernel? _kernel;
    private VirtioTerminal? _hvc0;
    private VirtualMachine? _machine;
    private HostTerminal? _terminal;
    private int? _forcedStatus;

    internal RunCommand(RunOptions options, ImageCatalog catalog, RunDeadline deadline)
    {
        _options = options;
        _deadline = deadline;
        _cancel = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token);
        _catalog = catalog;
        _devices = new GuestDevices(e => _machine?.Fail("device", e));
        _signals = new TerminationSignals(signal => Leave(TerminationSignals.ExitStatus(signal)));
    }

    /// <summary>Whether the guest needs drivers.</summary>
    private bool HasDevices => _devices.Functions.Count > 0 || _options.Console == ConsoleKind.Virtio;

    /// <exception cref="UserException">The guest cannot be had or loaded.</exception>
    internal async Task<int> RunAsync()
    {
        try
        {
            if (_options.Engine.Notice is { } notice)
            {
                Notices.Write(notice);
            }

            await PrepareAsync();
            return RunMachine();
        }
        catch (OperationCanceledException) when (_forcedStatus is int status)
        {
            return status;
        }
        catch (OperationCanceledException) when (_deadline.Token.IsCancellationRequested)
        {
            Notices.Write(RunDeadline.Message);
            return ExitStatus.TimedOut;
        }
        catch (Exception e) when (e is BootException or ImageException or PlatformNotSupportedException)
        {
            throw new UserException(e.Message);
        }
    }

    public void Dispose()
    {
        _signals.Dispose();
        _cancel.Dispose();
        _kernel?.Dispose();
        _devices.Dispose();
    }

    /// <summary>Opens what the guest boots from, its disks and its network.</summary>
    private async Task PrepareAsync()
    {
        GuestImage? image = _options.Image is { } name
            ? await PullProgress.RunAsync(progress => _catalog.GetAsync(name, progress, _cancel.Token))
            : null;
        if (image?.DiskPath != null)
        {
            _devices.AddDisk(new DiskOptions { Path = await _options.Machine.PrepareDiskAsync(image, _cancel.Token), Format = ImageFormat.Qcow2, Backing = DiskOption.Backing });
        }

        foreach (DiskOptions disk in _options.Disks)
        {
            _devices.AddDisk(disk);
        }

        if (_options.Machine.WriteSeed() is { } seed)
        {
            _devices.AddDisk(new DiskOptions { Path = seed, Format = ImageFormat.Raw, IsReadOnly = true });
        }

        _devices.AddNetwork(_options.Network);
        if (HasDevices)
        {
            // Not alone: a guest without other devices needs no drivers for it, and starts sooner.
            _devices.AddEntropy();
        }

        _kernel = image is { DiskPath: null }
            ? OpenKernel(image)
            : _options.Kernel != null
                ? new KernelFiles(_options.Kernel, _options.Initrd != null ? [_options.Initrd] : [], DefaultCommandLine)
                : new KernelOnDisk(_devices.BootDisk!, DescribeWindow(), _options.BootEntry, _cancel.Token);
    }

    private KernelFiles OpenKernel(GuestImage image)
    {
        List<InputFile> initrds = [_options.Initrd ?? InputFile.Open("the image's initial RAM disk", image.InitrdPath, _options.MemorySize)];
        if (image.ModulesPath != null && HasDevices)
        {
            initrds.Add(InputFile.Open("the image's drivers", image.ModulesPath, _options.MemorySize));
        }

        return new KernelFiles(InputFile.Open("the image's kernel", image.KernelPath, _options.MemorySize), initrds, image.CommandLine + DescribeWindow());
    }

    /// <summary>Words that tell our images' init the size of the window: a serial line has no other way, and on hvc0 Linux learns only of changes.</summary>
    private static string DescribeWindow() =>
        HostTerminal.IsTerminal(HostStream.StandardInput)
        && HostTerminal.TryGetSize(HostStream.StandardInput, out int columns, out int rows)
            ? string.Create(CultureInfo.InvariantCulture, $" tutti.rows={rows} tutti.cols={columns}")
            : string.Empty;

    private int RunMachine()
    {
        Notices.StartWriter();
        bool isTerminal = HostTerminal.IsTerminal(HostStream.StandardInput);
        using TerminalConsole console = new(isTerminal ? OnKeyCommand : null, _options.FiltersConsole ? new ControlFilter() : null);
        MachineExit exit;
        using VirtioTerminal? hvc0 = _hvc0 = _options.Console == ConsoleKind.Virtio ? new VirtioTerminal(console, _devices) : null;
        using TraceWriter? trace = _options.Trace?.Open();
        IReadOnlyList<EngineCounter> counters = [];
        using (VirtualMachine machine = CreateMachine(console, trace))
        {
            lock (_lock)
            {
                _cancel.Token.ThrowIfCancellationRequested();
                _machine = machine;
            }

            try
            {
                using (_terminal = HostTerminal.TryEnterRawMode(HostStream.StandardInput))
                {
                    console.Start();
                    using SpareMemory spare = new(machine);
                    _deadline.LeaveToMachine();
                    exit = machine.Run(_deadline.Left);
                    hvc0?.End(exit);
                    counters = _options.Verbose ? [.. machine.ReadCounters(), .. _devices.ReadCounters()] : [];
                }
            }
            finally
            {
                lock (_lock)
                {
                    _machine = null;
                }
            }
        }

        console.UndoModes();
        Explain(exit);
        if (_options.Verbose)
        {
            Notices.WriteText(CounterTable.Format(counters));
        }

        return _forcedStatus ?? ExitStatus.Of(exit.Kind);
    }

    private VirtualMachine CreateMachine(TerminalConsole console, IEngineTrace? trace)
    {
        try
        {
            return new VirtualMachine(new MachineOptions
            {
                MemorySize = _options.MemorySize,
                ProcessorCount = _options.ProcessorCount,
                Cpu = _options.Cpu,
                Engine = _options.Engine.Engine,
                Boot = memory => _kernel!.Load(memory, (_hvc0 != null ? VirtioTerminal.CommandLine : "") + _options.Append, _options.ProcessorCount),
                PciFunctions = _devices.Functions,
                Console = _hvc0?.SerialPort ?? console,
                NoReboot = _options.NoReboot,
                CountsAccesses = _options.Verbose,
                Trace = trace,
            });
        }
        catch (HostException e)
        {
            throw new UserException($"the host gives no {Quantity.FormatSize(_options.MemorySize)} of memory ({e.Message}); give less with --memory");
        }
    }

    private void OnKeyCommand(ConsoleKeyCommand command)
    {
        switch (command)
        {
            case ConsoleKeyCommand.Quit:
                Leave(ExitStatus.Success);
                break;
            case ConsoleKeyCommand.Help:
                Notices.WriteText(KeyFilter.Help);
                break;
            case ConsoleKeyCommand.Interrupt when _machine is { HasReadConsole: false } && _hvc0 is not { HasBeenRead: true }:
                Leave(ExitStatus.Interrupted);
                break;
        }
    }

    /// <summary>Ends whatever is under way, with this status. The first call counts.</summary>
    private void Leave(int status)
    {
        lock (_lock)
        {
            _forcedStatus ??= status;
            _machine?.Stop();
            // What a machine waits for while it starts or starts again.
            _cancel.Cancel();
        }
    }

    private void Explain(MachineExit exit)
    {
        switch (exit.Kind)
        {
            case MachineExitKind.GuestPanic:
                Notices.Write(exit.Message ?? "the guest's kernel panicked");
                break;
            case MachineExitKind.TripleFault:
            case MachineExitKind.InternalError:
                Notices.Write(exit.Kind == MachineExitKind.TripleFault
                    ? $"the guest's processor shut down (triple fault). {exit.Message}"
                    : $"internal error: {exit.Message}");
                Notices.WriteText(exit.Registers is { } text ? text + "\n" : string.Empty);
                break;
            case MachineExitKind.TimedOut:
                Notices.Write($"{RunDeadline.Message}{(exit.PanicSeen ? "; the guest's kernel had panicked" : "")}");
                break;
            case MachineExitKind.Reset:
                Notices.Write("the guest reset itself");
                break;
        }
    }
}
