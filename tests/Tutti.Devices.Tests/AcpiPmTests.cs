using System.Buffers.Binary;
using Tutti.Devices.Acpi;

namespace Tutti.Devices.Tests;

public sealed class AcpiPmTests
{
    private const int Pm1Status = 0, Pm1Enable = 2, Pm1Control = 4, PmTimer = 8, Gpe0Status = 0x20, Gpe0Enable = 0x22;

    private readonly TestClock _clock = new();
    private readonly RecordingLine _sci = new();
    private readonly RecordingPower _power = new();
    private readonly AcpiPm _pm;

    public AcpiPmTests()
    {
        _pm = new AcpiPm(_clock, _sci, _power);
    }

    private ushort Read16(int offset)
    {
        Span<byte> data = stackalloc byte[2];
        _pm.ReadPort((ushort)offset, data);
        return BinaryPrimitives.ReadUInt16LittleEndian(data);
    }

    private uint ReadTimer()
    {
        Span<byte> data = stackalloc byte[4];
        _pm.ReadPort(PmTimer, data);
        return BinaryPrimitives.ReadUInt32LittleEndian(data);
    }

    private void Write16(int offset, int value) => _pm.WritePort((ushort)offset, [(byte)value, (byte)(value >> 8)]);

    [Fact]
    public void The_timer_runs_at_3_579545_MHz_and_wraps_at_32_bits()
    {
        Assert.Equal(0u, ReadTimer());
        _clock.Advance(1_000_000_000);
        Assert.Equal(3_579_545u, ReadTimer());
        _clock.Jump(1_200_000_000_000);
        Assert.Equal(unchecked((uint)(1201L * 3_579_545)), ReadTimer());
    }

    [Fact]
    public void The_power_button_raises_the_SCI_until_the_guest_clears_it()
    {
        _pm.PressPowerButton();
        Assert.False(_sci.Asserted);
        Write16(Pm1Enable, 0x0100);
        Assert.True(_sci.Asserted);
        Assert.Equal(0x0100, Read16(Pm1Status));
        Write16(Pm1Status, 0x0100);
        Assert.False(_sci.Asserted);
        Assert.Equal(0, Read16(Pm1Status));
    }

    [Fact]
    public void General_purpose_events_raise_the_SCI_when_enabled()
    {
        _pm.RaiseGpe(3);
        Assert.False(_sci.Asserted);
        Write16(Gpe0Enable, 0x0008);
        Assert.True(_sci.Asserted);
        Write16(Gpe0Status, 0x0008);
        Assert.False(_sci.Asserted);
    }

    [Fact]
    public void The_timer_carry_raises_the_SCI()
    {
        Write16(Pm1Enable, 0x0001);
        _clock.Advance(599_900_000_000);
        Assert.False(_sci.Asserted);
        _clock.Advance(100_000_000);
        Assert.True(_sci.Asserted);
        Write16(Pm1Status, 0x0001);
        Assert.False(_sci.Asserted);
    }

    [Fact]
    public void Sleep_type_5_powers_off_and_ACPI_mode_stays_on()
    {
        Assert.Equal(1, Read16(Pm1Control));
        Write16(Pm1Control, 5 << 10);
        Write16(Pm1Control, (1 << 10) | (1 << 13));
        Assert.Equal(0, _power.PowerOffs);
        Write16(Pm1Control, (5 << 10) | (1 << 13));
        Assert.Equal(1, _power.PowerOffs);
        Assert.Equal((5 << 10) | 1, Read16(Pm1Control));
    }

    [Fact]
    public void The_reset_register_resets_on_the_rising_bit()
    {
        ResetControl reset = new(_power);
        reset.Out(0, 0x02);
        Assert.Equal(0, _power.Resets);
        reset.Out(0, AcpiPmPorts.ResetValue);
        Assert.Equal(1, _power.Resets);
        reset.Out(0, 0x06);
        Assert.Equal(1, _power.Resets);
        Assert.Equal(0x06, reset.In(0));
    }

    [Fact]
    public void Restored_hardware_goes_on_where_the_saved_one_was()
    {
        Write16(Pm1Enable, 0x0101);
        _pm.PressPowerButton();
        TestClock clock = new();
        RecordingLine sci = new();
        AcpiPm copy = new(clock, sci, _power);
        copy.Restore(_pm.Save());
        Assert.Equal(_pm.Save(), copy.Save());
        Assert.True(sci.Asserted);
        copy.WritePort(Pm1Status, [0x00, 0x01]);
        Assert.False(sci.Asserted);
        clock.Advance(600_000_000_000);
        Assert.True(sci.Asserted);
    }
}
