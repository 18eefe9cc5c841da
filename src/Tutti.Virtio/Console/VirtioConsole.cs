using System.Buffers.Binary;
using Tutti.Cpu;
using Tutti.Devices;

namespace Tutti.Virtio.Console;

/// <summary>State of a console: its size, output that its backend has not taken, and how much of the chain under way is in there.</summary>
public sealed record VirtioConsoleState(ushort Columns, ushort Rows, byte[] Pending, long Taken) : VirtioOwnState;

/// <summary>
/// The virtio console with one port, Linux's hvc0. Output that the backend has no room for stays in the guest's buffers; so does the room for
/// input. Source: Virtual I/O Device 1.2, 5.3.
/// </summary>
public sealed partial class VirtioConsole : VirtioDevice
{
    internal const int ReceiveQueue = 0;
    internal const int TransmitQueue = 1;
    internal const ulong FeatureSize = 1 << 0;
    internal const ulong FeatureEmergWrite = 1 << 2;

    // struct virtio_console_config
    internal const int Columns = 0;
    internal const int Rows = 2;
    internal const int MaxNrPorts = 4;
    internal const int EmergWr = 8;
    internal const int ConfigSize = 12;

    private const int QueueSize = 64;
    private const int GatherBytes = 4096;

    // After as many bytes the worker does its other work first.
    private const int MaxBytesInARow = 16 * GatherBytes;

    private readonly IVirtioConsoleBackend _backend;
    private readonly IDoorbell _wake;
    private readonly IDoorbell _look;
    private readonly IGuestClock _clock;
    private readonly IClockTimer _lookTimer;

    // Input comes on one thread at a time, but not always the worker.
    private readonly DescriptorChain _input = new();
    private readonly DescriptorChain _output = new();
    private readonly byte[] _gathered = new byte[GatherBytes];
    private ushort _columns;
    private ushort _rows;

    // Of the gathered bytes, those that the backend has not taken. Under the lock.
    private int _first;
    private int _count;

    // The output chain that is under way, and how much of it was gathered.
    private bool _hasChain;
    private long _taken;

    // How much of the first chain was gathered before the state was saved.
    private long _skip;
    private bool _inputWaits;

    // Linux's driver reads the size only when it is told of a change.
    private bool _sizeWaits;

    public VirtioConsole(IVirtioConsoleBackend backend, IDeviceWorker worker, IGuestClock clock)
    {
        ArgumentNullException.ThrowIfNull(backend);
        ArgumentNullException.ThrowIfNull(worker);
        ArgumentNullException.ThrowIfNull(clock);
        (_backend, Worker, _clock) = (backend, worker, clock);
        _wake = worker.AddDoorbell(Transmit);
        _look = worker.AddDoorbell(Look);
        _lookTimer = clock.CreateTimer(_look.Ring);
    }

    public override VirtioDeviceId Id => VirtioDeviceId.Console;

    public override int QueueCount => 2;

    public override ulong DeviceFeatures => FeatureSize | FeatureEmergWrite;

    public override int ConfigLength => ConfigSize;

    public override IDeviceWorker Worker { get; }

    public override ushort MaxQueueSize(int queue) => QueueSize;

    // Drivers wait, spinning, until their output comes back: another thread would take many times as long to wake as the work takes.
    protected override bool IsServedAtOnce(int queue) => queue == TransmitQueue;

    public override void ReadConfig(int offset, Span<byte> data)
    {
        Span<byte> config = stackalloc byte[ConfigSize];
        config.Clear();
        BinaryPrimitives.WriteUInt16LittleEndian(config[Columns..], _columns);
        BinaryPrimitives.WriteUInt16LittleEndian(config[Rows..], _rows);
        BinaryPrimitives.WriteUInt32LittleEndian(config[MaxNrPorts..], 1);
        config.Slice(offset, data.Length).CopyTo(data);
    }

    public override void WriteConfig(int offset, ReadOnlySpan<byte> data)
    {
        // Works without queues and before the driver is there; what finds no room is lost.
        if (offset == EmergWr)
        {
            _ = _backend.Transmit(data[..1]);
        }
    }

    public override void Dispose()
    {
        base.Dispose();
        _lookTimer.Cancel();
        _wake.Dispose();
        _look.Dispose();
    }

    /// <summary>
    /// Tells the guest the size of the terminal: at once where somebody has the console open, else as soon as somebody has. Any thread, not
    /// under the device's lock.
    /// </summary>
    public void Resize(ushort columns, ushort rows)
    {
        bool signal;
        lock (Lock)
        {
            if ((_columns, _rows) == (columns, rows))
            {
                return;
            }

            (_columns, _rows, _sizeWaits) = (columns, rows, true);
            signal = TryTellSize();
            LookForReader();
        }

        if (signal)
        {
            SignalConfigChanged();
        }
    }

    /// <summary>
    /// Gives the guest input and returns how many bytes were taken, from the first. When that is not all, the backend keeps the rest and
    /// <see cref="IVirtioConsoleBackend.ReceiveReady"/> says when to go on. Nothing is taken until somebody in the guest has the console open. Any
    /// thread, but one at a time.
    /// </summary>
    public int Receive(ReadOnlySpan<byte> data)
    {
        int taken = 0;
        bool signal;
        bool tellsSize;
        lock (Lock)
        {
            tellsSize = TryTellSize();
            Virtqueue queue = Queue(ReceiveQueue);
            if (!FindReader())
            {
                _inputWaits = !data.IsEmpty;
                LookForReader();
                return 0;
            }

            queue.DisableNotify();

            // A guest could post empty buffers for ever.
            for (int chains = 0; taken < data.Length && chains < QueueSize; chains++)
            {
                if (!queue.TryPop(_input) && !(queue.EnableNotify() && queue.TryPop(_input)))
                {
                    break;
                }

                int part = _input.Write(0, data[taken..]);
                queue.Push(_input, (uint)part);
                taken += part;
            }

            _inputWaits = taken < data.Length;
            if (_inputWaits && queue.EnableNotify())
            {
                // Rather one look too many than a notification that never comes.
                Doorbell(ReceiveQueue)?.Ring();
            }

            signal = queue.Publish();
        }

        if (tellsSize)
        {
            SignalConfigChanged();
        }

        if (signal)
        {
            SignalQueue(ReceiveQueue);
        }

        return taken;
    }

    /// <summary>The backend has room again. Any thread.</summary>
    public void TransmitReady() => _wake.Ring();

    protected override void Activate(ulong features)
    {
        if (_inputWaits || _sizeWaits)
        {
            LookForReader();
        }
    }

    protected override bool BeginReset()
    {
        (_hasChain, _taken, _skip) = (false, 0, 0);

        // The next driver has not been told.
        _sizeWaits = (_columns, _rows) != (0, 0);
        ForgetReader();
        return true;
    }

    protected override void OnQueueReset(int queue)
    {
        if (queue == TransmitQueue && _hasChain)
        {
            (_hasChain, _taken) = (false, 0);
            Queue(queue).Push(_output, 0);
        }
    }

    protected override void OnNotify(int queue)
    {
        if (queue == TransmitQueue)
        {
            Transmit();
            return;
        }

        Greet();
    }

    protected override VirtioOwnState SaveOwn() =>
        new VirtioConsoleState(_columns, _rows, _gathered.AsSpan(_first, _count).ToArray(), _hasChain ? _taken : _skip);

    protected override void RestoreOwn(VirtioOwnState? state)
    {
        if (state is not VirtioConsoleState own || own.Pending.Length > GatherBytes)
        {
            throw new ArgumentException("The state is another kind of device's.", nameof(state));
        }

        own.Pending.CopyTo(_gathered, 0);
        (_columns, _rows, _first, _count, _skip) = (own.Columns, own.Rows, 0, own.Pending.Length, Math.Max(0, own.Taken));

        // Once more does no harm.
        _sizeWaits = (_columns, _rows) != (0, 0);
        LookForReader();
    }

    /// <summary>Whether the driver is to hear now of a size that it has not been told. Under the lock.</summary>
    private bool TryTellSize()
    {
        if (!_sizeWaits || !FindReader())
        {
            return false;
        }

        _sizeWaits = false;
        NoteConfigChanged();
        return true;
    }

    private void Transmit()
    {
        bool signal;
        lock (Lock)
        {
            int left = MaxBytesInARow;
            while (TryDeliver() && Gather())
            {
                left -= Math.Max(_count, QueueSize);
                if (left <= 0)
                {
                    _wake.Ring();
                    break;
                }
            }

            signal = Queue(TransmitQueue).Publish();
        }

        if (signal)
        {
            SignalQueue(TransmitQueue);
        }
    }

    /// <summary>Gives the backend what is gathered; false where it has no room for all.</summary>
    private bool TryDeliver()
    {
        if (_count != 0)
        {
            int taken = Math.Clamp(_backend.Transmit(_gathered.AsSpan(_first, _count)), 0, _count);
            (_first, _count) = (_first + taken, _count - taken);
        }

        return _count == 0;
    }

    /// <summary>Takes output from the queue; false where there is none.</summary>
    private bool Gather()
    {
        Virtqueue queue = Queue(TransmitQueue);
        if (!queue.IsReady)
        {
            return false;
        }

        queue.DisableNotify();
        _first = 0;

        // Bounded, since chains may be empty.
        for (int chains = 0; chains < QueueSize && _count < GatherBytes; chains++)
        {
            if (!_hasChain && !TryTake(queue))
            {
                break;
            }

            int part = _output.Read(_taken, _gathered.AsSpan(_count));
            _count += part;
            _taken += part;
            if (_taken >= _output.ReadableLength)
            {
                queue.Push(_output, 0);
                _hasChain = false;
            }
        }

        return _count != 0 || queue.EnableNotify();
    }

    private bool TryTake(Virtqueue queue)
    {
        if (!queue.TryPop(_output))
        {
            return false;
        }

        _hasChain = true;
        _taken = _output.IsRepeated ? _skip : 0;
        _skip = 0;
        return true;
    }
}
