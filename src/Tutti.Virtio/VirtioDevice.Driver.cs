using Tutti.Devices;
using Tutti.Memory;

namespace Tutti.Virtio;

/// <summary>What a transport's registers do to the device. All calls are made under the chipset lock and take the device's.</summary>
public abstract partial class VirtioDevice
{
    internal ulong OfferedFeatures => (DeviceFeatures & ~VirtioFeatures.Reserved) | VirtioFeatures.Common;

    /// <summary>Bits that the driver has taken so far.</summary>
    internal ulong Features
    {
        get
        {
            lock (Lock)
            {
                return _features;
            }
        }
    }

    /// <summary>device_status. While a reset is under way it stays what it was: not 0.</summary>
    internal byte Status
    {
        get
        {
            lock (Lock)
            {
                return _status;
            }
        }
    }

    internal byte ConfigGeneration
    {
        get
        {
            lock (Lock)
            {
                return _generation;
            }
        }
    }

    /// <summary>Whether rings of the doorbells mean something now.</summary>
    internal bool IsLive => _isLive;

    /// <summary>Whether a driver runs it that wants to hear of it.</summary>
    internal bool HasDriver
    {
        get
        {
            lock (Lock)
            {
                return !_isResetting && (_status & VirtioStatus.DriverOk) != 0;
            }
        }
    }

    /// <summary>Ties the device to memory and transport; once.</summary>
    internal void Attach(GuestMemory memory, IVirtioTransport transport)
    {
        lock (Lock)
        {
            if (_transport != null)
            {
                throw new InvalidOperationException("A virtio device has one transport.");
            }

            _transport = transport;
            _mustSignal = new bool[QueueCount];
            _doorbells = new IDoorbell[QueueCount];
            _tiedDoorbells = new IDoorbell[QueueCount];
            _configDoorbell = Worker.AddDoorbell(transport.SignalConfig);
            for (int i = 0; i < _doorbells.Length; i++)
            {
                int queue = i;
                Queue(i).Connect(memory);
                Action work = () => Work(queue);
                _doorbells[i] = Worker.AddDoorbell(work);
                _tiedDoorbells[i] = IsServedAtOnce(i) ? new VcpuDoorbell(work) : _doorbells[i];
            }
        }
    }

    /// <summary>A queue's doorbell; null for a queue that does not exist, and after the end.</summary>
    internal IDoorbell? Doorbell(int queue)
    {
        IDoorbell[] doorbells = _doorbells;
        return (uint)queue < (uint)doorbells.Length ? doorbells[queue] : null;
    }

    /// <summary>What a queue's notifications are tied to where they take no lock: its doorbell, or the work itself.</summary>
    internal IDoorbell? TiedDoorbell(int queue)
    {
        IDoorbell[] doorbells = _tiedDoorbells;
        return (uint)queue < (uint)doorbells.Length ? doorbells[queue] : null;
    }

    /// <summary>Takes half of the driver's features, until they are final.</summary>
    /// <param name="isHigh">Bits 32 to 63.</param>
    internal void WriteFeatures(bool isHigh, uint value)
    {
        lock (Lock)
        {
            if (!_isResetting && (_status & VirtioStatus.FeaturesOk) == 0)
            {
                _features = isHigh ? ((ulong)value << 32) | (uint)_features : (_features & ~0xFFFF_FFFFUL) | value;
            }
        }
    }

    /// <summary>Sets bits of device_status, which no driver can clear but by a reset: that is 0.</summary>
    internal void WriteStatus(byte value)
    {
        lock (Lock)
        {
            if (value == 0)
            {
                ResetUnderLock();
                return;
            }

            if (_isResetting || _isDisposed)
            {
                return;
            }

            int added = value & ~_status & VirtioStatus.DriverBits;
            if ((added & VirtioStatus.FeaturesOk) != 0 && !AreFeaturesFine())
            {
                added &= ~VirtioStatus.FeaturesOk;
            }

            if (((_status | added) & VirtioStatus.FeaturesOk) == 0)
            {
                // Only drivers of before version 1 do without.
                added &= ~VirtioStatus.DriverOk;
            }

            _status |= (byte)added;
            if ((added & VirtioStatus.DriverOk) != 0)
            {
                Start();
            }
        }
    }

    internal void ReadDeviceConfig(int offset, Span<byte> data)
    {
        data.Clear();
        if (offset < ConfigLength)
        {
            lock (Lock)
            {
                ReadConfig(offset, data[..Math.Min(data.Length, ConfigLength - offset)]);
            }
        }
    }

    internal void WriteDeviceConfig(int offset, ReadOnlySpan<byte> data)
    {
        if (offset < ConfigLength)
        {
            lock (Lock)
            {
                WriteConfig(offset, data[..Math.Min(data.Length, ConfigLength - offset)]);
            }
        }
    }

    internal ushort ReadQueueSize(int queue)
    {
        lock (Lock)
        {
            return (ushort)Queue(queue).Size;
        }
    }

    internal void WriteQueueSize(int queue, int size)
    {
        lock (Lock)
        {
            if (!_isResetting)
            {
                Queue(queue).SetSize(size);
            }
        }
    }

    internal VirtqueueAddresses ReadQueueAddresses(int queue)
    {
        lock (Lock)
        {
            return Queue(queue).Addresses;
        }
    }

    internal void WriteQueueAddresses(int queue, in VirtqueueAddresses addresses)
    {
        lock (Lock)
        {
            if (!_isResetting)
            {
                Queue(queue).SetAddresses(addresses);
            }
        }
    }

    internal bool IsQueueEnabled(int queue)
    {
        lock (Lock)
        {
            return Queue(queue).IsEnabled;
        }
    }

    /// <summary>queue_enable. The features must be final: they say how the ring is read.</summary>
    internal void EnableQueue(int queue)
    {
        lock (Lock)
        {
            Virtqueue target = Queue(queue);
            if (_isResetting || (_status & VirtioStatus.FeaturesOk) == 0 || (_status & VirtioStatus.DeviceNeedsReset) != 0 || target.IsEnabled)
            {
                return;
            }

            target.Enable(_features);
            if (_isLive && target.IsReady)
            {
                OnQueueEnabled(queue);
                Doorbell(queue)?.Ring();
            }
        }
    }

    internal bool IsQueueResetting(int queue)
    {
        lock (Lock)
        {
            return Queue(queue).IsResetting;
        }
    }

    internal void ResetQueue(int queue)
    {
        lock (Lock)
        {
            if (_isResetting || (_features & VirtioFeatures.RingReset) == 0 || !Queue(queue).IsEnabled)
            {
                return;
            }

            Queue(queue).Stop();
            if (_isLive)
            {
                OnQueueReset(queue);
            }

            Queue(queue).BeginReset();
        }
    }

    /// <summary>The device's state; a reset that is under way counts as done, since what waits for it does not go along.</summary>
    internal VirtioDeviceState Save()
    {
        lock (Lock)
        {
            VirtqueueState[] queues = new VirtqueueState[QueueCount];
            for (int i = 0; i < queues.Length; i++)
            {
                queues[i] = _isResetting ? new Virtqueue(this, i, MaxQueueSize(i)).Save() : Queue(i).Save();
            }

            return _isResetting
                ? new VirtioDeviceState(0, 0, _generation, queues, null)
                : new VirtioDeviceState(_status, _features, _generation, queues, SaveOwn());
        }
    }

    /// <summary>Takes a state over, and goes on with the work that was under way.</summary>
    /// <exception cref="ArgumentException">The state is that of a device which this one is not, or can't be in this memory.</exception>
    /// <exception cref="InvalidOperationException">The device is in use.</exception>
    internal void Restore(VirtioDeviceState state)
    {
        lock (Lock)
        {
            if (_isResetting || _isDisposed || (_status & VirtioStatus.DriverOk) != 0)
            {
                throw new InvalidOperationException("A state is restored to a device that is reset.");
            }

            // Before FEATURES_OK a driver may have written anything.
            bool areFinal = (state.Status & VirtioStatus.FeaturesOk) != 0;
            if (state.Queues.Length != QueueCount || (areFinal && (state.Features & ~OfferedFeatures) != 0))
            {
                throw new ArgumentException("The state is that of a device with other queues or features.", nameof(state));
            }

            (_status, _features, _generation) = (state.Status, state.Features, state.ConfigGeneration);
            for (int i = 0; i < QueueCount; i++)
            {
                Queue(i).Restore(state.Queues[i], _features);
            }

            bool isFailed = (_status & VirtioStatus.DeviceNeedsReset) != 0;
            if ((_status & VirtioStatus.DriverOk) != 0)
            {
                Array.Fill(_mustSignal, true);
                Start();
            }

            RestoreOwn(state.Own);
            foreach (Virtqueue queue in isFailed ? _queues! : [])
            {
                queue.Stop();
            }
        }
    }

    private bool AreFeaturesFine() =>
        (_features & VirtioFeatures.Version1) != 0 && (_features & ~OfferedFeatures) == 0 && AcceptsFeatures(_features);

    private void Start()
    {
        if ((_status & VirtioStatus.DeviceNeedsReset) == 0)
        {
            Activate(_features);
            _isLive = (_status & VirtioStatus.DeviceNeedsReset) == 0;
        }

        for (int i = 0; _isLive && i < QueueCount; i++)
        {
            // Some drivers fill queues before they are ready, and don't notify of it again.
            if (Queue(i).IsReady)
            {
                Doorbell(i)?.Ring();
            }
        }
    }
}
