using System.Text.Json;
using Tutti.Devices.Keyboard;

namespace Tutti.Devices.Tests;

public sealed class I8042Tests
{
    private readonly RecordingLine _irq1 = new();
    private readonly A20Gate _a20 = new();
    private readonly RecordingPower _power = new();
    private readonly I8042 _i8042;
    private readonly SystemControlPortA _portA;

    public I8042Tests()
    {
        _i8042 = new I8042(_irq1, _a20, _power);
        _portA = new SystemControlPortA(_a20, _power);
    }

    private int Status => _i8042.Command.In(0);

    private void Command(int value) => _i8042.Command.Out(0, value);

    private void Data(int value) => _i8042.Data.Out(0, value);

    private List<int> Drain()
    {
        List<int> bytes = [];
        while ((Status & 1) != 0)
        {
            bytes.Add(_i8042.Data.In(0));
        }

        return bytes;
    }

    [Fact]
    public void The_controller_tests_itself_and_keeps_its_configuration()
    {
        Command(0xAA);
        Assert.Equal([0x55], Drain());
        Command(0xAB);
        Assert.Equal([0x00], Drain());
        Command(0x60);
        Data(0x74);
        Command(0x20);
        Assert.Equal([0x74], Drain());
        Command(0xAE);
        Command(0x20);
        Assert.Equal([0x64], Drain());
    }

    [Fact]
    public void There_is_no_auxiliary_port()
    {
        Command(0xD3);
        Data(0x5A);
        Assert.Equal(0, Status & 0x20);
        Drain();
        Command(0xA9);
        Assert.DoesNotContain(Assert.Single(Drain()), new[] { 0x00, 0xFA, 0xFF });
        Command(0xA8);
        Command(0x20);
        Assert.Equal(0x20, Assert.Single(Drain()) & 0x20);
    }

    [Fact]
    public void The_keyboard_answers()
    {
        Data(0xFF);
        Assert.Equal([0xFA, 0xAA], Drain());
        Data(0xEE);
        Assert.Equal([0xEE], Drain());
        Data(0xF2);
        Assert.Equal([0xFA, 0xAB, 0x41], Drain());
        Data(0xED);
        Data(0x07);
        Assert.Equal([0xFA, 0xFA], Drain());
        Data(0xF0);
        Data(0x00);
        Assert.Equal([0xFA, 0xFA, 0x02], Drain());
        Data(0xF4);
        Assert.Equal([0xFA], Drain());
        Data(0x01);
        Assert.Equal([0xFE], Drain());
    }

    [Fact]
    public void Each_byte_raises_IRQ_1_when_the_configuration_says_so()
    {
        int before = _irq1.Edges;
        Data(0xFF);
        Assert.True(_irq1.Asserted);
        Drain();
        Assert.Equal(before + 2, _irq1.Edges);
        Assert.False(_irq1.Asserted);
        Command(0x60);
        Data(0x64);
        Data(0xFF);
        Assert.Equal(before + 2, _irq1.Edges);
    }

    [Fact]
    public void Resets_come_from_the_pulse_the_output_port_and_port_92()
    {
        Command(0xFF);
        Assert.Equal(0, _power.Resets);
        Command(0xFE);
        Assert.Equal(1, _power.Resets);
        Command(0xD1);
        Data(0xFE);
        Assert.Equal(2, _power.Resets);
        _portA.Out(0, 0x03);
        Assert.Equal(3, _power.Resets);
        _portA.Out(0, 0x03);
        Assert.Equal(3, _power.Resets);
    }

    [Fact]
    public void Both_A20_switches_move_one_gate()
    {
        Assert.True(_a20.IsOpen);
        Command(0xD1);
        Data(0xDD);
        Assert.False(_a20.IsOpen);
        Assert.Equal(0, _portA.In(0) & 2);
        _portA.Out(0, 2);
        Command(0xD0);
        Assert.Equal(2, Assert.Single(Drain()) & 2);
        Command(0xDD);
        Assert.False(_a20.IsOpen);
        Command(0xDF);
        Assert.True(_a20.IsOpen);
    }

    [Fact]
    public void A_guest_that_never_reads_cannot_fill_the_host()
    {
        for (int i = 0; i < 100_000; i++)
        {
            Data(0xFF);
        }

        Assert.Equal(16, Drain().Count);
    }

    [Fact]
    public void A_restored_controller_goes_on_where_the_saved_one_was()
    {
        Data(0xF2);
        _i8042.Data.In(0);
        Command(0x61);
        RecordingLine irq1 = new();
        I8042 copy = new(irq1, _a20, _power);
        copy.Restore(_i8042.Save());
        Assert.Equal(JsonSerializer.Serialize(_i8042.Save()), JsonSerializer.Serialize(copy.Save()));
        Assert.True(irq1.Asserted);
        copy.Data.Out(0, 0x99);
        Assert.Equal((0xAB, 0x41), (copy.Data.In(0), copy.Data.In(0)));
        copy.Command.Out(0, 0x21);
        Assert.Equal(0x99, copy.Data.In(0));
    }
}
