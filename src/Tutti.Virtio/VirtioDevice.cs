using Tutti.Devices;
using Tutti.Memory;

namespace Tutti.Virtio;

/// <summary>State of what one kind of device has beside its queues; each kind derives its own record.</summary>
public abstract record VirtioOwnState;

/// <summary>State of a virtio device without its transport.</summary>
public sealed record VirtioDeviceState(byte Status, ulong Features, byte ConfigGeneration, VirtqueueState[] Queues, VirtioOwnState? Own);

/// <summary>
/// A virtio device, whatever it is reached by. Register accesses come under the chipset lock; queue work is done on the worker's thread
/// without it. What both touch is under <see cref="Lock"/>, which is taken after the chipset lock and let go before the driver is interrupted.
/// Source: Virtual I/O Device 1.2, chapter 2.
/// </summary>
public abstract partial class VirtioDevice : IDisposable
{
    private readonly ManualResetEventSlim _isStill = new(true);
    private Virtqueue[]? _queues;
    private IDoorbell[] _doorbells = [];
    private IDoorbell[] _tiedDoorbells = [];
    private IDoorbell? _configDoorbell;
    private IVirtioTransport? _transport;
    private byte _status;
    private ulong _features;
    private byte _generation;
    private bool _isResetting;
    private bool _isDisposed;

    // Between DRIVER_OK and the reset, or the failure.
    private volatile bool _isLive;

    // Queues whose driver may have missed an interrupt, since the state was saved.
    private bool[] _mustSignal = [];

    public abstract VirtioDeviceId Id { get; }

    /// <summary>Number of queues; does not change.</summary>
    public abstract int QueueCount { get; }

    /// <summary>The device's own feature bits: those of the rings and the transport are added.</summary>
    public abstract ulong DeviceFeatures { get; }

    /// <summary>Bytes of the device's configuration structure.</summary>
    public abstract int ConfigLength { get; }

    /// <summary>The thread that the queues' work is done on.</summary>
    public abstract IDeviceWorker Worker { get; }

    /// <summary>The device's lock: under it are its queues and all else that both worker and registers touch.</summary>
    protected Lock Lock { get; } = new();

    /// <summary>The most entries of a queue, a power of two.</summary>
    public virtual ushort MaxQueueSize(int queue) => 256;

    /// <summary>
    /// Whether a notification of a queue is served by the vCPU that sends it, before it goes on, and not by the worker: for queues whose driver
    /// does nothing but wait for the answer. The work is short and bounded, and waits for nobody.
    /// </summary>
    protected virtual bool IsServedAtOnce(int queue) => false;

    /// <summary>Reads the configuration structure; under the device's lock. What the driver can see begins and ends in the structure.</summary>
    public abstract void ReadConfig(int offset, Span<byte> data);

    /// <summary>Writes the configuration structure; under the device's lock.</summary>
    public virtual void WriteConfig(int offset, ReadOnlySpan<byte> data)
    {
    }

    /// <summary>
    /// Ends the device's work for good: returns when nothing of it touches guest memory any more. Not under a lock, and not on a thread that
    /// completes its requests.
    /// </summary>
    public virtual void Dispose()
    {
        GC.SuppressFinalize(this);
        lock (Lock)
        {
            _isDisposed = true;
            ResetUnderLock();
        }

        _isStill.Wait();
        foreach (IDoorbell doorbell in _doorbells)
        {
            doorbell.Dispose();
        }

        _configDoorbell?.Dispose();
        (_doorbells, _tiedDoorbells, _configDoorbell) = ([], [], null);
    }

    /// <summary>Whether the driver may take these feature bits, all of which were offered, together. Under the device's lock.</summary>
    protected virtual bool AcceptsFeatures(ulong features) => true;

    /// <summary>The driver is ready (DRIVER_OK): the enabled queues can be used. Under the device's lock.</summary>
    /// <param name="features">What the driver has taken.</param>
    protected abstract void Activate(ulong features);

    /// <summary>Stops the use of all queues, which are not ready any more. Under the device's lock, for a device that was active only.</summary>
    /// <returns>True when nothing is under way; else <see cref="CompleteReset"/> is called when that is so.</returns>
    protected abstract bool BeginReset();

    /// <summary>
    /// The driver has made chains of a queue available, or is ready now. On the worker's thread, or on a vCPU's (<see cref="IsServedAtOnce"/>),
    /// under no lock.
    /// </summary>
    protected abstract void OnNotify(int queue);

    /// <summary>The driver has enabled a queue again after a reset of it alone. Under the device's lock.</summary>
    protected virtual void OnQueueEnabled(int queue)
    {
    }

    /// <summary>
    /// The driver resets a queue alone: no chain of it that nothing is done with may be kept. Chains under way are pushed when they are done,
    /// which the driver waits for. Under the device's lock.
    /// </summary>
    protected virtual void OnQueueReset(int queue)
    {
    }

    /// <summary>State beside the queues, where there is such. Under the device's lock.</summary>
    protected virtual VirtioOwnState? SaveOwn() => null;

    /// <summary>Takes <see cref="SaveOwn"/>'s state over, after <see cref="Activate"/> where the driver was ready. Under the device's lock.</summary>
    /// <exception cref="ArgumentException">The state is another kind of device's.</exception>
    protected virtual void RestoreOwn(VirtioOwnState? state)
    {
    }

    /// <summary>A queue; to be used under the device's lock.</summary>
    protected Virtqueue Queue(int index) => (_queues ??= MakeQueues())[index];

    /// <summary>Interrupts the driver, as <see cref="Virtqueue.Publish"/> said. Not under the device's lock.</summary>
    protected void SignalQueue(int queue) => _transport?.SignalQueue(queue);

    /// <summary>Says that the configuration structure has changed: under the device's lock, with the change, so that no driver reads half of it.</summary>
    protected void NoteConfigChanged() => _generation++;

    /// <summary>Interrupts the driver for a changed configuration structure. Not under the device's lock.</summary>
    protected void SignalConfigChanged()
    {
        lock (Lock)
        {
            _generation++;
            if (!_isLive)
            {
                return;
            }
        }

        _transport?.SignalConfig();
    }

    /// <summary>The device can't go on until the driver resets it. Under the device's lock or not.</summary>
    protected void Fail()
    {
        lock (Lock)
        {
            FailUnderLock();
        }
    }

    /// <summary>After <see cref="BeginReset"/> said false: nothing is under way any more. Any thread, not under the device's lock.</summary>
    protected void CompleteReset()
    {
        lock (Lock)
        {
            if (_isResetting)
            {
                EndReset();
            }
        }
    }

    internal void FailUnderLock()
    {
        if (_isResetting || (_status & VirtioStatus.DeviceNeedsReset) != 0)
        {
            return;
        }

        _status |= VirtioStatus.DeviceNeedsReset;
        _isLive = false;
        foreach (Virtqueue queue in _queues ?? [])
        {
            queue.Stop();
        }

        if ((_status & VirtioStatus.DriverOk) != 0)
        {
            // The interrupt is the worker's: whoever is here holds the lock.
            _configDoorbell?.Ring();
        }
    }

    private Virtqueue[] MakeQueues()
    {
        Virtqueue[] queues = new Virtqueue[QueueCount];
        for (int i = 0; i < queues.Length; i++)
        {
            queues[i] = new Virtqueue(this, i, MaxQueueSize(i));
        }

        return queues;
    }

    private void ResetUnderLock()
    {
        if (_isResetting)
        {
            return;
        }

        bool wasActive = (_status & VirtioStatus.DriverOk) != 0;
        _isLive = false;
        _isResetting = true;
        _isStill.Reset();
        foreach (Virtqueue queue in _queues ?? [])
        {
            queue.Stop();
        }

        if (!wasActive || BeginReset())
        {
            EndReset();
        }
    }

    private void EndReset()
    {
        foreach (Virtqueue queue in _queues ?? [])
        {
            queue.Reset();
        }

        Array.Clear(_mustSignal);
        (_status, _features, _isResetting) = (0, 0, false);
        _isStill.Set();
    }

    private void Work(int queue)
    {
        if (!_isLive)
        {
            return;
        }

        bool isReady;
        bool mustSignal;
        lock (Lock)
        {
            isReady = _isLive && Queue(queue).IsReady;
            mustSignal = isReady && _mustSignal[queue];
            _mustSignal[queue] = false;
        }

        if (mustSignal)
        {
            SignalQueue(queue);
        }

        if (isReady)
        {
            OnNotify(queue);
        }
    }
}
