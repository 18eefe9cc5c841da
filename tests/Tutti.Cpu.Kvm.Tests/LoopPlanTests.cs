namespace Tutti.Cpu.Kvm.Tests;

/// <summary>The speed test's plan against hosts that are only figures: what an exit and an iteration take.</summary>
public sealed class LoopPlanTests
{
    private const long Millisecond = 1_000_000;

    [Theory]
    [InlineData(3_000, 0.4, 0.4)] // hardware
    [InlineData(3_000, 0.4, 0.8)] // a busy host
    [InlineData(80_000, 0.4, 0.4)] // nested virtualization
    [InlineData(1_000_000, 5, 5.2)] // an emulator of hardware virtualization
    [InlineData(200_000, 20, 22)]
    public void Loops_at_the_processors_speed_are_found_fast(long exitCost, double native, double guest)
    {
        SimulatedHost host = new(exitCost, guest);
        LoopSpeed speed = host.Measure(native);
        Assert.True(speed.IsHardware, speed.ToString());
        Assert.InRange(speed.GuestRate / (2e9 / guest), 0.7, 1.4);
        Assert.InRange(host.Total, 0, 300 * Millisecond);
    }

    [Fact]
    public void Hardware_takes_a_few_milliseconds()
    {
        SimulatedHost host = new(3_000, 0.4);
        Assert.True(host.Measure(0.4).IsHardware);
        Assert.InRange(host.Total, 0, 3 * Millisecond);
    }

    [Theory]
    [InlineData(20_000, 0.4, 1200)] // ring 0 emulated, one instruction at a time
    [InlineData(20_000, 0.4, 12_000)]
    [InlineData(3_000, 0.4, 20)] // ring 0 translated
    [InlineData(3_000, 0.4, 1.8)]
    public void Emulated_loops_are_found_slow_within_ten_milliseconds(long exitCost, double native, double guest)
    {
        SimulatedHost host = new(exitCost, guest);
        LoopSpeed speed = host.Measure(native);
        Assert.False(speed.IsHardware, speed.ToString());
        Assert.InRange(speed.GuestRate / (2e9 / guest), 0.7, 1.4);
        Assert.InRange(host.Total, 0, 11 * Millisecond);
    }

    [Fact]
    public void Dear_exits_do_not_hide_emulation_and_do_not_make_it_take_long()
    {
        SimulatedHost host = new(Millisecond, 1200);
        Assert.False(host.Measure(0.4).IsHardware);
        Assert.InRange(host.Total, 0, 100 * Millisecond);
    }

    [Fact]
    public void A_host_that_is_busy_with_something_else_now_and_then_is_still_fast()
    {
        // Every other loop is preempted for 4 ms.
        SimulatedHost host = new(3_000, 0.4) { Preempted = n => n % 2 == 1 };
        Assert.True(host.Measure(0.4).IsHardware);
    }

    [Fact]
    public void A_loop_that_was_broken_off_is_not_fast()
    {
        LoopPlan plan = new(0.4);
        plan.GiveUp(1_000 * Millisecond);
        Assert.Equal(0u, plan.Length);
        Assert.True(plan.IsGivenUp);
        Assert.Equal(2, plan.GuestRate);
        Assert.False(new LoopSpeed(5e9, 5e9, IsTimedOut: true).IsHardware);
    }

    /// <summary>Answers what a loop takes, and adds it up.</summary>
    private sealed class SimulatedHost(long exitCost, double nanosecondsPerIteration)
    {
        public long Total { get; private set; }

        public Func<int, bool> Preempted { get; init; } = _ => false;

        public LoopSpeed Measure(double native)
        {
            LoopPlan plan = new(native);
            for (int n = 0; plan.Length != 0; n++)
            {
                Assert.InRange(n, 0, 100);
                long time = exitCost + (long)(plan.Length * nanosecondsPerIteration) + (Preempted(n) ? 4 * Millisecond : 0);
                Total += time;
                plan.Record(time);
            }

            return new LoopSpeed(plan.GuestRate, 2e9 / native);
        }
    }
}
