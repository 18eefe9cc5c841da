using System.Buffers.Binary;
using Tutti.Devices.Pci;
using static Tutti.Virtio.Pci.VirtioPciLayout;

namespace Tutti.Virtio.Pci;

/// <summary>The common configuration structure: the windows that a driver looks at a device and its queues through. Under the chipset lock.</summary>
internal sealed class CommonConfig(VirtioDevice device, MsixTable msix)
{
    private readonly ushort[] _queueVectors = MakeVectors(device.QueueCount);
    private int _configVector = NoVector;
    private uint _deviceFeatureSelect;
    private uint _driverFeatureSelect;
    private ushort _queueSelect;

    private bool HasQueue => _queueSelect < device.QueueCount;

    /// <summary>Any thread.</summary>
    internal int ConfigVector => Volatile.Read(ref _configVector);

    /// <summary>Any thread.</summary>
    internal int QueueVector(int queue) => Volatile.Read(ref _queueVectors[queue]);

    internal void Read(int offset, Span<byte> data)
    {
        data.Clear();
        if (offset >= CommonSize)
        {
            return;
        }

        Span<byte> registers = stackalloc byte[CommonSize];
        registers.Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(registers[DeviceFeatureSelect..], _deviceFeatureSelect);
        BinaryPrimitives.WriteUInt32LittleEndian(registers[DeviceFeature..], Window(device.OfferedFeatures, _deviceFeatureSelect));
        BinaryPrimitives.WriteUInt32LittleEndian(registers[DriverFeatureSelect..], _driverFeatureSelect);
        BinaryPrimitives.WriteUInt32LittleEndian(registers[DriverFeature..], Window(device.Features, _driverFeatureSelect));
        BinaryPrimitives.WriteUInt16LittleEndian(registers[ConfigMsixVector..], (ushort)_configVector);
        BinaryPrimitives.WriteUInt16LittleEndian(registers[NumQueues..], (ushort)device.QueueCount);
        registers[DeviceStatus] = device.Status;
        registers[ConfigGeneration] = device.ConfigGeneration;
        BinaryPrimitives.WriteUInt16LittleEndian(registers[QueueSelect..], _queueSelect);
        if (HasQueue)
        {
            ReadQueue(registers);
        }

        registers = registers[offset..];
        registers[..Math.Min(registers.Length, data.Length)].CopyTo(data);
    }

    /// <summary>Takes a write of a register's own width, or of half of a register of 64 bits; ignores any other.</summary>
    internal void Write(int offset, ReadOnlySpan<byte> data)
    {
        switch (offset, data.Length)
        {
            case (DeviceFeatureSelect, 4):
                _deviceFeatureSelect = BinaryPrimitives.ReadUInt32LittleEndian(data);
                break;
            case (DriverFeatureSelect, 4):
                _driverFeatureSelect = BinaryPrimitives.ReadUInt32LittleEndian(data);
                break;
            case (DriverFeature, 4):
                if (_driverFeatureSelect <= 1)
                {
                    device.WriteFeatures(_driverFeatureSelect == 1, BinaryPrimitives.ReadUInt32LittleEndian(data));
                }

                break;
            case (ConfigMsixVector, 2):
                Volatile.Write(ref _configVector, Existing(BinaryPrimitives.ReadUInt16LittleEndian(data)));
                break;
            case (DeviceStatus, 1):
                WriteStatus(data[0]);
                break;
            case (QueueSelect, 2):
                _queueSelect = BinaryPrimitives.ReadUInt16LittleEndian(data);
                break;
            default:
                if (HasQueue)
                {
                    WriteQueue(offset, data);
                }

                break;
        }
    }

    internal void Reset()
    {
        (_deviceFeatureSelect, _driverFeatureSelect, _queueSelect) = (0, 0, 0);
        ForgetVectors();
    }

    internal VirtioPciState Save(byte isr) => new(
        _deviceFeatureSelect, _driverFeatureSelect, _queueSelect, (ushort)_configVector, (ushort[])_queueVectors.Clone(), isr, device.Save());

    internal void Restore(VirtioPciState state)
    {
        if (state.QueueVectors.Length != _queueVectors.Length)
        {
            throw new ArgumentException("The state is that of a device with another number of queues.", nameof(state));
        }

        (_deviceFeatureSelect, _driverFeatureSelect, _queueSelect) = (state.DeviceFeatureSelect, state.DriverFeatureSelect, state.QueueSelect);
        Volatile.Write(ref _configVector, Existing(state.ConfigVector));
        for (int i = 0; i < _queueVectors.Length; i++)
        {
            Volatile.Write(ref _queueVectors[i], Existing(state.QueueVectors[i]));
        }
    }

    private static uint Window(ulong features, uint select) => select switch
    {
        0 => (uint)features,
        1 => (uint)(features >> 32),
        _ => 0,
    };

    private static ushort[] MakeVectors(int count)
    {
        ushort[] vectors = new ushort[count];
        Array.Fill(vectors, NoVector);
        return vectors;
    }

    // The driver reads back whether it got the vector.
    private ushort Existing(ushort vector) => vector < msix.Count ? vector : NoVector;

    private void ForgetVectors()
    {
        Volatile.Write(ref _configVector, NoVector);
        for (int i = 0; i < _queueVectors.Length; i++)
        {
            Volatile.Write(ref _queueVectors[i], NoVector);
        }
    }

    private void WriteStatus(byte value)
    {
        device.WriteStatus(value);
        if (value == 0)
        {
            // At once, even when requests are still under way: their ends interrupt nobody.
            Reset();
        }
    }

    private void ReadQueue(Span<byte> registers)
    {
        VirtqueueAddresses addresses = device.ReadQueueAddresses(_queueSelect);
        BinaryPrimitives.WriteUInt16LittleEndian(registers[QueueSize..], device.ReadQueueSize(_queueSelect));
        BinaryPrimitives.WriteUInt16LittleEndian(registers[QueueMsixVector..], _queueVectors[_queueSelect]);
        registers[QueueEnable] = device.IsQueueEnabled(_queueSelect) ? (byte)1 : (byte)0;
        BinaryPrimitives.WriteUInt16LittleEndian(registers[QueueNotifyOff..], _queueSelect);
        BinaryPrimitives.WriteUInt64LittleEndian(registers[QueueDesc..], addresses.Descriptors);
        BinaryPrimitives.WriteUInt64LittleEndian(registers[QueueDriver..], addresses.Available);
        BinaryPrimitives.WriteUInt64LittleEndian(registers[QueueDevice..], addresses.Used);
        registers[QueueReset] = device.IsQueueResetting(_queueSelect) ? (byte)1 : (byte)0;
    }

    private void WriteQueue(int offset, ReadOnlySpan<byte> data)
    {
        switch (offset, data.Length)
        {
            case (QueueSize, 2):
                device.WriteQueueSize(_queueSelect, BinaryPrimitives.ReadUInt16LittleEndian(data));
                break;
            case (QueueMsixVector, 2):
                Volatile.Write(ref _queueVectors[_queueSelect], Existing(BinaryPrimitives.ReadUInt16LittleEndian(data)));
                break;
            case (QueueEnable, 2) when BinaryPrimitives.ReadUInt16LittleEndian(data) == 1:
                device.EnableQueue(_queueSelect);
                break;
            case (QueueReset, 2) when BinaryPrimitives.ReadUInt16LittleEndian(data) == 1:
                device.ResetQueue(_queueSelect);
                break;
            case ( >= QueueDesc and < QueueNotifyData, 4 or 8) when (offset & (data.Length - 1)) == 0:
                WriteAddress(offset, data);
                break;
        }
    }

    private void WriteAddress(int offset, ReadOnlySpan<byte> data)
    {
        VirtqueueAddresses addresses = device.ReadQueueAddresses(_queueSelect);
        Span<byte> bytes = stackalloc byte[QueueNotifyData - QueueDesc];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, addresses.Descriptors);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[(QueueDriver - QueueDesc)..], addresses.Available);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[(QueueDevice - QueueDesc)..], addresses.Used);
        data.CopyTo(bytes[(offset - QueueDesc)..]);
        device.WriteQueueAddresses(_queueSelect, new VirtqueueAddresses(
            BinaryPrimitives.ReadUInt64LittleEndian(bytes),
            BinaryPrimitives.ReadUInt64LittleEndian(bytes[(QueueDriver - QueueDesc)..]),
            BinaryPrimitives.ReadUInt64LittleEndian(bytes[(QueueDevice - QueueDesc)..])));
    }
}
