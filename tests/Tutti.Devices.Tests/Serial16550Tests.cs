using System.Text;
using System.Text.Json;
using Tutti.Devices.Serial;

namespace Tutti.Devices.Tests;

public sealed class Serial16550Tests
{
    private const int Rbr = 0, Thr = 0, Ier = 1, Iir = 2, Fcr = 2, Lcr = 3, Mcr = 4, Lsr = 5, Msr = 6, Scr = 7;

    private readonly TestClock _clock = new();
    private readonly RecordingLine _irq = new();
    private readonly RecordingBackend _backend = new();
    private readonly Serial16550 _uart;

    public Serial16550Tests()
    {
        _uart = new Serial16550(_clock, _irq, _backend);
    }

    [Fact]
    public void Linux_autoconfig_finds_a_16550A()
    {
        _uart.Out(Ier, 0);
        Assert.Equal(0, _uart.In(Ier) & 0x0F);
        _uart.Out(Ier, 0xFF);
        Assert.Equal(0x0F, _uart.In(Ier));
        _uart.Out(Ier, 0);

        // The loopback test of the modem lines.
        _uart.Out(Mcr, 0x10 | 0x0A);
        Assert.Equal(0x90, _uart.In(Msr) & 0xF0);
        _uart.Out(Mcr, 0x10 | 0x05);
        Assert.Equal(0x60, _uart.In(Msr) & 0xF0);
        _uart.Out(Mcr, 0);
        Assert.Equal(0xB0, _uart.In(Msr) & 0xF0);

        // FIFO type by IIR; no enhanced feature register behind LCR 0xBF; no 64-byte FIFO.
        _uart.Out(Fcr, 0x01);
        Assert.Equal(3, _uart.In(Iir) >> 6);
        _uart.Out(Lcr, 0xBF);
        Assert.NotEqual(0, _uart.In(Iir));
        _uart.Out(Lcr, 0);
        _uart.Out(Fcr, 0x01 | 0x20);
        Assert.Equal(0xC1, _uart.In(Iir));
        _uart.Out(Fcr, 0);
        Assert.Equal(0x01, _uart.In(Iir));
    }

    [Fact]
    public void Enabling_the_transmitter_interrupt_again_asserts_it_again()
    {
        _uart.Out(Mcr, 0x08);
        _uart.Out(Ier, 0x02);
        Assert.Equal(0x02, _uart.In(Iir));
        Assert.Equal(0x01, _uart.In(Iir));
        _uart.Out(Ier, 0);
        _uart.Out(Ier, 0x02);
        Assert.True(_irq.Asserted);
        Assert.Equal(0x02, _uart.In(Iir));
        Assert.False(_irq.Asserted);
    }

    [Fact]
    public void Each_sent_byte_is_an_edge_of_its_own_and_reaches_the_backend_at_once()
    {
        _uart.Out(Mcr, 0x08);
        _uart.Out(Ier, 0x02);
        int before = _irq.Edges;
        _uart.Out(Thr, 'o');
        Assert.Equal("o", Encoding.ASCII.GetString([.. _backend.Sent]));
        _uart.Out(Thr, 'k');
        Assert.Equal("ok", Encoding.ASCII.GetString([.. _backend.Sent]));
        Assert.Equal(before + 2, _irq.Edges);
        Assert.Equal(0x60, _uart.In(Lsr));
    }

    [Fact]
    public void Interrupts_need_OUT2()
    {
        _uart.Out(Ier, 0x02);
        Assert.False(_irq.Asserted);
        _uart.Out(Mcr, 0x08);
        Assert.True(_irq.Asserted);
    }

    [Fact]
    public void Input_waits_until_the_guest_is_ready_and_then_arrives_whole()
    {
        byte[] input = Encoding.ASCII.GetBytes("uname -a; echo 0123456789 0123456789\n");
        int sent = 0;
        _backend.OnReceiveReady = () => sent += _uart.Receive(input.AsSpan(sent));
        sent += _uart.Receive(input);
        Assert.Equal(0, sent);

        _uart.Out(Fcr, 0x07);
        _uart.Out(Mcr, 0x0B);
        Assert.Equal(16, sent);

        List<byte> got = [];
        while ((_uart.In(Lsr) & 1) != 0)
        {
            got.Add(_uart.In(Rbr));
        }

        Assert.Equal(input, got);
        Assert.Equal(input.Length, sent);
    }

    [Fact]
    public void Received_data_interrupts_at_the_trigger_level_and_by_timeout_below_it()
    {
        _uart.Out(Mcr, 0x0B);
        _uart.Out(Lcr, 0x83);
        _uart.Out(0, 1);
        _uart.Out(1, 0);
        _uart.Out(Lcr, 0x03);
        _uart.Out(Fcr, 0x81);
        _uart.Out(Ier, 0x01);
        Assert.Equal(7, _uart.Receive(new byte[7]));
        Assert.Equal(0xC1, _uart.In(Iir));
        Assert.Equal(1, _uart.Receive(new byte[1]));
        Assert.Equal(0xC4, _uart.In(Iir));
        _uart.In(Rbr);
        Assert.Equal(0xC1, _uart.In(Iir));
        _clock.Advance(340_000);
        Assert.False(_irq.Asserted);
        _clock.Advance(10_000);
        Assert.True(_irq.Asserted);
        Assert.Equal(0xCC, _uart.In(Iir));
        _uart.In(Rbr);
        Assert.False(_irq.Asserted);
    }

    [Fact]
    public void Loopback_returns_what_is_sent_and_reports_an_overrun()
    {
        _uart.Out(Lcr, 0x03);
        _uart.Out(Mcr, 0x10);
        _uart.Out(Thr, 0xA5);
        _uart.Out(Thr, 0x5A);
        Assert.Equal(0x63, _uart.In(Lsr));
        Assert.Equal(0x61, _uart.In(Lsr));
        Assert.Equal(0xA5, _uart.In(Rbr));
        Assert.Equal(0x60, _uart.In(Lsr));
        Assert.Empty(_backend.Sent);
    }

    [Fact]
    public void Line_status_comes_before_data_data_before_transmitter_transmitter_before_modem()
    {
        _uart.Out(Lcr, 0x03);
        _uart.Out(Mcr, 0x10 | 0x02);
        _uart.Out(Thr, 1);
        _uart.Out(Thr, 2);
        _uart.Out(Ier, 0x0F);
        Assert.Equal(0x06, _uart.In(Iir));
        _uart.In(Lsr);
        Assert.Equal(0x04, _uart.In(Iir));
        _uart.In(Rbr);
        Assert.Equal(0x02, _uart.In(Iir));
        Assert.Equal(0x00, _uart.In(Iir));
        _uart.In(Msr);
        Assert.Equal(0x01, _uart.In(Iir));
    }

    [Fact]
    public void Scratch_and_divisor_keep_what_is_written()
    {
        _uart.Out(Scr, 0x5C);
        _uart.Out(Lcr, 0x80);
        _uart.Out(0, 0x34);
        _uart.Out(1, 0x12);
        Assert.Equal((0x34, 0x12, 0x5C), (_uart.In(0), _uart.In(1), _uart.In(Scr)));
        _uart.Out(Lcr, 0);
        Assert.Equal(0, _uart.In(Ier));
    }

    [Fact]
    public void A_restored_port_goes_on_where_the_saved_one_was()
    {
        _uart.Out(Mcr, 0x0B);
        _uart.Out(Fcr, 0xC1);
        _uart.Out(Ier, 0x01);
        _uart.Receive("abc"u8);
        _clock.Advance(100_000);

        TestClock clock = new();
        clock.SetTo(_clock.Nanoseconds);
        RecordingLine irq = new();
        Serial16550 copy = new(clock, irq, _backend);
        copy.Restore(_uart.Save());
        Assert.Equal(JsonSerializer.Serialize(_uart.Save()), JsonSerializer.Serialize(copy.Save()));
        Assert.False(irq.Asserted);
        clock.Advance(10_000_000);
        Assert.True(irq.Asserted);
        Assert.Equal("abc"u8.ToArray(), new byte[] { copy.In(Rbr), copy.In(Rbr), copy.In(Rbr) });
    }
}
