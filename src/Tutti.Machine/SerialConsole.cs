using Tutti.Devices.Serial;
using Tutti.Host;

namespace Tutti.Machine;

/// <summary>
/// The cable between a machine's first serial port and its console backend. It outlives the port, which a reset replaces.
/// Output that the backend is too slow for holds the sending vCPU up; input waits until the port has room.
/// </summary>
internal sealed class SerialConsole : ISerialBackend
{
    private readonly IConsoleBackend _backend;
    private readonly Lock _chipset;
    private readonly ConsoleOutput _output;
    private readonly PanicWatcher _panic = new();
    private readonly HostEvent _outputRoom = new();
    private readonly HostEvent _inputRoom = new();
    private readonly Thread _inputThread;
    private Serial16550? _port;
    private volatile bool _isReleased;
    private volatile bool _isEnding;
    private int _ends;

    internal SerialConsole(IConsoleBackend backend, Lock chipset)
    {
        _backend = backend;
        _chipset = chipset;
        _output = new ConsoleOutput(backend, _outputRoom.Signal);
        _inputThread = new Thread(ReadInput) { Name = "console input", IsBackground = true };
    }

    /// <summary>Whether the guest's console showed a kernel panic since <see cref="Connect"/>.</summary>
    internal bool PanicSeen => _panic.Seen;

    /// <summary>Whether the port has ever taken input.</summary>
    internal volatile bool HasBeenRead;

    /// <summary>Plugs the cable into a port. Call it with the vCPUs stopped.</summary>
    internal void Connect(Serial16550 port)
    {
        lock (_chipset)
        {
            _port = port;
        }

        _inputRoom.Signal();
        if (!_inputThread.ThreadState.HasFlag(ThreadState.Unstarted))
        {
            return;
        }

        _inputThread.Start();
    }

    public void Transmit(ReadOnlySpan<byte> data)
    {
        foreach (byte value in data)
        {
            _panic.Watch(value);
            while (!_output.TryPut(value) && !_isReleased)
            {
                _ = _outputRoom.Wait(-1);
            }
        }
    }

    public void ReceiveReady() => _inputRoom.Signal();

    /// <summary>Lets a vCPU that waits for a slow backend go on, without its output, from now on.</summary>
    internal void Release()
    {
        _isReleased = true;
        _outputRoom.Signal();
    }

    /// <summary>Delivers what is left of the output and ends both threads; only the first call does.</summary>
    /// <param name="patience">How long the backend may take for that; null for ever.</param>
    internal void End(TimeSpan? patience)
    {
        if (Interlocked.Exchange(ref _ends, 1) != 0)
        {
            return;
        }

        Release();
        _isEnding = true;
        _inputRoom.Signal();
        _backend.CancelRead();
        if (!_inputThread.ThreadState.HasFlag(ThreadState.Unstarted))
        {
            _inputThread.Join();
        }

        using Timer? limit = patience == null
            ? null
            : new Timer(_ => _backend.CancelWrite(), null, patience.Value, Timeout.InfiniteTimeSpan);
        _output.Dispose();
    }

    private void ReadInput()
    {
        byte[] buffer = new byte[4096];
        int count;
        while (!_isEnding && (count = _backend.Read(buffer)) > 0)
        {
            Span<byte> left = buffer.AsSpan(0, count);
            while (!left.IsEmpty && !_isEnding)
            {
                int taken;
                lock (_chipset)
                {
                    taken = _port?.Receive(left) ?? 0;
                }

                HasBeenRead |= taken > 0;
                left = left[taken..];
                if (!left.IsEmpty)
                {
                    _ = _inputRoom.Wait(-1);
                }
            }
        }
    }
}
