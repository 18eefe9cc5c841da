using Tutti.Host;
using Tutti.Virtio.Console;

namespace Tutti.Machine;

/// <summary>
/// The cable between a virtio console and its backend. It outlives the device, which a reset of the machine replaces. Output that the backend
/// is too slow for stays in the guest's buffers and holds no vCPU up; input waits until the guest has room.
/// </summary>
public sealed class VirtioConsoleCable : IVirtioConsoleBackend
{
    private readonly IConsoleBackend _backend;
    private readonly ConsoleOutput _output;
    private readonly Thread _inputThread;
    private readonly HostEvent _room = new();

    // Under it is what is pending. Taken before the chipset lock, and never under it.
    private readonly Lock _lock = new();
    private volatile VirtioConsole? _device;
    private ReadOnlyMemory<byte> _pending;
    private (ushort Columns, ushort Rows) _size;
    private volatile bool _isEnding;
    private volatile bool _hasBeenRead;
    private volatile bool _hasBeenWritten;
    private int _ends;

    /// <param name="onFailure">Told what the backend or the device's input threw.</param>
    public VirtioConsoleCable(IConsoleBackend backend, Action<Exception> onFailure)
    {
        ArgumentNullException.ThrowIfNull(backend);
        ArgumentNullException.ThrowIfNull(onFailure);
        _backend = backend;
        _output = new ConsoleOutput(backend, () => _device?.TransmitReady(), onFailure);
        _inputThread = new Thread(() => ConsoleOutput.Guard(ReadInput, onFailure)) { Name = "hvc0 input", IsBackground = true };
        _inputThread.Start();
    }

    /// <summary>Whether a guest has ever taken input.</summary>
    public bool HasBeenRead => _hasBeenRead;

    /// <summary>Whether a guest has ever written something.</summary>
    public bool HasBeenWritten => _hasBeenWritten;

    /// <summary>Plugs the cable into a device, in place of the one before. Call it with the vCPUs stopped, not under the chipset lock.</summary>
    public void Connect(VirtioConsole device)
    {
        ArgumentNullException.ThrowIfNull(device);
        (ushort columns, ushort rows) = _size;
        device.Resize(columns, rows);
        lock (_lock)
        {
            _device = device;
            Feed();
        }
    }

    /// <summary>Tells the guest the terminal's size; any thread that holds none of the machine's locks.</summary>
    public void Resize(ushort columns, ushort rows)
    {
        _size = (columns, rows);
        _device?.Resize(columns, rows);
    }

    public int Transmit(ReadOnlySpan<byte> data)
    {
        _hasBeenWritten = true;
        return _output.Put(data);
    }

    public void ReceiveReady()
    {
        lock (_lock)
        {
            Feed();
        }
    }

    /// <summary>Delivers what is left of the output and ends both threads, after the machine; only the first call does.</summary>
    /// <param name="patience">How long the backend may take for that; null for ever.</param>
    public void End(TimeSpan? patience)
    {
        if (Interlocked.Exchange(ref _ends, 1) != 0)
        {
            return;
        }

        _isEnding = true;
        _room.Signal();
        _backend.CancelRead();
        _inputThread.Join();
        using Timer? limit = patience == null
            ? null
            : new Timer(_ => _backend.CancelWrite(), null, patience.Value, Timeout.InfiniteTimeSpan);
        _output.Dispose();
        _room.Dispose();
    }

    private void ReadInput()
    {
        byte[] buffer = new byte[4096];
        int count;
        while (!_isEnding && (count = _backend.Read(buffer)) > 0)
        {
            lock (_lock)
            {
                _pending = buffer.AsMemory(0, count);
                Feed();
            }

            while (!_isEnding && !IsFed())
            {
                _ = _room.Wait(-1);
            }
        }
    }

    private bool IsFed()
    {
        lock (_lock)
        {
            return _pending.IsEmpty;
        }
    }

    private void Feed()
    {
        if (!_pending.IsEmpty)
        {
            int taken = _device?.Receive(_pending.Span) ?? 0;
            _hasBeenRead |= taken > 0;
            _pending = _pending[taken..];
            if (_pending.IsEmpty)
            {
                _room.Signal();
            }
        }
    }
}
