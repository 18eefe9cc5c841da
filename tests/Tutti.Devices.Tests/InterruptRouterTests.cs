using Tutti.Cpu;
using Tutti.Devices.InterruptControllers;

namespace Tutti.Devices.Tests;

public sealed class InterruptRouterTests
{
    private readonly RecordingControllers _controllers = new();
    private readonly InterruptRouter _router;

    public InterruptRouterTests() => _router = new InterruptRouter(_controllers);

    [Fact]
    public void Devices_that_share_an_IRQ_are_wired_OR()
    {
        IInterruptLine first = _router.GetLine(4);
        IInterruptLine second = _router.GetLine(4);
        IInterruptLine other = _router.GetLine(3);
        first.Set(true);
        second.Set(true);
        second.Set(true);
        first.Set(false);
        other.Set(true);
        second.Set(false);
        second.Set(false);
        Assert.Equal([(4, true), (3, true), (4, false)], _controllers.Driven);
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(2)]
    [InlineData(24)]
    public void There_is_no_line_to_the_cascade_or_beyond_the_last_pin(int irq)
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => _router.GetLine(irq));
        Assert.Throws<ArgumentOutOfRangeException>(() => new PcInterruptControllers(new ApicBus()).SetLine(irq, true));
    }

    [Fact]
    public void Restored_lines_drive_nothing_until_the_last_device_lets_go()
    {
        _router.GetLine(4).Set(true);
        _router.GetLine(4).Set(true);
        RecordingControllers controllers = new();
        InterruptRouter copy = new(controllers);
        IInterruptLine first = copy.GetLine(4);
        IInterruptLine second = copy.GetLine(4);
        copy.Restore(_router.Save());
        first.Set(true);
        first.Set(false);
        Assert.Empty(controllers.Driven);
        second.Set(false);
        Assert.Equal([(4, false)], controllers.Driven);
    }

    [Fact]
    public void A_disconnected_router_drives_nothing()
    {
        IInterruptLine line = _router.GetLine(4);
        line.Set(true);
        _router.Disconnect();
        line.Set(false);
        Assert.Equal([(4, true)], _controllers.Driven);
        Assert.Equal([false], _router.Save().Lines);
    }

    [Fact]
    public void The_interval_timer_drives_pin_2_of_the_IO_APIC_and_input_0_of_the_8259()
    {
        PcInterruptControllers controllers = new(new ApicBus());
        controllers.SetLine(0, true);
        controllers.SetLine(10, true);
        controllers.SetLine(20, true);
        Assert.Equal(1u << 2 | 1u << 10 | 1u << 20, controllers.IoApic.Save().Pins & ~1u);
        Assert.Equal(1, controllers.Pic.Save().Master.Lines & 1);
        Assert.Equal(1 << 2, controllers.Pic.Save().Slave.Lines);
        controllers.SetLine(0, false);
        Assert.Equal(1u << 10 | 1u << 20, controllers.IoApic.Save().Pins & ~1u);
    }

    private sealed class RecordingControllers : IInterruptControllers
    {
        public List<(int Irq, bool Asserted)> Driven { get; } = [];

        public void SetLine(int irq, bool asserted) => Driven.Add((irq, asserted));

        public void SignalMsi(ulong address, uint data) => throw new NotSupportedException();
    }
}
