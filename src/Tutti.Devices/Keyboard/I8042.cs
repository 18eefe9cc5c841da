using static Tutti.Devices.Keyboard.I8042Registers;

namespace Tutti.Devices.Keyboard;

/// <summary>State of the keyboard controller and its keyboard; the bytes that wait for port 0x60 oldest first.</summary>
public sealed record I8042State
{
    public required byte Config { get; init; }
    public required bool LastWriteWasCommand { get; init; }

    /// <summary>The controller command that waits for its byte at port 0x60; 0 for none.</summary>
    public required byte PendingCommand { get; init; }

    /// <summary>The keyboard command that waits for its byte; 0 for none.</summary>
    public required byte PendingKeyboardCommand { get; init; }
    public required byte LastKeyboardByte { get; init; }
    public required byte LastRead { get; init; }
    public required byte ScanCodeSet { get; init; }
    public required byte[] Ram { get; init; }
    public required byte[] Output { get; init; }
}

/// <summary>
/// The 8042 keyboard controller as found behind firmware: a keyboard that answers but has no keys, no auxiliary device,
/// A20 and reset. Source: IBM PS/2 Hardware Interface Technical Reference.
/// </summary>
public sealed class I8042 : IStatefulDevice<I8042State>
{
    private const int OutputCapacity = 16;
    private const int RamSize = 32;

    private readonly IInterruptLine _keyboardInterrupt;
    private readonly A20Gate _a20;
    private readonly IPowerControl _power;
    private readonly Queue<byte> _output = new(OutputCapacity);
    private readonly byte[] _ram = new byte[RamSize];
    private byte _config = ConfigKeyboardInterrupt | ConfigSystemFlag | ConfigAuxDisabled | ConfigTranslate;
    private bool _lastWriteWasCommand;
    private byte _pendingCommand;
    private byte _pendingKeyboardCommand;
    private byte _lastKeyboardByte = KeyboardAck;
    private byte _lastRead;
    private byte _scanCodeSet = 2;

    public I8042(IInterruptLine keyboardInterrupt, A20Gate a20, IPowerControl power)
    {
        _keyboardInterrupt = keyboardInterrupt;
        _a20 = a20;
        _power = power;
        Data = new BytePorts(_ => ReadData(), (_, value) => WriteData(value));
        Command = new BytePorts(_ => ReadStatus(), (_, value) => WriteCommand(value));
    }

    /// <summary>One port at <see cref="DataPort"/>.</summary>
    public IPortDevice Data { get; }

    /// <summary>One port at <see cref="CommandPort"/>.</summary>
    public IPortDevice Command { get; }

    private byte ReadData()
    {
        if (_output.TryDequeue(out byte value))
        {
            _lastRead = value;

            // Each byte is an interrupt of its own: the line falls before the next byte raises it again.
            _keyboardInterrupt.Set(false);
            UpdateInterrupt();
        }

        return _lastRead;
    }

    private byte ReadStatus() => (byte)(StatusUnlocked
        | (_output.Count > 0 ? StatusObf : 0)
        | (_config & ConfigSystemFlag)
        | (_lastWriteWasCommand ? StatusCommand : 0));

    private void WriteCommand(byte command)
    {
        _lastWriteWasCommand = true;
        _pendingCommand = 0;
        switch (command)
        {
            case 0x20:
                Answer(_config);
                break;
            case > 0x20 and < 0x40:
                Answer(_ram[command & 0x1F]);
                break;
            case >= 0x60 and < 0x80:
                _pendingCommand = command;
                break;
            case 0xA7 or 0xA8:
                // Enabling or disabling a port that is not there: the configuration keeps saying disabled.
                break;
            case 0xA9:
                Answer(AuxClockStuckLow);
                break;
            case 0xAA:
                _config |= ConfigSystemFlag;
                Answer(SelfTestPassed);
                break;
            case 0xAB:
                Answer(KeyboardTestPassed);
                break;
            case 0xAD:
                _config |= ConfigKeyboardDisabled;
                break;
            case 0xAE:
                _config &= unchecked((byte)~ConfigKeyboardDisabled);
                break;
            case 0xC0:
                Answer(0x80);
                break;
            case 0xD0:
                Answer((byte)(0xCC | OutputPortReset | (_a20.IsOpen ? OutputPortA20 : 0) | (_output.Count > 0 ? 0x10 : 0)));
                break;
            case 0xD1 or 0xD2 or 0xD3 or 0xD4:
                _pendingCommand = command;
                break;
            case 0xDD:
                _a20.IsOpen = false;
                break;
            case 0xDF:
                _a20.IsOpen = true;
                break;
            case >= 0xF0:
                PulseOutputPort(command);
                break;
        }
    }

    // Bits 3:0 say which output port lines are pulsed low; line 0 is the processor's reset.
    private void PulseOutputPort(byte command)
    {
        if ((command & OutputPortReset) == 0)
        {
            _power.Reset();
        }
    }

    private void WriteData(byte value)
    {
        _lastWriteWasCommand = false;
        byte command = _pendingCommand;
        _pendingCommand = 0;
        switch (command)
        {
            case 0:
                _config &= unchecked((byte)~ConfigKeyboardDisabled);
                WriteKeyboard(value);
                break;
            case 0x60:
                _config = (byte)((value & 0x7F) | ConfigAuxDisabled);
                UpdateInterrupt();
                break;
            case > 0x60 and < 0x80:
                _ram[command & 0x1F] = value;
                break;
            case 0xD1:
                _a20.IsOpen = (value & OutputPortA20) != 0;
                PulseOutputPort(value);
                break;
            case 0xD2 or 0xD3:
                // The auxiliary loopback comes back without the auxiliary mark: so guests see that no such port exists.
                Answer(value);
                break;
            case 0xD4:
                // Nobody is there to take the byte.
                break;
        }
    }

    private void WriteKeyboard(byte value)
    {
        byte pending = _pendingKeyboardCommand;
        _pendingKeyboardCommand = 0;
        if (pending != 0 && value < 0xED)
        {
            AnswerArgument(pending, value);
            return;
        }

        switch (value)
        {
            case 0xED or 0xF0 or 0xF3:
                _pendingKeyboardCommand = value;
                KeyboardSends(KeyboardAck);
                break;
            case 0xEE:
                KeyboardSends(KeyboardEcho);
                break;
            case 0xF2:
                KeyboardSends(KeyboardAck);
                KeyboardSends(0xAB);
                KeyboardSends((_config & ConfigTranslate) != 0 ? (byte)0x41 : (byte)0x83);
                break;
            case 0xF4 or 0xF5 or 0xF6 or (>= 0xF7 and <= 0xFA):
                KeyboardSends(KeyboardAck);
                break;
            case 0xFE:
                KeyboardSends(_lastKeyboardByte);
                break;
            case 0xFF:
                _scanCodeSet = 2;
                KeyboardSends(KeyboardAck);
                KeyboardSends(KeyboardSelfTestPassed);
                break;
            default:
                KeyboardSends(KeyboardResend);
                break;
        }
    }

    private void AnswerArgument(byte command, byte value)
    {
        KeyboardSends(KeyboardAck);
        if (command != 0xF0)
        {
            return;
        }

        if (value == 0)
        {
            KeyboardSends(_scanCodeSet);
        }
        else if (value <= 3)
        {
            _scanCodeSet = value;
        }
    }

    private void KeyboardSends(byte value)
    {
        _lastKeyboardByte = value;
        Answer(value);
    }

    // A guest that asks and never reads loses answers, as with the chip's one-byte buffer.
    private void Answer(byte value)
    {
        if (_output.Count < OutputCapacity)
        {
            _output.Enqueue(value);
        }

        UpdateInterrupt();
    }

    private void UpdateInterrupt() => _keyboardInterrupt.Set(_output.Count > 0 && (_config & ConfigKeyboardInterrupt) != 0);

    public I8042State Save() => new()
    {
        Config = _config,
        LastWriteWasCommand = _lastWriteWasCommand,
        PendingCommand = _pendingCommand,
        PendingKeyboardCommand = _pendingKeyboardCommand,
        LastKeyboardByte = _lastKeyboardByte,
        LastRead = _lastRead,
        ScanCodeSet = _scanCodeSet,
        Ram = (byte[])_ram.Clone(),
        Output = _output.ToArray(),
    };

    /// <exception cref="ArgumentException">Another size of RAM, or more waiting bytes than the buffer holds.</exception>
    public void Restore(I8042State state)
    {
        if (state.Ram.Length != RamSize || state.Output.Length > OutputCapacity)
        {
            throw new ArgumentException("Not a state of this keyboard controller.", nameof(state));
        }

        _config = (byte)((state.Config & 0x7F) | ConfigAuxDisabled);
        _lastWriteWasCommand = state.LastWriteWasCommand;
        _pendingCommand = state.PendingCommand;
        _pendingKeyboardCommand = state.PendingKeyboardCommand;
        _lastKeyboardByte = state.LastKeyboardByte;
        _lastRead = state.LastRead;
        _scanCodeSet = state.ScanCodeSet;
        state.Ram.CopyTo(_ram, 0);
        _output.Clear();
        foreach (byte value in state.Output)
        {
            _output.Enqueue(value);
        }

        UpdateInterrupt();
    }
}
