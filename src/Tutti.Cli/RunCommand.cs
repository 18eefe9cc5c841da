using System.Globalization;
using Tutti.Boot;
using Tutti.Cpu;
using Tutti.Guests;
using Tutti.Host;
using Tutti.Machine;
using Tutti.Memory;

namespace Tutti.Cli;

/// <summary><c>tutti run</c>: a machine on the user's terminal, from checked options to an exit status.</summary>
internal sealed class RunCommand : IDisposable
{
    /// <summary>What a kernel gets that comes without an image; <c>--append</c> follows it, and the last word of a kind counts.</summary>
    internal const string DefaultCommandLine = "console=ttyS0,115200n8r panic=-1";

    private readonly RunOptions _options;
    private readonly ImageCatalog _catalog;
    private readonly CancellationTokenSource _cancel = new();
    private readonly TerminationSignals _signals;
    private readonly Lock _lock = new();
    private InputFile? _kernel;
    private InputFile? _initrd;
    private VirtualMachine? _machine;
    private HostTerminal? _terminal;
    private int? _forcedStatus;

    internal RunCommand(RunOptions options, ImageCatalog catalog)
    {
        _options = options;
        _catalog = catalog;
        _signals = new TerminationSignals(signal => Leave(TerminationSignals.ExitStatus(signal)));
    }

    /// <exception cref="UserException">The guest cannot be had or loaded.</exception>
    internal async Task<int> RunAsync()
    {
        try
        {
            if (_options.Engine.Notice is { } notice)
            {
                Notices.Write(notice);
            }

            BootOptions boot = await PrepareAsync();
            return RunMachine(boot);
        }
        catch (OperationCanceledException) when (_forcedStatus is int status)
        {
            return status;
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
        _initrd?.Dispose();
    }

    private async Task<BootOptions> PrepareAsync()
    {
        _kernel = _options.Kernel;
        _initrd = _options.Initrd;
        string commandLine = DefaultCommandLine;
        if (_options.Image != null)
        {
            GuestImage image = await PullProgress.RunAsync(
                progress => _catalog.GetAsync(_options.Image, progress, _cancel.Token));
            _kernel = InputFile.Open("the image's kernel", image.KernelPath, _options.MemorySize);
            _initrd ??= InputFile.Open("the image's initial RAM disk", image.InitrdPath, _options.MemorySize);
            commandLine = image.CommandLine + DescribeWindow();
        }

        return new BootOptions
        {
            // Read at each boot.
            Kernel = default,
            CommandLine = $"{commandLine} {_options.Append}".Trim(),
            ProcessorCount = _options.ProcessorCount,
        };
    }

    /// <summary>What firmware does, at power-on and at each reset.</summary>
    private ProcessorRegisters Boot(GuestMemory memory, BootOptions options)
    {
        ReadOnlyMemory<byte> kernel = _kernel!.Read(out HostBuffer? kernelBuffer);
        using (kernelBuffer)
        {
            HostBuffer? initrdBuffer = null;
            ReadOnlyMemory<byte> initrd = _initrd?.Read(out initrdBuffer) ?? default;
            using (initrdBuffer)
            {
                return MachineOptions.BootLinux(options with { Kernel = kernel, Initrd = initrd })(memory);
            }
        }
    }

    /// <summary>Words that tell our images' init the size of the window; a serial line has no other way.</summary>
    private static string DescribeWindow() =>
        HostTerminal.IsTerminal(HostStream.StandardInput)
        && HostTerminal.TryGetSize(HostStream.StandardInput, out int columns, out int rows)
            ? string.Create(CultureInfo.InvariantCulture, $" tutti.rows={rows} tutti.cols={columns}")
            : string.Empty;

    private int RunMachine(BootOptions boot)
    {
        bool isTerminal = HostTerminal.IsTerminal(HostStream.StandardInput);
        using TerminalConsole console = new(isTerminal ? OnKeyCommand : null);
        MachineExit exit;
        using TraceWriter? trace = _options.Trace?.Open();
        IReadOnlyList<EngineCounter> counters = [];
        using (VirtualMachine machine = CreateMachine(boot, console, trace))
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
                    exit = machine.Run(_options.Timeout);
                    counters = _options.Verbose ? machine.ReadCounters() : [];
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

        Explain(exit);
        if (_options.Verbose)
        {
            Notices.WriteText(CounterTable.Format(counters));
        }

        return _forcedStatus ?? ExitStatus.Of(exit.Kind);
    }

    private VirtualMachine CreateMachine(BootOptions boot, TerminalConsole console, IEngineTrace? trace)
    {
        try
        {
            return new VirtualMachine(new MachineOptions
            {
                MemorySize = _options.MemorySize,
                ProcessorCount = _options.ProcessorCount,
                Cpu = _options.Cpu,
                Engine = _options.Engine.Engine,
                Boot = memory => Boot(memory, boot),
                Console = console,
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
            case ConsoleKeyCommand.Interrupt when _machine is { HasReadConsole: false }:
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
            if (_machine == null)
            {
                _cancel.Cancel();
            }
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
                Notices.Write($"the time of --timeout is over{(exit.PanicSeen ? "; the guest's kernel had panicked" : "")}");
                break;
            case MachineExitKind.Reset:
                Notices.Write("the guest reset itself");
                break;
        }
    }
}
