using System.Text.Json;
using Tutti.Devices.Timers;

namespace Tutti.Devices.Tests;

public sealed class Pit8254Tests
{
    private const int Control = 3;

    private readonly TestClock _clock = new();
    private readonly RecordingLine _irq0 = new();
    private readonly Pit8254 _pit;
    private readonly SystemControlPortB _portB;

    public Pit8254Tests()
    {
        _pit = new Pit8254(_clock, _irq0);
        _portB = new SystemControlPortB(_clock, _pit);
    }

    /// <summary>Moves the clock by whole ticks of 1.193182 MHz, rounding up.</summary>
    private void Ticks(long ticks)
    {
        ClockRate rate = new(1_193_182);
        _clock.Advance(rate.ToNanoseconds(rate.ToTicks(_clock.Nanoseconds) + ticks) - _clock.Nanoseconds);
    }

    private void Program(int counter, int control, int count)
    {
        _pit.Out(Control, (counter << 6) | control);
        _pit.Out(counter, count & 0xFF);
        _pit.Out(counter, count >> 8);
    }

    private int ReadLatched(int counter)
    {
        _pit.Out(Control, counter << 6);
        return _pit.In(counter) | (_pit.In(counter) << 8);
    }

    [Theory]
    [InlineData(0x34)]
    [InlineData(0x36)]
    public void A_periodic_counter_0_interrupts_at_its_rate(int control)
    {
        Program(0, control, 11932);
        int before = _irq0.Edges;
        _clock.Advance(1_000_000_000);
        Assert.InRange(_irq0.Edges - before, 99, 100);
    }

    [Fact]
    public void Mode_2_counts_down_and_reloads()
    {
        Program(0, 0x34, 1000);
        Ticks(300);
        Assert.Equal(700, ReadLatched(0));
        Ticks(800);
        Assert.Equal(900, ReadLatched(0));
    }

    [Fact]
    public void Mode_3_counts_by_twos_and_is_high_for_the_first_half()
    {
        _portB.Out(0, 1);
        Program(2, 0x36, 1000);
        Ticks(100);
        Assert.Equal(800, ReadLatched(2));
        Assert.Equal(0x20, _portB.In(0) & 0x20);
        Ticks(500);
        Assert.Equal(800, ReadLatched(2));
        Assert.Equal(0, _portB.In(0) & 0x20);
        Ticks(400);
        Assert.Equal(0x20, _portB.In(0) & 0x20);
    }

    [Fact]
    public void Linux_calibration_waits_for_counter_2_in_mode_0_through_port_61()
    {
        // 50 ms, gate on, speaker off.
        _portB.Out(0, (_portB.In(0) & ~0x02) | 0x01);
        Program(2, 0x30, 59659);
        Assert.Equal(0, _portB.In(0) & 0x20);
        _clock.Advance(49_990_000);
        Assert.Equal(0, _portB.In(0) & 0x20);
        _clock.Advance(20_000);
        Assert.Equal(0x20, _portB.In(0) & 0x20);
    }

    [Fact]
    public void Linux_quick_calibration_sees_the_high_byte_count_down()
    {
        _portB.Out(0, 1);
        Program(2, 0x30, 0xFFFF);
        Ticks(1);
        _pit.In(2);
        Assert.Equal(0xFF, _pit.In(2));
        Ticks(256);
        _pit.In(2);
        Assert.Equal(0xFE, _pit.In(2));
    }

    [Fact]
    public void A_one_shot_of_mode_0_or_4_interrupts_once()
    {
        foreach (int control in (int[])[0x30, 0x38])
        {
            Program(0, control, 1193);
            int before = _irq0.Edges;
            _clock.Advance(990_000);
            Assert.Equal(before, _irq0.Edges);
            _clock.Advance(20_000);
            Assert.Equal(before + 1, _irq0.Edges);
            _clock.Advance(1_000_000_000);
            Assert.Equal(before + 1, _irq0.Edges);
        }
    }

    [Fact]
    public void The_gate_stops_mode_0_and_lets_it_go_on()
    {
        _portB.Out(0, 1);
        Program(2, 0x30, 1000);
        Ticks(400);
        _portB.Out(0, 0);
        Ticks(5000);
        Assert.Equal(600, ReadLatched(2));
        _portB.Out(0, 1);
        Ticks(599);
        Assert.Equal(0, _portB.In(0) & 0x20);
        Ticks(2);
        Assert.Equal(0x20, _portB.In(0) & 0x20);
    }

    [Fact]
    public void Modes_1_and_5_wait_for_the_gate_and_start_again_with_it()
    {
        Program(2, 0x32, 1000);
        Ticks(2000);
        Assert.Equal(0x20, _portB.In(0) & 0x20);
        _portB.Out(0, 1);
        Ticks(500);
        Assert.Equal(0, _portB.In(0) & 0x20);
        _portB.Out(0, 0);
        _portB.Out(0, 1);
        Ticks(900);
        Assert.Equal(0, _portB.In(0) & 0x20);
        Ticks(100);
        Assert.Equal(0x20, _portB.In(0) & 0x20);

        _portB.Out(0, 0);
        Program(2, 0x3A, 100);
        _portB.Out(0, 1);
        Ticks(100);
        Assert.Equal(0, _portB.In(0) & 0x20);
        Ticks(1);
        Assert.Equal(0x20, _portB.In(0) & 0x20);
    }

    [Fact]
    public void A_new_count_takes_over_at_the_end_of_the_period()
    {
        Program(0, 0x34, 1000);
        Ticks(5500);
        _pit.Out(0, 300 & 0xFF);
        _pit.Out(0, 300 >> 8);
        Assert.Equal(500, ReadLatched(0));
        Ticks(499);
        Assert.Equal(1, ReadLatched(0));
        Ticks(51);
        Assert.Equal(250, ReadLatched(0));
    }

    [Fact]
    public void Read_back_latches_status_and_count()
    {
        Program(0, 0x34, 1000);
        Ticks(100);
        _pit.Out(Control, 0xC2);
        Ticks(100);
        Assert.Equal(0xB4, _pit.In(0));
        Assert.Equal(900, _pit.In(0) | (_pit.In(0) << 8));
        Assert.Equal(800, ReadLatched(0));
        _pit.Out(Control, 0x36);
        _pit.Out(Control, 0xE2);
        Assert.Equal(0xF6, _pit.In(0));
    }

    [Fact]
    public void BCD_counts_in_decimal()
    {
        Program(0, 0x35, 0x1000);
        Ticks(1);
        Assert.Equal(0x0999, ReadLatched(0));
        Program(0, 0x31, 0);
        Ticks(1);
        Assert.Equal(0x9999, ReadLatched(0));
    }

    [Fact]
    public void Single_byte_access_writes_one_half_of_the_count()
    {
        _pit.Out(Control, 0x14);
        _pit.Out(0, 100);
        Ticks(1);
        Assert.Equal(99, _pit.In(0));
        _pit.Out(Control, 0x24);
        _pit.Out(0, 0x10);
        Ticks(1);
        Assert.Equal(0x0F, _pit.In(0));
    }

    [Fact]
    public void The_shortest_period_and_a_long_pause_cost_the_host_little()
    {
        Program(0, 0x34, 1);
        _clock.Advance(1_000_000_000);
        Assert.InRange(_clock.Callbacks, 1_000, 50_001);
        int before = _clock.Callbacks;
        _clock.Jump(86_400_000_000_000);
        Assert.Equal(before + 1, _clock.Callbacks);
    }

    [Fact]
    public void The_refresh_bit_toggles()
    {
        int first = _portB.In(0) & 0x10;
        _clock.Advance(15_085);
        Assert.NotEqual(first, _portB.In(0) & 0x10);
    }

    [Fact]
    public void A_restored_timer_goes_on_where_the_saved_one_was()
    {
        Program(0, 0x34, 1193);
        Program(2, 0x30, 5000);
        _portB.Out(0, 1);
        _clock.Advance(1_500_000);

        TestClock clock = new();
        clock.SetTo(_clock.Nanoseconds);
        RecordingLine irq0 = new();
        Pit8254 copy = new(clock, irq0);
        SystemControlPortB portB = new(clock, copy);
        copy.Restore(_pit.Save());
        portB.Restore(_portB.Save());
        Assert.Equal(JsonSerializer.Serialize(_pit.Save()), JsonSerializer.Serialize(copy.Save()));
        int before = irq0.Edges;
        int originalBefore = _irq0.Edges;
        clock.Advance(10_000_000);
        _clock.Advance(10_000_000);
        Assert.Equal(_irq0.Edges - originalBefore, irq0.Edges - before);
        Assert.InRange(irq0.Edges - before, 9, 11);
        Assert.Equal(_portB.In(0), portB.In(0));
    }
}
