using System.Text;
using Tutti.Virtio.Console;
using Tutti.Virtio.Pci;

namespace Tutti.Virtio.Tests.Pci;

public sealed class VirtioConsoleTests : IDisposable
{
    private const int Input = 0;
    private const int Output = 1;
    private const int QueueSize = 16;
    private const long Millisecond = 1_000_000;
    private readonly PciBed _bed = new();
    private readonly TestGuestClock _clock = new();
    private readonly Terminal _terminal = new();
    private VirtioConsole _device;
    private VirtioPciFunction _function;
    private readonly PciDriver _driver;
    private GuestQueue _input;
    private GuestQueue _output;

    public VirtioConsoleTests()
    {
        _device = new VirtioConsole(_terminal, _bed.Worker, _clock);
        _function = _bed.Plug(_device);
        _driver = new PciDriver(_bed, _function.Slot);
        (_input, _output) = Start();
    }

    public void Dispose() => _bed.Dispose();

    [Fact]
    public void Output_arrives_in_order_whatever_its_chains_look_like()
    {
        "hello, world"u8.CopyTo(_bed.Ram(0x100, 12));
        _ = _output.Add(new Buffer(0x100, 5));
        _ = _output.Add(new Buffer(0x105, 2), new Buffer(0x107, 5));
        _ = _output.Kick();
        _ = _bed.Worker.Run();
        Assert.Equal("hello, world", _terminal.Text);
        Assert.Equal(2, _output.UsedIndex);
        Assert.Equal(1, _terminal.Calls);
    }

    [Fact]
    public void Output_that_the_backend_has_no_room_for_stays_with_the_guest_and_goes_on_later()
    {
        _bed.Ram(0x8000, 20_000).Fill((byte)'x');
        _terminal.Room = 5000;
        _ = _output.Add(new Buffer(0x8000, 20_000));
        _ = _output.Kick();
        Assert.InRange(_bed.Worker.Run(), 0, 5);
        Assert.Equal(5000, _terminal.Text.Length);
        Assert.Equal(0, _output.UsedIndex);
        _terminal.Room = int.MaxValue;
        _device.TransmitReady();
        _ = _bed.Worker.Run();
        Assert.Equal(new string('x', 20_000), _terminal.Text);
        Assert.Equal(1, _output.UsedIndex);
    }

    [Fact]
    public void Output_is_taken_by_the_vcpu_that_notifies()
    {
        "hello"u8.CopyTo(_bed.Ram(0x100, 5));
        _ = _output.Add(new Buffer(0x100, 5));
        Assert.True(_output.Kick());
        Assert.Equal("hello", _terminal.Text);
        Assert.True(_output.TryTake(out _, out _));
        Assert.Equal(VirtioPciLayout.IsrQueue, _driver.ReadIsr());
    }

    [Fact]
    public void Input_takes_the_room_that_the_guest_has_and_waits_for_more()
    {
        Open(3);
        Assert.Equal(3 * QueueSize, _device.Receive(Encoding.ASCII.GetBytes(new string('a', 3 * QueueSize) + "def")));
        Assert.True(_input.TryTake(out _, out uint written));
        Assert.Equal(3u, written);
        Assert.Equal("aaa", Encoding.ASCII.GetString(_bed.Ram(0x100, 3)));
        Assert.Equal(1, _terminal.Readies);
        _ = _input.Add(new Buffer(0x100, 3, true));
        Assert.True(_input.Kick());
        _ = _bed.Worker.Run();
        Assert.Equal(2, _terminal.Readies);
        Assert.Equal(3, _device.Receive("def"u8));
        Assert.Equal("def", Encoding.ASCII.GetString(_bed.Ram(0x100, 3)));
    }

    [Fact]
    public void Input_from_before_the_driver_waits_for_it()
    {
        _driver.WriteCommon(VirtioPciLayout.DeviceStatus, 0, 1);
        Assert.Equal(0, _device.Receive("abc"u8));
        (_input, _output) = Start();
        Open();
        Assert.Equal(3, _device.Receive("abc"u8));
    }

    /// <summary>Linux loses what comes before its port is set up, and keeps an empty buffer until a program has the port open.</summary>
    [Fact]
    public void Input_waits_until_an_empty_buffer_has_come_back()
    {
        Fill();
        Assert.Equal(0, _device.Receive("abc"u8));
        Wait(19 * Millisecond);
        Assert.False(_input.TryTake(out _, out _));
        Wait(Millisecond);
        Assert.True(_input.TryTake(out _, out uint written));
        Assert.Equal(0u, written);
        Assert.False(_input.TryTake(out _, out _));
        Assert.Equal(0, _device.Receive("abc"u8));
        Assert.Equal(0, _terminal.Readies);
        Offer();
        Assert.Equal(1, _terminal.Readies);
        Assert.Equal(3, _device.Receive("abc"u8));
        Assert.Equal("abc", Encoding.ASCII.GetString(_bed.Ram(0x110, 3)));
    }

    [Fact]
    public void A_driver_that_loses_the_first_empty_buffer_gets_another_and_no_more_than_four()
    {
        Fill();
        Assert.Equal(0, _device.Receive("abc"u8));
        Wait(20 * Millisecond);
        Assert.True(_input.TryTake(out _, out _));
        Wait(199 * Millisecond);
        Assert.False(_input.TryTake(out _, out _));
        Wait(Millisecond);
        Assert.True(_input.TryTake(out _, out _));
        Wait(2_000 * Millisecond);
        Wait(20_000 * Millisecond);
        Assert.True(_input.TryTake(out _, out _));
        Assert.True(_input.TryTake(out _, out _));
        Assert.Equal(0, _terminal.Readies);

        // Nobody ever answers: rather lost than kept for ever.
        Wait(200_000 * Millisecond);
        Assert.False(_input.TryTake(out _, out _));
        Assert.Equal(1, _terminal.Readies);
        Assert.Equal(3, _device.Receive("abc"u8));
        Wait(Millisecond);
        Wait(Millisecond);
        Wait(Millisecond);
        Assert.False(_clock.IsArmed);
    }

    /// <summary>Linux's tty layer stops reading at each empty buffer until the next interrupt.</summary>
    [Fact]
    public void Input_behind_several_empty_buffers_is_told_of_again()
    {
        Fill();
        Assert.Equal(0, _device.Receive("abc"u8));
        Wait(20 * Millisecond);
        Wait(200 * Millisecond);
        Assert.True(_input.TryTake(out _, out _));
        Offer();
        Assert.Equal(3, _device.Receive("abc"u8));
        _ = _driver.ReadIsr();
        Wait(Millisecond);
        Assert.Equal(VirtioPciLayout.IsrQueue, _driver.ReadIsr());
        Wait(Millisecond);
        Assert.Equal(0, _driver.ReadIsr());
        Assert.False(_clock.IsArmed);
    }

    [Fact]
    public void A_driver_that_never_fills_its_queue_gets_no_empty_buffer_but_input_after_a_while()
    {
        _ = _input.Add(new Buffer(0x100, 3, true));
        _ = _input.Kick();
        _ = _bed.Worker.Run();
        Assert.Equal(0, _device.Receive("abc"u8));
        Wait(20 * Millisecond);
        Assert.Equal(0, _terminal.Readies);
        Wait(200 * Millisecond);
        Assert.False(_input.TryTake(out _, out _));
        Assert.Equal(1, _terminal.Readies);
        Assert.Equal(3, _device.Receive("abc"u8));
    }

    [Fact]
    public void A_new_size_is_in_the_configuration_with_an_interrupt()
    {
        Assert.Equal(VirtioConsole.FeatureSize, _driver.ReadFeatures() & VirtioConsole.FeatureSize);
        Open();
        _device.Resize(132, 43);
        Assert.True(_bed.Line);
        Assert.Equal(VirtioPciLayout.IsrConfig, _driver.ReadIsr());
        Assert.Equal(132UL, _driver.ReadDevice(0, 2));
        Assert.Equal(43UL, _driver.ReadDevice(2, 2));
        _device.Resize(132, 43);
        Assert.False(_bed.Line);
    }

    [Fact]
    public void A_size_from_before_somebody_has_the_console_open_waits_for_that()
    {
        _device.Resize(132, 43);
        Fill();
        Wait(20 * Millisecond);
        Assert.Equal(VirtioPciLayout.IsrQueue, _driver.ReadIsr());
        Assert.Equal(132UL, _driver.ReadDevice(0, 2));
        Assert.True(_input.TryTake(out _, out _));
        Offer();
        Assert.Equal(VirtioPciLayout.IsrConfig, _driver.ReadIsr() & VirtioPciLayout.IsrConfig);
        Assert.Equal(0, _terminal.Readies);

        // A driver that comes after it has not been told, and is told when it can take it.
        _driver.WriteCommon(VirtioPciLayout.DeviceStatus, 0, 1);
        (_input, _output) = Start();
        _ = _driver.ReadIsr();
        Fill();
        Wait(20 * Millisecond);
        Assert.Equal(0, _driver.ReadIsr() & VirtioPciLayout.IsrConfig);
        Assert.True(_input.TryTake(out _, out _));
        Offer();
        Assert.Equal(VirtioPciLayout.IsrConfig, _driver.ReadIsr() & VirtioPciLayout.IsrConfig);
    }

    [Fact]
    public void An_emergency_write_needs_no_driver()
    {
        _driver.WriteCommon(VirtioPciLayout.DeviceStatus, 0, 1);
        _driver.WriteDevice(8, '!', 4);
        Assert.Equal("!", _terminal.Text);
    }

    [Fact]
    public void A_state_with_half_a_chain_goes_on_without_losing_or_repeating_a_byte()
    {
        Span<byte> text = _bed.Ram(0x8000, 20_000);
        for (int i = 0; i < text.Length; i++)
        {
            text[i] = (byte)('a' + (i * 7 % 26));
        }

        string expected = Encoding.ASCII.GetString(text);
        _terminal.Room = 5000;
        _ = _output.Add(new Buffer(0x8000, 20_000));
        _ = _output.Kick();
        _ = _bed.Worker.Run();
        var configuration = _function.SaveConfiguration();
        VirtioPciState state = _function.Save();
        _ = _bed.Bus.Remove(_function.Slot);
        _device = new VirtioConsole(_terminal, _bed.Worker, _clock);
        _function = _bed.Plug(_device);
        _function.RestoreConfiguration(configuration);
        _terminal.Room = int.MaxValue;
        _function.Restore(state);
        _ = _bed.Worker.Run();
        Assert.Equal(expected, _terminal.Text);
        Assert.Equal(1, _output.UsedIndex);
    }

    /// <summary>Fills the queue of input, as drivers do.</summary>
    private void Fill(uint length = 16)
    {
        for (ulong i = 0; i < QueueSize; i++)
        {
            _ = _input.Add(new Buffer(0x100 + (16 * i), length, true));
        }

        _ = _input.Kick();
        _ = _bed.Worker.Run();
    }

    /// <summary>Puts one buffer more into it.</summary>
    private void Offer(uint length = 16)
    {
        _ = _input.Add(new Buffer(0x100, length, true));
        Assert.True(_input.Kick());
        _ = _bed.Worker.Run();
    }

    private void Wait(long nanoseconds)
    {
        _clock.Advance(nanoseconds);
        _ = _bed.Worker.Run();
    }

    /// <summary>What a driver with a full queue does when a program opens the console: it takes the empty buffer and offers it again.</summary>
    private void Open(uint length = 16)
    {
        Fill(length);
        Assert.Equal(0, _device.Receive("?"u8));
        Wait(20 * Millisecond);
        Assert.True(_input.TryTake(out _, out uint written));
        Assert.Equal(0u, written);
        Offer(length);
        _ = _driver.ReadIsr();
    }

    private (GuestQueue Input, GuestQueue Output) Start()
    {
        _driver.Begin(ulong.MaxValue);
        GuestQueue input = _driver.AddQueue(Input, QueueSize, 0x1_0000, ulong.MaxValue);
        GuestQueue output = _driver.AddQueue(Output, QueueSize, 0x1_1000, ulong.MaxValue);
        _driver.Finish();
        _ = _bed.Worker.Run();
        return (input, output);
    }

    private sealed class Terminal : IVirtioConsoleBackend
    {
        private readonly StringBuilder _text = new();

        internal string Text => _text.ToString();

        internal int Room { get; set; } = int.MaxValue;

        internal int Calls { get; private set; }

        internal int Readies { get; private set; }

        public int Transmit(ReadOnlySpan<byte> data)
        {
            int taken = Math.Min(data.Length, Room);
            Room -= Room == int.MaxValue ? 0 : taken;
            _ = _text.Append(Encoding.ASCII.GetString(data[..taken]));
            Calls++;
            return taken;
        }

        public void ReceiveReady() => Readies++;
    }
}
