using System.Text.Json;
using Tutti.Devices.Timers;

namespace Tutti.Devices.Tests;

public sealed class CmosRtcTests
{
    private const byte RegisterA = 0x0A, RegisterB = 0x0B, RegisterC = 0x0C, RegisterD = 0x0D;

    private readonly TestClock _clock = new();
    private readonly RecordingLine _irq8 = new();
    private readonly CmosRtc _rtc;

    public CmosRtcTests()
    {
        _rtc = new CmosRtc(_clock, _irq8, 3UL << 30, 1UL << 30);
    }

    private byte Read(int index) => Read(_rtc, index);

    private static byte Read(CmosRtc rtc, int index)
    {
        rtc.Out(0, index);
        return rtc.In(1);
    }

    private void Write(int index, int value)
    {
        _rtc.Out(0, 0x80 | index);
        _rtc.Out(1, value);
    }

    private byte[] ReadTime() => [Read(0x32), Read(9), Read(8), Read(7), Read(6), Read(4), Read(2), Read(0)];

    [Fact]
    public void The_time_is_BCD_and_24_hours_and_follows_the_guest_clock()
    {
        Assert.Equal([0x20, 0x26, 0x02, 0x28, 0x07, 0x23, 0x59, 0x50], ReadTime());
        _clock.Advance(11_000_000_000);
        Assert.Equal([0x20, 0x26, 0x03, 0x01, 0x01, 0x00, 0x00, 0x01], ReadTime());
        Assert.Equal(0x80, Read(RegisterD));
    }

    [Fact]
    public void Binary_and_12_hours_on_request()
    {
        Write(RegisterB, 0x04);
        Assert.Equal((59, 0x80 | 11), (Read(2), Read(4)));
        _clock.Advance(10_000_000_000);
        Assert.Equal(12, Read(4));
        Write(RegisterB, 0x00);
        Assert.Equal(0x12, Read(4));
    }

    [Fact]
    public void The_guest_can_set_the_time()
    {
        Write(RegisterB, 0x82);
        Write(0x32, 0x19);
        Write(9, 0x99);
        Write(8, 0x12);
        Write(7, 0x31);
        Write(4, 0x23);
        Write(2, 0x59);
        Write(0, 0x59);
        _clock.Advance(5_000_000_000);
        Assert.Equal(0x59, Read(0));
        Write(RegisterB, 0x02);
        Assert.Equal([0x19, 0x99, 0x12, 0x31, 0x06, 0x23, 0x59, 0x59], ReadTime());
        _clock.Advance(1_000_000_000);
        Assert.Equal([0x20, 0x00, 0x01, 0x01, 0x07, 0x00, 0x00, 0x00], ReadTime());
    }

    [Fact]
    public void Impossible_times_become_possible_ones()
    {
        Write(RegisterB, 0x82);
        Write(0x32, 0xFF);
        Write(8, 0x00);
        Write(7, 0x99);
        Write(4, 0x77);
        Write(RegisterB, 0x02);
        Assert.Equal((0x99, 0x01, 0x31, 0x23), (Read(0x32), Read(8), Read(7), Read(4)));
    }

    [Fact]
    public void The_update_in_progress_bit_precedes_the_change_of_the_second()
    {
        Assert.Equal(0x26, Read(RegisterA));
        _clock.Advance(999_800_000);
        Assert.Equal(0xA6, Read(RegisterA));
        Assert.Equal(0x50, Read(0));
        _clock.Advance(200_000);
        Assert.Equal(0x26, Read(RegisterA));
        Assert.Equal(0x51, Read(0));
    }

    [Fact]
    public void The_periodic_interrupt_waits_for_register_C()
    {
        Read(RegisterC);
        Write(RegisterB, 0x42);
        int fired = 0;
        for (int i = 0; i < 1024; i++)
        {
            _clock.Advance(976_563);
            fired += _irq8.Asserted && Read(RegisterC) == 0xC0 ? 1 : 0;
            Assert.False(_irq8.Asserted);
        }

        Assert.InRange(fired, 1023, 1024);
        _clock.Advance(10_000_000_000);
        Assert.InRange(_clock.Callbacks, 1, 1025);
    }

    [Fact]
    public void The_update_interrupt_comes_each_second()
    {
        Read(RegisterC);
        Write(RegisterB, 0x12);
        Write(RegisterA, 0x20);
        _clock.Advance(999_999_000);
        Assert.False(_irq8.Asserted);
        _clock.Advance(1_000);
        Assert.True(_irq8.Asserted);
        Assert.Equal(0x90, Read(RegisterC));
        Assert.Equal(0x00, Read(RegisterC));
        _clock.Advance(1_000_000_000);
        Assert.True(_irq8.Asserted);
    }

    [Fact]
    public void The_alarm_comes_at_its_time()
    {
        Write(RegisterA, 0x20);
        Write(1, 0x05);
        Write(3, 0x02);
        Write(5, 0x00);
        Read(RegisterC);
        Write(RegisterB, 0x22);
        _clock.Advance(134_000_000_000);
        Assert.False(_irq8.Asserted);
        _clock.Advance(1_000_000_000);
        Assert.True(_irq8.Asserted);
        Assert.Equal([0x20, 0x26, 0x03, 0x01, 0x01, 0x00, 0x02, 0x05], ReadTime());
        Assert.Equal(0xB0, Read(RegisterC));
    }

    [Fact]
    public void The_next_alarm_is_the_one_that_counting_seconds_finds()
    {
        Random random = new(1);
        RtcFormat format = new(Binary: true, Has24Hours: true);
        for (int i = 0; i < 500; i++)
        {
            byte hour = random.Next(3) == 0 ? (byte)0xFF : (byte)random.Next(24);
            byte minute = random.Next(3) == 0 ? (byte)0xC0 : (byte)random.Next(60);
            byte second = random.Next(3) == 0 ? (byte)0xC1 : (byte)random.Next(60);
            long after = new DateTime(2026, 1, 1).AddSeconds(random.Next(86_400)).AddTicks(random.Next(2) * 5_000_000).Ticks;
            DateTime expected = new DateTime(after - (after % TimeSpan.TicksPerSecond)).AddSeconds(1);
            while ((hour < 0xC0 && expected.Hour != hour) || (minute < 0xC0 && expected.Minute != minute)
                || (second < 0xC0 && expected.Second != second))
            {
                expected = expected.AddSeconds(1);
            }

            Assert.Equal(expected, new DateTime(format.NextAlarm(after, hour, minute, second)));
        }

        Assert.Equal(-1, format.NextAlarm(0, 24, 0, 0));
    }

    [Fact]
    public void The_memory_sizes_are_there_and_the_rest_is_memory()
    {
        Assert.Equal(640, Read(0x15) | (Read(0x16) << 8));
        Assert.Equal(0xFFFF, Read(0x17) | (Read(0x18) << 8));
        Assert.Equal((3072 - 16) * 16, Read(0x34) | (Read(0x35) << 8));
        Assert.Equal(1024 * 16, Read(0x5B) | (Read(0x5C) << 8) | (Read(0x5D) << 16));
        Write(0x0F, 0x5A);
        Write(0x7F, 0xA5);
        Assert.Equal((0x5A, 0xA5), (Read(0x0F), Read(0x7F)));
    }

    [Fact]
    public void A_restored_clock_goes_on_where_the_saved_one_was()
    {
        Write(9, 0x30);
        Read(RegisterC);
        Write(RegisterB, 0x12);
        _clock.Advance(600_000_000);

        TestClock clock = new();
        clock.SetTo(_clock.Nanoseconds);
        RecordingLine irq8 = new();
        CmosRtc copy = new(clock, irq8);
        copy.Restore(_rtc.Save());
        Assert.Equal(JsonSerializer.Serialize(_rtc.Save()), JsonSerializer.Serialize(copy.Save()));
        Assert.False(irq8.Asserted);
        clock.Advance(400_000_000);
        Assert.True(irq8.Asserted);
        Assert.Equal((0x30, 0x51), (Read(copy, 9), Read(copy, 0)));
    }
}
