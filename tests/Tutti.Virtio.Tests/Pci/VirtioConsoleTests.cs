using System.Text;
using Tutti.Virtio.Console;
using Tutti.Virtio.Pci;

namespace Tutti.Virtio.Tests.Pci;

public sealed class VirtioConsoleTests : IDisposable
{
    private const int Input = 0;
    private const int Output = 1;
    private const int QueueSize = 16;
    private readonly PciBed _bed = new();
    private readonly Terminal _terminal = new();
    private VirtioConsole _device;
    private VirtioPciFunction _function;
    private readonly PciDriver _driver;
    private GuestQueue _input;
    private GuestQueue _output;

    public VirtioConsoleTests()
    {
        _device = new VirtioConsole(_terminal, _bed.Worker);
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
        Assert.InRange(_bed.Worker.Run(), 1, 5);
        Assert.Equal(5000, _terminal.Text.Length);
        Assert.Equal(0, _output.UsedIndex);
        _terminal.Room = int.MaxValue;
        _device.TransmitReady();
        _ = _bed.Worker.Run();
        Assert.Equal(new string('x', 20_000), _terminal.Text);
        Assert.Equal(1, _output.UsedIndex);
    }

    [Fact]
    public void Input_takes_the_room_that_the_guest_has_and_waits_for_more()
    {
        _ = _input.Add(new Buffer(0x100, 3, true));
        _ = _input.Kick();
        _ = _bed.Worker.Run();
        Assert.Equal(3, _device.Receive("abcdef"u8));
        Assert.True(_input.TryTake(out _, out uint written));
        Assert.Equal(3u, written);
        Assert.Equal("abc", Encoding.ASCII.GetString(_bed.Ram(0x100, 3)));
        Assert.Equal(0, _terminal.Readies);
        _ = _input.Add(new Buffer(0x100, 3, true));
        Assert.True(_input.Kick());
        _ = _bed.Worker.Run();
        Assert.Equal(1, _terminal.Readies);
        Assert.Equal(3, _device.Receive("def"u8));
        Assert.Equal("def", Encoding.ASCII.GetString(_bed.Ram(0x100, 3)));
    }

    [Fact]
    public void Input_from_before_the_driver_waits_for_it()
    {
        _driver.WriteCommon(VirtioPciLayout.DeviceStatus, 0, 1);
        Assert.Equal(0, _device.Receive("abc"u8));
        (_input, _output) = Start();
        Assert.Equal(1, _terminal.Readies);
    }

    [Fact]
    public void A_new_size_is_in_the_configuration_with_an_interrupt()
    {
        Assert.Equal(VirtioConsole.FeatureSize, _driver.ReadFeatures() & VirtioConsole.FeatureSize);
        ReadFirstInput();
        _device.Resize(132, 43);
        Assert.True(_bed.Line);
        Assert.Equal(VirtioPciLayout.IsrConfig, _driver.ReadIsr());
        Assert.Equal(132UL, _driver.ReadDevice(0, 2));
        Assert.Equal(43UL, _driver.ReadDevice(2, 2));
        _device.Resize(132, 43);
        Assert.False(_bed.Line);
    }

    [Fact]
    public void A_size_from_before_the_driver_has_taken_input_waits_for_that()
    {
        _device.Resize(132, 43);
        Assert.False(_bed.Line);
        Assert.Equal(132UL, _driver.ReadDevice(0, 2));
        ReadFirstInput();
        Assert.Equal(1, _device.Receive("b"u8));
        Assert.Equal(VirtioPciLayout.IsrConfig, _driver.ReadIsr() & VirtioPciLayout.IsrConfig);

        // A driver that comes after it has not been told, and is told when it can take it.
        _driver.WriteCommon(VirtioPciLayout.DeviceStatus, 0, 1);
        (_input, _output) = Start();
        _ = _driver.ReadIsr();
        _device.Resize(80, 25);
        Assert.Equal(0, _driver.ReadIsr() & VirtioPciLayout.IsrConfig);
        ReadFirstInput();
        Assert.Equal(1, _device.Receive("b"u8));
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
        _device = new VirtioConsole(_terminal, _bed.Worker);
        _function = _bed.Plug(_device);
        _function.RestoreConfiguration(configuration);
        _terminal.Room = int.MaxValue;
        _function.Restore(state);
        _ = _bed.Worker.Run();
        Assert.Equal(expected, _terminal.Text);
        Assert.Equal(1, _output.UsedIndex);
    }

    /// <summary>Keeps the queue of input full, as drivers do, and takes a byte from it.</summary>
    private void ReadFirstInput()
    {
        for (ulong i = 0; i < QueueSize; i++)
        {
            _ = _input.Add(new Buffer(0x100 + (16 * i), 16, true));
        }

        _ = _input.Kick();
        _ = _bed.Worker.Run();
        Assert.Equal(1, _device.Receive("a"u8));
        Assert.True(_input.TryTake(out _, out _));
        _ = _input.Add(new Buffer(0x100, 16, true));
        _ = _input.Kick();
        _ = _bed.Worker.Run();
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
