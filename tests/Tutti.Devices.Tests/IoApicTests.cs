using System.Buffers.Binary;
using System.Text.Json;
using Tutti.Devices.InterruptControllers;

namespace Tutti.Devices.Tests;

public sealed class IoApicTests
{
    private const uint Masked = 1 << 16, Level = 1 << 15, RemoteIrr = 1 << 14;

    private readonly ApicBus _bus = new();
    private readonly LocalApic[] _apics = new LocalApic[2];
    private readonly RecordingSignals[] _signals = [new(), new()];
    private readonly InterruptRouter _router;
    private readonly DualPic8259 _pic;
    private readonly IoApic _ioApic;

    public IoApicTests()
    {
        PcInterruptControllers controllers = new(_bus);
        (_pic, _ioApic) = (controllers.Pic, controllers.IoApic);
        _router = new InterruptRouter(controllers);
        TestClock clock = new();
        for (int i = 0; i < 2; i++)
        {
            _apics[i] = new LocalApic((uint)i, _bus, clock, _signals[i], isBootstrap: i == 0);
            _apics[i].WriteMmio(0xF0, [0xFF, 0x01, 0, 0]);
        }
    }

    private void Write(byte register, uint value) => Write(_ioApic, register, value);

    private static void Write(IoApic ioApic, byte register, uint value)
    {
        Span<byte> data = stackalloc byte[4];
        ioApic.WriteMmio(0, [register, 0, 0, 0]);
        BinaryPrimitives.WriteUInt32LittleEndian(data, value);
        ioApic.WriteMmio(0x10, data);
    }

    private uint Read(byte register)
    {
        Span<byte> data = stackalloc byte[4];
        _ioApic.WriteMmio(0, [register, 0, 0, 0]);
        _ioApic.ReadMmio(0x10, data);
        return BinaryPrimitives.ReadUInt32LittleEndian(data);
    }

    private void Route(int pin, uint low, uint destination)
    {
        Write((byte)(0x11 + (2 * pin)), destination << 24);
        Write((byte)(0x10 + (2 * pin)), low);
    }

    private static void EndOfInterrupt(LocalApic apic) => apic.WriteMmio(0xB0, new byte[4]);

    [Fact]
    public void It_shows_its_version_its_pins_and_masked_entries()
    {
        Assert.Equal(0x0017_0020u, Read(1));
        for (int pin = 0; pin < 24; pin++)
        {
            Assert.Equal(Masked, Read((byte)(0x10 + (2 * pin))));
        }

        Write(0, 0x0F00_0000);
        Assert.Equal(0x0F00_0000u, Read(0));
        Assert.Equal(0u, Read(0x40));
    }

    [Fact]
    public void An_edge_interrupts_once_the_processor_that_it_is_routed_to()
    {
        Route(4, 0x34, 1);
        IInterruptLine line = _router.GetLine(4);
        line.Set(true);
        Assert.Equal(-1, _apics[0].AcknowledgeInterrupt());
        Assert.Equal(0x34, _apics[1].AcknowledgeInterrupt());
        EndOfInterrupt(_apics[1]);
        Assert.Equal(-1, _apics[1].AcknowledgeInterrupt());
        line.Set(false);
        line.Set(true);
        Assert.Equal(0x34, _apics[1].AcknowledgeInterrupt());
    }

    [Fact]
    public void IRQ_0_is_pin_2()
    {
        Route(2, 0x30, 0);
        _router.GetLine(0).Set(true);
        Assert.Equal(0x30, _apics[0].AcknowledgeInterrupt());
        Assert.Throws<ArgumentOutOfRangeException>(() => _router.GetLine(2));
        Assert.Throws<ArgumentOutOfRangeException>(() => _router.GetLine(24));
    }

    [Fact]
    public void A_level_pin_interrupts_until_it_falls()
    {
        Route(9, Level | 0x49, 0);
        IInterruptLine line = _router.GetLine(9);
        line.Set(true);
        Assert.Equal(0x49, _apics[0].AcknowledgeInterrupt());
        Assert.Equal(RemoteIrr, Read(0x10 + 18) & RemoteIrr);
        EndOfInterrupt(_apics[0]);
        Assert.Equal(0x49, _apics[0].AcknowledgeInterrupt());
        line.Set(false);
        EndOfInterrupt(_apics[0]);
        Assert.Equal(-1, _apics[0].AcknowledgeInterrupt());
        Assert.Equal(0u, Read(0x10 + 18) & RemoteIrr);
    }

    [Fact]
    public void A_level_pin_that_falls_and_rises_before_EOI_interrupts_once()
    {
        Route(9, Level | 0x49, 0);
        IInterruptLine line = _router.GetLine(9);
        line.Set(true);
        Assert.Equal(0x49, _apics[0].AcknowledgeInterrupt());
        line.Set(false);
        line.Set(true);
        line.Set(false);
        EndOfInterrupt(_apics[0]);
        Assert.Equal(-1, _apics[0].AcknowledgeInterrupt());
    }

    [Fact]
    public void Masked_levels_wait_masked_edges_are_lost()
    {
        Route(9, Masked | Level | 0x49, 0);
        Route(4, Masked | 0x34, 0);
        _router.GetLine(9).Set(true);
        _router.GetLine(4).Set(true);
        Route(4, 0x34, 0);
        Assert.Equal(-1, _apics[0].AcknowledgeInterrupt());
        Route(9, Level | 0x49, 0);
        Assert.Equal(0x49, _apics[0].AcknowledgeInterrupt());
    }

    [Fact]
    public void The_EOI_register_and_the_switch_to_edge_clear_remote_IRR()
    {
        Route(9, Level | 0x49, 0);
        IInterruptLine line = _router.GetLine(9);
        line.Set(true);
        line.Set(false);
        _ioApic.WriteMmio(0x40, [0x49, 0, 0, 0]);
        Assert.Equal(0u, Read(0x10 + 18) & RemoteIrr);
        line.Set(true);
        Assert.Equal(RemoteIrr, Read(0x10 + 18) & RemoteIrr);
        line.Set(false);
        Route(9, Masked | 0x49, 0);
        Assert.Equal(0u, Read(0x10 + 18) & RemoteIrr);
    }

    [Fact]
    public void Devices_that_share_an_IRQ_are_ORed()
    {
        Route(4, Level | 0x44, 0);
        IInterruptLine first = _router.GetLine(4);
        IInterruptLine second = _router.GetLine(4);
        first.Set(true);
        second.Set(true);
        Assert.Equal(0x44, _apics[0].AcknowledgeInterrupt());
        first.Set(false);
        EndOfInterrupt(_apics[0]);
        Assert.Equal(0x44, _apics[0].AcknowledgeInterrupt());
        second.Set(false);
        EndOfInterrupt(_apics[0]);
        Assert.Equal(-1, _apics[0].AcknowledgeInterrupt());
    }

    [Fact]
    public void NMI_and_ExtINT_entries_act_on_the_processor()
    {
        Route(5, 0x400, 1);
        _router.GetLine(5).Set(true);
        Assert.Equal(1, _signals[1].Nmis);

        Route(0, 0x700, 0);
        PicTests.InitialiseLikeLinux(_pic);
        _pic.Master.Out(1, 0xF7);
        _router.GetLine(3).Set(true);
        Assert.Equal(0x33, _apics[0].AcknowledgeInterrupt());
    }

    [Fact]
    public void MSIs_reach_physical_and_logical_destinations()
    {
        _bus.SendMsi(0xFEE0_1000, 0x51);
        Assert.Equal((-1, 0x51), (_apics[0].AcknowledgeInterrupt(), _apics[1].AcknowledgeInterrupt()));
        _apics[0].WriteMmio(0xD0, [0, 0, 0, 0x02]);
        _bus.SendMsi(0xFEE0_200C, 0x0161);
        Assert.Equal((0x61, -1), (_apics[0].AcknowledgeInterrupt(), _apics[1].AcknowledgeInterrupt()));
    }

    [Fact]
    public void A_restored_controller_goes_on_where_the_saved_one_was()
    {
        Route(9, Level | 0x49, 0);
        _router.GetLine(9).Set(true);

        ApicBus bus = new();
        PcInterruptControllers controllers = new(bus);
        (DualPic8259 pic, IoApic copy) = (controllers.Pic, controllers.IoApic);
        InterruptRouter router = new(controllers);
        LocalApic apic = new(0, bus, new TestClock(), new RecordingSignals(), isBootstrap: true);
        IInterruptLine line = router.GetLine(9);
        copy.Restore(_ioApic.Save());
        pic.Restore(_pic.Save());
        router.Restore(_router.Save());
        apic.Restore(_apics[0].Save());
        Assert.Equal(JsonSerializer.Serialize(_ioApic.Save()), JsonSerializer.Serialize(copy.Save()));
        line.Set(true);
        Assert.Equal(0x49, apic.AcknowledgeInterrupt());
        line.Set(false);
        EndOfInterrupt(apic);
        Assert.Equal(-1, apic.AcknowledgeInterrupt());
    }
}
