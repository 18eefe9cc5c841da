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
    private ReadOnlyMemory<byte> _pending;
    private volatile bool _isReleased;
    private volatile bool _isEnding;
    private volatile bool _isHoldingUp;
    private volatile bool _hasHeldUp;
    private int _ends;

    /// <param name="onFailure">Told what the backend or the port's input threw.</param>
    internal SerialConsole(IConsoleBackend backend, Lock chipset, Action<Exception> onFailure)
    {
        _backend = backend;
        _chipset = chipset;
        _output = new ConsoleOutput(backend, _outputRoom.Signal, onFailure);
        _inputThread = new Thread(() => ConsoleOutput.Guard(ReadInput, onFailure)) { Name = "console input", IsBackground = true };
    }

    /// <summary>Whether the guest's console showed a kernel panic since <see cref="Connect"/>.</summary>
    internal bool PanicSeen => _panic.Seen;

    /// <summary>Whether the port has ever taken input.</summary>
    internal volatile bool HasBeenRead;

    /// <summary>Whether a vCPU waits for the backend to take output, or has waited since the last time this was asked.</summary>
    internal bool TakeHoldUp()
    {
        bool held = _hasHeldUp;
        _hasHeldUp = _isHoldingUp;
        return held;
    }

    /// <summary>Plugs the cable into a port. Call it with the vCPUs stopped.</summary>
    internal void Connect(Serial16550 port)
    {
        lock (_chipset)
        {
            _port = port;
            Feed();
        }

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
                _isHoldingUp = true;
                _hasHeldUp = true;
                _ = _outputRoom.Wait(-1);
            }

            _isHoldingUp = false;
        }
    }

    // Here and now, on the vCPU's thread: a wake-up of the input thread for each FIFO of bytes would be slow.
    public void ReceiveReady() => Feed();

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
            lock (_chipset)
            {
                _pending = buffer.AsMemory(0, count);
                Feed();
            }

            while (!_isEnding && !IsFed())
            {
                _ = _inputRoom.Wait(-1);
            }
        }
    }

    private bool IsFed()
    {
        lock (_chipset)
        {
            return _pending.IsEmpty;
        }
    }

    /// <summary>Gives the port what it has room for. Under the chipset lock, which also guards what is pending.</summary>
    private void Feed()
    {
        int taken = _port?.Receive(_pending.Span) ?? 0;
        HasBeenRead |= taken > 0;
        _pending = _pending[taken..];
        if (_pending.IsEmpty)
        {
            _inputRoom.Signal();
        }
    }
}
