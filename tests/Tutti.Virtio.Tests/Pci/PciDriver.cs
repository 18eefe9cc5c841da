using System.Buffers.Binary;
using static Tutti.Virtio.Pci.VirtioPciLayout;

namespace Tutti.Virtio.Tests.Pci;

/// <summary>A guest's driver of the transport: knows nothing but configuration space and what that points to.</summary>
internal sealed class PciDriver
{
    internal const uint ConfigMessage = 100;
    internal const uint FirstQueueMessage = 101;
    private readonly PciBed _bed;
    private readonly int _slot;
    private readonly Dictionary<byte, (ulong Address, uint Length, int Capability)> _structures = [];

    internal PciDriver(PciBed bed, int slot)
    {
        (_bed, _slot) = (bed, slot);
        WriteConfig(0x04, 0x6, 2);
        for (int at = (byte)ReadConfig(0x34, 1); at != 0; at = (byte)ReadConfig(at + 1, 1))
        {
            if (ReadConfig(at, 1) == VendorCapability)
            {
                byte type = (byte)ReadConfig(at + 3, 1);
                int bar = (int)ReadConfig(at + 4, 1);
                ulong start = (ReadConfig(0x10 + (4 * bar), 4) & ~0xFUL) | (ReadConfig(0x14 + (4 * bar), 4) << 32);
                _structures.TryAdd(type, (start + ReadConfig(at + 8, 4), (uint)ReadConfig(at + 12, 4), at));
            }
            else if (ReadConfig(at, 1) == 0x11)
            {
                MsixCapability = at;
            }
        }
    }

    internal int MsixCapability { get; }

    internal byte Status => (byte)ReadCommon(DeviceStatus, 1);

    internal IReadOnlyDictionary<byte, (ulong Address, uint Length, int Capability)> Structures => _structures;

    internal ulong ReadConfig(int offset, int width)
    {
        Span<byte> data = stackalloc byte[8];
        data.Clear();
        _bed.Bus.ReadConfig(0, _slot << 3, offset, data[..width]);
        return BinaryPrimitives.ReadUInt64LittleEndian(data);
    }

    internal void WriteConfig(int offset, ulong value, int width)
    {
        Span<byte> data = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(data, value);
        _bed.Bus.WriteConfig(0, _slot << 3, offset, data[..width]);
    }

    internal ulong Read(ulong address, int width)
    {
        Span<byte> data = stackalloc byte[8];
        data.Clear();
        lock (_bed.Chipset)
        {
            _bed.Mmio.Read(address, data[..width]);
        }

        return BinaryPrimitives.ReadUInt64LittleEndian(data);
    }

    internal void Write(ulong address, ulong value, int width)
    {
        Span<byte> data = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(data, value);
        if (_bed.Doorbells.TryGetValue(address, out Devices.IDoorbell? doorbell))
        {
            doorbell.Ring();
            return;
        }

        lock (_bed.Chipset)
        {
            _bed.Mmio.Write(address, data[..width]);
        }
    }

    internal ulong ReadCommon(int offset, int width) => Read(_structures[TypeCommon].Address + (ulong)offset, width);

    internal void WriteCommon(int offset, ulong value, int width) => Write(_structures[TypeCommon].Address + (ulong)offset, value, width);

    internal ulong ReadDevice(int offset, int width) => Read(_structures[TypeDevice].Address + (ulong)offset, width);

    internal void WriteDevice(int offset, ulong value, int width) => Write(_structures[TypeDevice].Address + (ulong)offset, value, width);

    internal byte ReadIsr() => (byte)Read(_structures[TypeIsr].Address, 1);

    internal ulong ReadFeatures()
    {
        WriteCommon(DeviceFeatureSelect, 0, 4);
        ulong low = ReadCommon(DeviceFeature, 4);
        WriteCommon(DeviceFeatureSelect, 1, 4);
        return low | (ReadCommon(DeviceFeature, 4) << 32);
    }

    internal void WriteFeatures(ulong features)
    {
        WriteCommon(DriverFeatureSelect, 0, 4);
        WriteCommon(DriverFeature, (uint)features, 4);
        WriteCommon(DriverFeatureSelect, 1, 4);
        WriteCommon(DriverFeature, features >> 32, 4);
    }

    /// <summary>Reset, ACKNOWLEDGE, DRIVER, the features, FEATURES_OK.</summary>
    internal void Begin(ulong features)
    {
        WriteCommon(DeviceStatus, 0, 1);
        Assert.Equal(0, Status);
        WriteCommon(DeviceStatus, 1, 1);
        WriteCommon(DeviceStatus, 3, 1);
        WriteFeatures(features & ReadFeatures());
        WriteCommon(DeviceStatus, 0xB, 1);
    }

    internal void Finish() => WriteCommon(DeviceStatus, 0xF, 1);

    /// <summary>Switches MSI-X on: message <see cref="ConfigMessage"/> for the configuration, and one for each queue.</summary>
    internal void UseMessages(int queues)
    {
        ulong table = ReadConfig(0x10 + (4 * (int)(ReadConfig(MsixCapability + 4, 4) & 7)), 4) & ~0xFUL;
        for (int i = 0; i <= queues; i++)
        {
            ulong entry = table + (ulong)(i * 16);
            Write(entry, 0xFEE0_0000, 4);
            Write(entry + 4, 0, 4);
            Write(entry + 8, ConfigMessage + (uint)i, 4);
            Write(entry + 12, 0, 4);
        }

        WriteConfig(MsixCapability + 2, 0x8000, 2);
        WriteCommon(ConfigMsixVector, 0, 2);
        Assert.Equal(0UL, ReadCommon(ConfigMsixVector, 2));
        for (int i = 0; i < queues; i++)
        {
            WriteCommon(QueueSelect, (ulong)i, 2);
            WriteCommon(QueueMsixVector, (ulong)(i + 1), 2);
            Assert.Equal((ulong)(i + 1), ReadCommon(QueueMsixVector, 2));
        }
    }

    /// <summary>Sets a queue up and enables it; its areas lie from an address on.</summary>
    internal GuestQueue AddQueue(int index, int size, ulong address, ulong features)
    {
        GuestQueue queue = new(_bed, this, index, size, address, features);
        WriteCommon(QueueSelect, (ulong)index, 2);
        WriteCommon(QueueSize, (ulong)size, 2);
        Assert.Equal((ulong)size, ReadCommon(QueueSize, 2));
        WriteCommon(QueueDesc, (uint)queue.Descriptors, 4);
        WriteCommon(QueueDesc + 4, queue.Descriptors >> 32, 4);
        WriteCommon(QueueDriver, (uint)queue.Available, 4);
        WriteCommon(QueueDriver + 4, queue.Available >> 32, 4);
        WriteCommon(QueueDevice, (uint)queue.Used, 4);
        WriteCommon(QueueDevice + 4, queue.Used >> 32, 4);
        WriteCommon(QueueEnable, 1, 2);
        return queue;
    }

    internal void Notify(int queue)
    {
        WriteCommon(QueueSelect, (ulong)queue, 2);
        ulong multiplier = ReadConfig(_structures[TypeNotify].Capability + 16, 4);
        Write(_structures[TypeNotify].Address + (ReadCommon(QueueNotifyOff, 2) * multiplier), (ulong)queue, 2);
    }
}
