using Tutti.Host;
using Tutti.Machine;

namespace Tutti.Cli;

/// <summary>
/// The user's terminal at the guest's virtio console. Nobody looks at the first serial port then; where the guest has never used the other
/// console, what it last wrote to the port is shown at the end, as it most likely says why.
/// </summary>
internal sealed class VirtioTerminal : IDisposable
{
    /// <summary>What the guest's kernel is told, behind the words for the serial port, which stays the console of its first steps.</summary>
    internal const string CommandLine = "console=hvc0 ";

    private readonly TerminalConsole _terminal;
    private readonly VirtioConsoleCable _cable;
    private readonly UnseenSerialPort _serialPort = new();
    private readonly IDisposable? _sizeWatch;

    /// <param name="terminal">Stays its owner's.</param>
    /// <param name="devices">Get the console, before the machine is made.</param>
    internal VirtioTerminal(TerminalConsole terminal, GuestDevices devices)
    {
        _terminal = terminal;
        _cable = devices.AddConsole(terminal);
        if (HostTerminal.IsTerminal(HostStream.StandardInput))
        {
            _sizeWatch = HostTerminal.WatchSize(TellSize);
            TellSize();
        }
    }

    internal IConsoleBackend SerialPort => _serialPort;

    /// <summary>Whether the guest has ever taken a key from either console.</summary>
    internal bool HasBeenRead => _cable.HasBeenRead;

    /// <summary>Delivers the last of the output, all of it where the guest ended by itself. After the machine.</summary>
    internal void End(MachineExit exit)
    {
        TimeSpan? patience = exit.IsByGuest ? null : VirtualMachine.LastOutput;
        _cable.End(patience);
        if (!_cable.HasBeenWritten)
        {
            using Timer? limit = patience == null ? null : new Timer(_ => _terminal.CancelWrite(), null, patience.Value, Timeout.InfiniteTimeSpan);
            _ = _terminal.Write(_serialPort.ReadLast());
        }
    }

    public void Dispose()
    {
        _sizeWatch?.Dispose();
        _cable.End(VirtualMachine.LastOutput);
    }

    private void TellSize()
    {
        if (HostTerminal.TryGetSize(HostStream.StandardInput, out int columns, out int rows))
        {
            _cable.Resize((ushort)Math.Min(columns, ushort.MaxValue), (ushort)Math.Min(rows, ushort.MaxValue));
        }
    }
}
