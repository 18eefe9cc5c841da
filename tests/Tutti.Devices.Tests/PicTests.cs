using System.Text.Json;
using Tutti.Devices.InterruptControllers;

namespace Tutti.Devices.Tests;

public sealed class PicTests
{
    private readonly RecordingLine _intr = new();
    private readonly DualPic8259 _pic;

    public PicTests()
    {
        _pic = new DualPic8259(_intr);
        InitialiseLikeLinux(_pic);
        _pic.Master.Out(1, 0);
        _pic.Slave.Out(1, 0);
    }

    internal static void InitialiseLikeLinux(DualPic8259 pic, byte icw4 = 0x01)
    {
        pic.Master.Out(1, 0xFF);
        pic.Master.Out(0, 0x11);
        pic.Master.Out(1, 0x30);
        pic.Master.Out(1, 0x04);
        pic.Master.Out(1, icw4);
        pic.Slave.Out(0, 0x11);
        pic.Slave.Out(1, 0x38);
        pic.Slave.Out(1, 0x02);
        pic.Slave.Out(1, icw4 & 0x03);
        pic.Master.Out(1, 0xFF);
        pic.Slave.Out(1, 0xFF);
    }

    [Fact]
    public void Linux_probe_reads_back_the_mask()
    {
        _pic.Slave.Out(1, 0xFF);
        _pic.Master.Out(1, 0xFB);
        Assert.Equal((0xFB, 0xFF), (_pic.Master.In(1), _pic.Slave.In(1)));
    }

    [Fact]
    public void An_interrupt_is_taken_into_service_and_ended()
    {
        _pic.SetInput(4, true);
        Assert.True(_intr.Asserted);
        Assert.Equal(0x34, _pic.Acknowledge());
        Assert.False(_intr.Asserted);
        _pic.Master.Out(0, 0x0B);
        Assert.Equal(0x10, _pic.Master.In(0));
        _pic.SetInput(4, false);
        _pic.SetInput(4, true);
        Assert.False(_intr.Asserted);
        _pic.Master.Out(0, 0x20);
        Assert.True(_intr.Asserted);
    }

    [Fact]
    public void Slave_interrupts_come_through_input_2()
    {
        _pic.SetInput(14, true);
        Assert.Equal(0x3E, _pic.Acknowledge());
        _pic.SetInput(3, true);
        Assert.False(_intr.Asserted);
        _pic.Slave.Out(0, 0x66);
        _pic.Master.Out(0, 0x62);
        Assert.Equal(0x33, _pic.Acknowledge());
    }

    [Fact]
    public void Higher_priority_comes_first_and_interrupts_lower_ones()
    {
        _pic.SetInput(6, true);
        _pic.SetInput(1, true);
        Assert.Equal(0x31, _pic.Acknowledge());
        _pic.SetInput(0, true);
        Assert.Equal(0x30, _pic.Acknowledge());
        Assert.False(_intr.Asserted);
        _pic.Master.Out(0, 0x20);
        _pic.Master.Out(0, 0x20);
        Assert.Equal(0x36, _pic.Acknowledge());
    }

    [Fact]
    public void A_withdrawn_request_becomes_spurious_and_is_not_in_service()
    {
        _pic.SetInput(5, true);
        _pic.SetInput(5, false);
        Assert.Equal(0x37, _pic.Acknowledge());
        _pic.Master.Out(0, 0x0B);
        Assert.Equal(0, _pic.Master.In(0));
    }

    [Fact]
    public void Level_inputs_ask_again_until_they_fall()
    {
        _pic.Elcr.Out(1, 0x08);
        Assert.Equal(0x08, _pic.Elcr.In(1));
        _pic.SetInput(11, true);
        Assert.Equal(0x3B, _pic.Acknowledge());
        _pic.Slave.Out(0, 0x20);
        _pic.Master.Out(0, 0x20);
        Assert.True(_intr.Asserted);
        _pic.SetInput(11, false);
        Assert.False(_intr.Asserted);
    }

    [Fact]
    public void The_ELCR_refuses_the_timer_keyboard_cascade_clock_and_coprocessor()
    {
        _pic.Elcr.Out(0, 0xFF);
        _pic.Elcr.Out(1, 0xFF);
        Assert.Equal((0xF8, 0xDE), (_pic.Elcr.In(0), _pic.Elcr.In(1)));
    }

    [Fact]
    public void Automatic_EOI_leaves_nothing_in_service()
    {
        InitialiseLikeLinux(_pic, icw4: 0x03);
        _pic.Master.Out(1, 0);
        _pic.SetInput(3, true);
        Assert.Equal(0x33, _pic.Acknowledge());
        _pic.Master.Out(0, 0x0B);
        Assert.Equal(0, _pic.Master.In(0));
    }

    [Fact]
    public void Special_fully_nested_mode_lets_the_slave_interrupt_itself()
    {
        _pic.SetInput(14, true);
        Assert.Equal(0x3E, _pic.Acknowledge());
        _pic.SetInput(8, true);
        Assert.False(_intr.Asserted);

        InitialiseLikeLinux(_pic, icw4: 0x11);
        _pic.Master.Out(1, 0);
        _pic.Slave.Out(1, 0);
        _pic.SetInput(14, false);
        _pic.SetInput(8, false);
        _pic.SetInput(14, true);
        Assert.Equal(0x3E, _pic.Acknowledge());
        _pic.SetInput(8, true);
        Assert.Equal(0x38, _pic.Acknowledge());
    }

    [Fact]
    public void Rotation_makes_the_served_input_the_last()
    {
        _pic.SetInput(3, true);
        Assert.Equal(0x33, _pic.Acknowledge());
        _pic.Master.Out(0, 0xA0);
        _pic.SetInput(3, false);
        _pic.SetInput(3, true);
        _pic.SetInput(7, true);
        Assert.Equal(0x37, _pic.Acknowledge());
    }

    [Fact]
    public void Special_mask_lets_lower_priorities_in_while_a_masked_one_is_in_service()
    {
        _pic.SetInput(1, true);
        Assert.Equal(0x31, _pic.Acknowledge());
        _pic.SetInput(6, true);
        Assert.False(_intr.Asserted);
        _pic.Master.Out(1, 0x02);
        _pic.Master.Out(0, 0x68);
        Assert.Equal(0x36, _pic.Acknowledge());
        _pic.Master.Out(0, 0x20);
        _pic.Master.Out(0, 0x0B);
        Assert.Equal(0x02, _pic.Master.In(0));
    }

    [Fact]
    public void Poll_acknowledges_by_a_read()
    {
        _pic.SetInput(4, true);
        _pic.Master.Out(0, 0x0C);
        Assert.Equal(0x84, _pic.Master.In(0));
        _pic.Master.Out(0, 0x0C);
        Assert.Equal(0, _pic.Master.In(0));
    }

    [Fact]
    public void A_restored_pair_goes_on_where_the_saved_one_was()
    {
        _pic.SetInput(14, true);
        _pic.SetInput(3, true);
        Assert.Equal(0x3E, _pic.Acknowledge());
        RecordingLine intr = new();
        DualPic8259 copy = new(intr);
        copy.Restore(_pic.Save());
        Assert.Equal(JsonSerializer.Serialize(_pic.Save()), JsonSerializer.Serialize(copy.Save()));
        Assert.False(intr.Asserted);
        copy.Slave.Out(0, 0x20);
        copy.Master.Out(0, 0x20);
        Assert.True(intr.Asserted);
        Assert.Equal(0x33, copy.Acknowledge());
    }
}
