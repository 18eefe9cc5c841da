using Tutti.Cpu;
using Tutti.Devices;
using Tutti.Memory;

namespace Tutti.Virtio.Entropy;

/// <summary>State of an entropy device: bytes that the guest may have before it waits, and the guest time that they were counted at.</summary>
public sealed record VirtioRngState(long Allowance, long CountedAt) : VirtioOwnState;

/// <summary>
/// The virtio entropy device. A guest gets so many bytes each second of its time; a request that asks for more is answered with fewer or waits.
/// Source: Virtual I/O Device 1.2, 5.4.
/// </summary>
public sealed class VirtioRng : VirtioDevice
{
    /// <summary>Bytes each second where nothing else is said: Linux takes some hundred at its start.</summary>
    public const long DefaultBytesPerSecond = 1 << 20;

    /// <summary>The most bytes that one request gets.</summary>
    internal const int MaxRequestBytes = 4096;

    private const int RequestQueue = 0;
    private const int QueueSize = 64;
    private const long NanosecondsPerSecond = 1_000_000_000;
    private readonly IEntropySource _source;
    private readonly IGuestClock _clock;
    private readonly IClockTimer _timer;
    private readonly IDoorbell _refilled;
    private readonly DescriptorChain _chain = new();
    private readonly long _bytesPerSecond;

    // What a guest can have at once after a rest.
    private readonly long _burst;
    private long _allowance;
    private long _countedAt;

    /// <param name="bytesPerSecond">4096 to 2^30.</param>
    public VirtioRng(IEntropySource source, IDeviceWorker worker, IGuestClock clock, long bytesPerSecond = DefaultBytesPerSecond)
    {
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(worker);
        ArgumentNullException.ThrowIfNull(clock);
        ArgumentOutOfRangeException.ThrowIfLessThan(bytesPerSecond, MaxRequestBytes);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(bytesPerSecond, 1 << 30);
        (_source, Worker, _clock, _bytesPerSecond) = (source, worker, clock, bytesPerSecond);
        _burst = Math.Max(MaxRequestBytes, bytesPerSecond / 16);
        _allowance = _burst;
        _countedAt = clock.Nanoseconds;
        _refilled = worker.AddDoorbell(Serve);
        _timer = clock.CreateTimer(_refilled.Ring);
    }

    public override VirtioDeviceId Id => VirtioDeviceId.Entropy;

    public override int QueueCount => 1;

    public override ulong DeviceFeatures => 0;

    public override int ConfigLength => 0;

    public override IDeviceWorker Worker { get; }

    public override ushort MaxQueueSize(int queue) => QueueSize;

    public override void ReadConfig(int offset, Span<byte> data)
    {
    }

    public override void Dispose()
    {
        base.Dispose();
        _timer.Cancel();
        _refilled.Dispose();
    }

    protected override void Activate(ulong features)
    {
    }

    protected override bool BeginReset() => true;

    protected override void OnNotify(int queue) => Serve();

    protected override VirtioOwnState SaveOwn() => new VirtioRngState(_allowance, _countedAt);

    protected override void RestoreOwn(VirtioOwnState? state)
    {
        if (state is not VirtioRngState own)
        {
            throw new ArgumentException("The state is another kind of device's.", nameof(state));
        }

        (_allowance, _countedAt) = (Math.Clamp(own.Allowance, 0, _burst), own.CountedAt);
    }

    private void Serve()
    {
        bool signal;
        lock (Lock)
        {
            Virtqueue queue = Queue(RequestQueue);
            Refill();
            queue.DisableNotify();
            while (true)
            {
                if (_allowance == 0 && queue.IsReady)
                {
                    // The driver need not notify: we come back.
                    _timer.Arm(_clock.Nanoseconds + (NanosecondsPerSecond * MaxRequestBytes / _bytesPerSecond));
                    break;
                }

                if (!queue.TryPop(_chain))
                {
                    if (!queue.EnableNotify())
                    {
                        break;
                    }

                    queue.DisableNotify();
                    continue;
                }

                queue.Push(_chain, Answer());
            }

            signal = queue.Publish();
        }

        if (signal)
        {
            SignalQueue(RequestQueue);
        }
    }

    private uint Answer()
    {
        long left = Math.Min(Math.Min(_chain.WritableLength, MaxRequestBytes), _allowance);

        // An empty request costs something, too: else a guest could keep the worker here for ever.
        _allowance -= Math.Max(left, 1);
        uint written = 0;
        foreach (ref readonly MemorySegment segment in _chain.Writable)
        {
            if (left == 0)
            {
                break;
            }

            Span<byte> part = segment.Span[..(int)Math.Min(segment.Length, left)];
            _source.Fill(part);
            written += (uint)part.Length;
            left -= part.Length;
        }

        return written;
    }

    private void Refill()
    {
        long now = _clock.Nanoseconds;
        long passed = Math.Clamp(now - _countedAt, 0, NanosecondsPerSecond);
        long gained = passed * _bytesPerSecond / NanosecondsPerSecond;
        if (gained != 0)
        {
            (_allowance, _countedAt) = (Math.Min(_burst, _allowance + gained), now);
        }
    }
}
