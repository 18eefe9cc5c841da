using System.Buffers.Binary;
using Tutti.Devices.Network;
using Tutti.Virtio.Network;
using static Tutti.Virtio.Network.VirtioNetLayout;

namespace Tutti.Virtio.Tests.Network;

/// <summary>A virtio card in a network that records, with its driver.</summary>
internal sealed class NetBench
{
    public const ulong Own = 0x525400123456;

    // Each buffer of the tests has a slot of its own.
    public const int SlotSize = 0x1_2000;
    private const ulong CommandSlot = TestDriver.Data;
    private const ulong TransmitSlot = TestDriver.Data + SlotSize;
    private const ulong ReceiveSlots = TestDriver.Data + (2 * SlotSize);

    public NetBench(ulong features = ulong.MaxValue, int queueSize = 16, ulong ringFeatures = VirtioFeatures.IndirectDesc, PacketOffloads? takes = null)
    {
        Network = takes is PacketOffloads some ? new FakeNetwork(Worker) { Takes = some } : new FakeNetwork(Worker);
        Device = new VirtioNet(Network, new MacAddress(Own));
        Driver = new TestDriver(Device, features & Device.DeviceFeatures, queueSize, ringFeatures);
        Worker.Run();
    }

    public ManualWorker Worker { get; } = new();

    public FakeNetwork Network { get; }

    public VirtioNet Device { get; }

    public TestDriver Driver { get; }

    public TestRing Receive => Driver[ReceiveQueue];

    public TestRing Transmit => Driver[TransmitQueue];

    public TestRing Control => Driver[ControlQueue];

    /// <summary>Offers a frame behind a header, both in one buffer.</summary>
    public void PostFrame(ReadOnlySpan<byte> header, ReadOnlySpan<byte> frame)
    {
        Span<byte> slot = Driver.Ram[(int)TransmitSlot..];
        header.CopyTo(slot);
        frame.CopyTo(slot[header.Length..]);
        Transmit.Post(new TestBuffer(TransmitSlot, header.Length + frame.Length, false));
    }

    public void SendFrame(ReadOnlySpan<byte> header, ReadOnlySpan<byte> frame)
    {
        PostFrame(header, frame);
        Transmit.Notify();
        Worker.Run();
    }

    /// <summary>Posts a buffer for frames in one of the slots.</summary>
    public void PostReceive(int slot, int length) => Receive.Post(new TestBuffer(ReceiveSlots + ((ulong)slot * SlotSize), length, true));

    public Span<byte> Received(int slot, int length) => Driver.Ram.Slice((int)ReceiveSlots + (slot * SlotSize), length);

    /// <summary>Has the card execute a command; gives the ack.</summary>
    public byte Command(byte commandClass, byte command, params ReadOnlySpan<byte> data)
    {
        Span<byte> slot = Driver.Ram[(int)CommandSlot..];
        slot[0] = commandClass;
        slot[1] = command;
        data.CopyTo(slot[2..]);
        ulong ack = CommandSlot + SlotSize - 1;
        Driver.Ram[(int)ack] = 0xEE;
        Control.Post(new TestBuffer(CommandSlot, 2, false), new TestBuffer(CommandSlot + 2, data.Length, false), new TestBuffer(ack, 1, true));
        Control.Notify();
        Worker.Run();
        Assert.True(Control.TryTake(out _, out int written));
        Assert.Equal(1, written);
        return Driver.Ram[(int)ack];
    }

    public static byte[] Frame(int length, ulong to = Own, int seed = 1)
    {
        byte[] frame = new byte[length];
        new Random(seed).NextBytes(frame);
        new MacAddress(to).Write(frame);
        return frame;
    }

    public static int BufferCount(ReadOnlySpan<byte> header) => BinaryPrimitives.ReadUInt16LittleEndian(header[HeaderNumBuffers..]);
}
