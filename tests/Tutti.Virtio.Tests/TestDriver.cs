using System.Buffers.Binary;
using Tutti.Memory;

namespace Tutti.Virtio.Tests;

/// <summary>A part of a request: guest physical address, bytes, and whether the device writes it.</summary>
internal readonly record struct TestBuffer(ulong Address, int Length, bool IsWritable);

/// <summary>A guest's driver of a virtio device: 16 MiB of RAM, rings at its start, data from <see cref="Data"/> on.</summary>
internal sealed class TestDriver : IVirtioTransport
{
    /// <summary>Guest physical address of the first byte that no ring uses.</summary>
    public const ulong Data = 0x10_0000;

    private const int MemorySize = 16 << 20;
    private const ulong RingStride = 0x8000;
    private readonly byte[] _ram = GC.AllocateArray<byte>(MemorySize + 4096, true);
    private readonly TestRing[] _rings;

    /// <param name="device">The device.</param>
    /// <param name="features">The device's own features that are taken.</param>
    /// <param name="queueSize">Entries of each queue.</param>
    /// <param name="ringFeatures">INDIRECT_DESC and EVENT_IDX, if wanted.</param>
    public unsafe TestDriver(VirtioDevice device, ulong features, int queueSize = 16, ulong ringFeatures = VirtioFeatures.IndirectDesc)
    {
        Device = device;
        nint address = (nint)System.Runtime.CompilerServices.Unsafe.AsPointer(ref _ram[0]);
        Memory = new GuestMemory([new GuestMemoryRegion(0, MemorySize)], (address + 4095) & ~4095);
        Signals = new int[device.QueueCount];
        _rings = new TestRing[device.QueueCount];
        device.Attach(Memory, this);
        Start(features, queueSize, ringFeatures);
    }

    public VirtioDevice Device { get; }

    public GuestMemory Memory { get; }

    /// <summary>Interrupts by queue.</summary>
    public int[] Signals { get; }

    public int ConfigSignals { get; private set; }

    public Span<byte> Ram
    {
        get
        {
            Assert.True(Memory.TryGetSpan(0, MemorySize, out Span<byte> ram));
            return ram;
        }
    }

    public TestRing this[int queue] => _rings[queue];

    /// <summary>Sets the device up as the specification has it, 3.1.1.</summary>
    public void Start(ulong features, int queueSize, ulong ringFeatures)
    {
        ulong taken = features | ringFeatures | VirtioFeatures.Version1;
        Device.WriteStatus(VirtioStatus.Acknowledge);
        Device.WriteStatus(VirtioStatus.Acknowledge | VirtioStatus.Driver);
        Device.WriteFeatures(false, (uint)taken);
        Device.WriteFeatures(true, (uint)(taken >> 32));
        byte status = VirtioStatus.Acknowledge | VirtioStatus.Driver | VirtioStatus.FeaturesOk;
        Device.WriteStatus(status);
        Assert.Equal(status, Device.Status);
        for (int i = 0; i < _rings.Length; i++)
        {
            ulong start = 0x1000 + ((ulong)i * RingStride);
            Ram.Slice((int)start, (int)RingStride).Clear();
            Device.WriteQueueSize(i, queueSize);
            VirtqueueAddresses addresses = new(start, start + 0x4000, start + 0x6000);
            Device.WriteQueueAddresses(i, addresses);
            Device.EnableQueue(i);
            _rings[i] = new TestRing(this, i, queueSize, addresses);
        }

        Device.WriteStatus((byte)(status | VirtioStatus.DriverOk));
        Assert.Equal(status | VirtioStatus.DriverOk, Device.Status);
    }

    public void Reset() => Device.WriteStatus(0);

    public byte[] ReadConfig()
    {
        byte[] config = new byte[Device.ConfigLength];
        Device.ReadDeviceConfig(0, config);
        return config;
    }

    void IVirtioTransport.SignalQueue(int queue) => Signals[queue]++;

    void IVirtioTransport.SignalConfig() => ConfigSignals++;
}

/// <summary>The driver's side of one queue. Descriptors are used in turn; the test posts no more than fit.</summary>
internal sealed class TestRing(TestDriver driver, int queue, int size, VirtqueueAddresses addresses)
{
    private ushort _available;
    private ushort _seenUsed;
    private int _nextDescriptor;

    public int Size => size;

    private Span<byte> Descriptors => driver.Ram.Slice((int)addresses.Descriptors, size * 16);

    private Span<byte> Available => driver.Ram.Slice((int)addresses.Available, 6 + (size * 2));

    private Span<byte> Used => driver.Ram.Slice((int)addresses.Used, 6 + (size * 8));

    /// <summary>Whether the device has asked not to be told of more.</summary>
    public bool IsNotifyOff => (Used[0] & 1) != 0;

    /// <summary>avail_event.</summary>
    public ushort AvailEvent => BinaryPrimitives.ReadUInt16LittleEndian(Used[(4 + (size * 8))..]);

    public ushort AvailableIndex => _available;

    /// <summary>used_event.</summary>
    public ushort UsedEvent
    {
        set => BinaryPrimitives.WriteUInt16LittleEndian(Available[(4 + (size * 2))..], value);
    }

    /// <summary>Makes a chain available, without telling the device.</summary>
    /// <returns>Its head.</returns>
    public ushort Post(params ReadOnlySpan<TestBuffer> buffers)
    {
        int head = _nextDescriptor % size;
        for (int i = 0; i < buffers.Length; i++)
        {
            int index = _nextDescriptor++ % size;
            int next = _nextDescriptor % size;
            bool isLast = i == buffers.Length - 1;
            WriteDescriptor(Descriptors, index, buffers[i], isLast ? -1 : next);
        }

        Offer((ushort)head);
        return (ushort)head;
    }

    /// <summary>Makes a chain available whose descriptors lie in a table at an address.</summary>
    public ushort PostIndirect(ulong table, params ReadOnlySpan<TestBuffer> buffers)
    {
        Span<byte> entries = driver.Ram.Slice((int)table, buffers.Length * 16);
        for (int i = 0; i < buffers.Length; i++)
        {
            WriteDescriptor(entries, i, buffers[i], i == buffers.Length - 1 ? -1 : i + 1);
        }

        int head = _nextDescriptor++ % size;
        WriteDescriptor(Descriptors, head, new TestBuffer(table, buffers.Length * 16, false), -1);
        BinaryPrimitives.WriteUInt16LittleEndian(Descriptors[((head * 16) + 12)..], 4);
        Offer((ushort)head);
        return (ushort)head;
    }

    /// <summary>Writes an entry of the available ring.</summary>
    public void Offer(ushort head)
    {
        BinaryPrimitives.WriteUInt16LittleEndian(Available[(4 + (_available % size * 2))..], head);
        _available++;
        BinaryPrimitives.WriteUInt16LittleEndian(Available[2..], _available);
    }

    public void Notify() => driver.Device.Doorbell(queue)?.Ring();

    /// <summary>Takes the next used element.</summary>
    public bool TryTake(out int head, out int written)
    {
        (head, written) = (0, 0);
        if (BinaryPrimitives.ReadUInt16LittleEndian(Used[2..]) == _seenUsed)
        {
            return false;
        }

        Span<byte> element = Used.Slice(4 + (_seenUsed % size * 8), 8);
        head = BinaryPrimitives.ReadInt32LittleEndian(element);
        written = BinaryPrimitives.ReadInt32LittleEndian(element[4..]);
        _seenUsed++;
        return true;
    }

    public int TakeAll()
    {
        int count = 0;
        while (TryTake(out _, out _))
        {
            count++;
        }

        return count;
    }

    private static void WriteDescriptor(Span<byte> table, int index, TestBuffer buffer, int next)
    {
        Span<byte> descriptor = table.Slice(index * 16, 16);
        BinaryPrimitives.WriteUInt64LittleEndian(descriptor, buffer.Address);
        BinaryPrimitives.WriteInt32LittleEndian(descriptor[8..], buffer.Length);
        BinaryPrimitives.WriteUInt16LittleEndian(descriptor[12..], (ushort)((next >= 0 ? 1 : 0) | (buffer.IsWritable ? 2 : 0)));
        BinaryPrimitives.WriteUInt16LittleEndian(descriptor[14..], (ushort)Math.Max(next, 0));
    }
}
