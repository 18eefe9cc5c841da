using Tutti.Cpu;
using static Tutti.Devices.Serial.Serial16550Registers;

namespace Tutti.Devices.Serial;

/// <summary>The other end of a serial line. Called under the chipset lock, in the middle of a guest access.</summary>
public interface ISerialBackend
{
    /// <summary>The guest sent these bytes.</summary>
    void Transmit(ReadOnlySpan<byte> data);

    /// <summary>There is room again after a <see cref="Serial16550.Receive"/> that took less than it was given.</summary>
    void ReceiveReady();
}

/// <summary>State of a 16550A; the received bytes oldest first.</summary>
public sealed record Serial16550State
{
    public required byte Ier { get; init; }
    public required byte Fcr { get; init; }
    public required byte Lcr { get; init; }
    public required byte Mcr { get; init; }
    public required byte Msr { get; init; }
    public required byte Scr { get; init; }
    public required ushort Divisor { get; init; }
    public required bool Overrun { get; init; }
    public required bool TransmitterEmptyPending { get; init; }
    public required bool CharacterTimeout { get; init; }
    public required long TimeoutDeadline { get; init; }
    public required bool SenderWaits { get; init; }
    public required byte[] Received { get; init; }
}

/// <summary>
/// A 16550A serial port with its eight registers. Sending takes no guest time: the transmitter is always empty, and the
/// backend sees each byte at once. The line is never noisy: no parity, framing or break conditions.
/// Source: National Semiconductor PC16550D data sheet.
/// </summary>
public sealed class Serial16550 : BytePortDevice, IStatefulDevice<Serial16550State>
{
    private const byte ConnectedModem = MsrDcd | MsrDsr | MsrCts;
    private const long NoDeadline = -1;

    private readonly IGuestClock _clock;
    private readonly IInterruptLine _interrupt;
    private readonly ISerialBackend _backend;
    private readonly IClockTimer _timeoutTimer;
    private readonly byte[] _fifo = new byte[FifoSize];
    private int _fifoHead;
    private int _fifoCount;
    private byte _ier;
    private byte _fcr;
    private byte _lcr;
    private byte _mcr;
    private byte _msr = ConnectedModem;
    private byte _scr;
    private ushort _divisor = 12;
    private bool _overrun;
    private bool _transmitterEmptyPending;
    private bool _characterTimeout;
    private long _timeoutDeadline = NoDeadline;
    private bool _senderWaits;

    public Serial16550(IGuestClock clock, IInterruptLine interrupt, ISerialBackend backend)
    {
        _clock = clock;
        _interrupt = interrupt;
        _backend = backend;
        _timeoutTimer = clock.CreateTimer(OnTimeout);
    }

    /// <summary>
    /// Whether the sender waits while the guest does not assert RTS, as one with hardware handshake does. So input that is
    /// there before the guest's driver is does not get lost when the driver clears the FIFOs (Linux asserts DTR before
    /// that, RTS after it), and a guest whose own buffers are full can hold it off.
    /// </summary>
    public bool WaitsForRequestToSend { get; init; } = true;

    private bool FifoEnabled => (_fcr & FcrEnable) != 0;

    private bool IsLoopback => (_mcr & McrLoop) != 0;

    private int Capacity => FifoEnabled ? FifoSize : 1;

    private int TriggerLevel => !FifoEnabled ? 1 : (_fcr >> 6) switch { 0 => 1, 1 => 4, 2 => 8, _ => 14 };

    private bool CanReceive => !IsLoopback && (!WaitsForRequestToSend || (_mcr & McrRts) != 0);

    /// <summary>
    /// Gives the guest input and returns how many bytes were taken, from the first. When that is not all, the backend
    /// keeps the rest and <see cref="ISerialBackend.ReceiveReady"/> tells it when to go on. Call under the chipset lock.
    /// </summary>
    public int Receive(ReadOnlySpan<byte> data)
    {
        int taken = CanReceive ? Math.Clamp(Capacity - _fifoCount, 0, data.Length) : 0;
        for (int i = 0; i < taken; i++)
        {
            Push(data[i]);
        }

        _senderWaits = taken < data.Length;
        if (taken > 0)
        {
            RestartTimeout();
            UpdateInterrupt();
        }

        return taken;
    }

    protected override byte ReadRegister(int offset)
    {
        bool dlab = (_lcr & LcrDlab) != 0;
        switch (offset)
        {
            case Rbr:
                return dlab ? (byte)_divisor : ReadReceiver();
            case Ier:
                return dlab ? (byte)(_divisor >> 8) : _ier;
            case Iir:
                return ReadIir();
            case Lcr:
                return _lcr;
            case Mcr:
                return _mcr;
            case Lsr:
                return ReadLsr();
            case Msr:
                return ReadMsr();
            case Scr:
                return _scr;
            default:
                return 0xFF;
        }
    }

    protected override void WriteRegister(int offset, byte value)
    {
        bool dlab = (_lcr & LcrDlab) != 0;
        switch (offset)
        {
            case Rbr when dlab:
                _divisor = (ushort)((_divisor & 0xFF00) | value);
                break;
            case Rbr:
                WriteTransmitter(value);
                break;
            case Ier when dlab:
                _divisor = (ushort)((_divisor & 0x00FF) | (value << 8));
                break;
            case Ier:
                WriteIer(value);
                break;
            case Iir:
                WriteFcr(value);
                break;
            case Lcr:
                _lcr = value;
                break;
            case Mcr:
                WriteMcr(value);
                break;
            case Scr:
                _scr = value;
                break;
        }
    }

    private byte ReadReceiver()
    {
        if (_fifoCount == 0)
        {
            return 0;
        }

        byte value = _fifo[_fifoHead];
        _fifoHead = (_fifoHead + 1) % FifoSize;
        _fifoCount--;
        RestartTimeout();
        if (_fifoCount == 0)
        {
            ResumeSender();
        }

        UpdateInterrupt();
        return value;
    }

    private byte ReadIir()
    {
        byte source = InterruptSource();
        if (source == IirTransmitterEmpty)
        {
            _transmitterEmptyPending = false;
            UpdateInterrupt();
        }

        return (byte)(source | (FifoEnabled ? IirFifosEnabled : 0));
    }

    private byte ReadLsr()
    {
        byte value = (byte)(LsrThre | LsrTemt | (_fifoCount > 0 ? LsrDr : 0) | (_overrun ? LsrOe : 0));
        _overrun = false;
        UpdateInterrupt();
        return value;
    }

    private byte ReadMsr()
    {
        byte value = _msr;
        _msr &= 0xF0;
        UpdateInterrupt();
        return value;
    }

    private void WriteTransmitter(byte value)
    {
        // The byte is gone at once, and an empty transmitter is a new reason to interrupt: the line falls and rises.
        _transmitterEmptyPending = false;
        UpdateInterrupt();
        if (!IsLoopback)
        {
            _backend.Transmit([value]);
        }
        else if (_fifoCount < Capacity)
        {
            Push((byte)(value & WordMask));
            RestartTimeout();
        }
        else
        {
            _overrun = true;
        }

        _transmitterEmptyPending = true;
        UpdateInterrupt();
    }

    private byte WordMask => (byte)((1 << (5 + (_lcr & LcrWordLength))) - 1);

    private void WriteIer(byte value)
    {
        byte rising = (byte)(value & ~_ier);
        _ier = (byte)(value & IerWritable);
        if ((rising & IerEtbei) != 0)
        {
            _transmitterEmptyPending = true;
        }

        UpdateInterrupt();
    }

    private void WriteFcr(byte value)
    {
        bool toggled = ((value ^ _fcr) & FcrEnable) != 0;

        // The other bits count only in a write that sets the enable bit.
        _fcr = (value & FcrEnable) != 0 ? (byte)(value & FcrStored) : (byte)0;
        if (toggled || (value & (FcrEnable | FcrResetReceiver)) == (FcrEnable | FcrResetReceiver))
        {
            _fifoCount = 0;
            RestartTimeout();
            ResumeSender();
        }

        UpdateInterrupt();
    }

    private void WriteMcr(byte value)
    {
        _mcr = (byte)(value & McrWritable);
        byte lines = ConnectedModem;
        if (IsLoopback)
        {
            lines = (byte)(((_mcr & McrRts) != 0 ? MsrCts : 0)
                | ((_mcr & McrDtr) != 0 ? MsrDsr : 0)
                | ((_mcr & McrOut1) != 0 ? MsrRi : 0)
                | ((_mcr & McrOut2) != 0 ? MsrDcd : 0));
        }

        int changed = (lines ^ _msr) & (MsrCts | MsrDsr | MsrDcd);
        bool ringEnded = (_msr & MsrRi) != 0 && (lines & MsrRi) == 0;
        _msr = (byte)(lines | (_msr & 0x0F) | (changed >> 4) | (ringEnded ? MsrTeri : 0));
        ResumeSender();
        UpdateInterrupt();
    }

    private void ResumeSender()
    {
        if (_senderWaits && CanReceive && _fifoCount < Capacity)
        {
            _senderWaits = false;
            _backend.ReceiveReady();
        }
    }

    private void Push(byte value)
    {
        _fifo[(_fifoHead + _fifoCount) % FifoSize] = value;
        _fifoCount++;
    }

    private byte InterruptSource()
    {
        if ((_ier & IerElsi) != 0 && _overrun)
        {
            return IirLineStatus;
        }

        if ((_ier & IerErbfi) != 0 && _fifoCount >= TriggerLevel)
        {
            return IirReceivedData;
        }

        if ((_ier & IerErbfi) != 0 && _characterTimeout)
        {
            return IirCharacterTimeout;
        }

        if ((_ier & IerEtbei) != 0 && _transmitterEmptyPending)
        {
            return IirTransmitterEmpty;
        }

        return (_ier & IerEdssi) != 0 && (_msr & 0x0F) != 0 ? IirModemStatus : IirNone;
    }

    // On a PC, OUT2 switches the interrupt to the bus; loopback disconnects OUT2.
    private void UpdateInterrupt() =>
        _interrupt.Set((_mcr & (McrOut2 | McrLoop)) == McrOut2 && InterruptSource() != IirNone);

    /// <summary>A FIFO with bytes below its trigger level reports itself after four character times of silence.</summary>
    private void RestartTimeout()
    {
        _characterTimeout = false;
        if (!FifoEnabled || _fifoCount == 0)
        {
            _timeoutDeadline = NoDeadline;
            _timeoutTimer.Cancel();
            return;
        }

        const long BitsPerCharacter = 10;
        long divisor = _divisor == 0 ? 0x1_0000 : _divisor;
        _timeoutDeadline = _clock.Nanoseconds + (4 * BitsPerCharacter * divisor * 1_000_000_000 / BaudBase);
        _timeoutTimer.Arm(_timeoutDeadline);
    }

    private void OnTimeout()
    {
        if (_timeoutDeadline == NoDeadline)
        {
            return;
        }

        if (_clock.Nanoseconds < _timeoutDeadline)
        {
            _timeoutTimer.Arm(_timeoutDeadline);
            return;
        }

        _timeoutDeadline = NoDeadline;
        _characterTimeout = true;
        UpdateInterrupt();
    }

    public Serial16550State Save()
    {
        byte[] received = new byte[_fifoCount];
        for (int i = 0; i < received.Length; i++)
        {
            received[i] = _fifo[(_fifoHead + i) % FifoSize];
        }

        return new Serial16550State
        {
            Ier = _ier,
            Fcr = _fcr,
            Lcr = _lcr,
            Mcr = _mcr,
            Msr = _msr,
            Scr = _scr,
            Divisor = _divisor,
            Overrun = _overrun,
            TransmitterEmptyPending = _transmitterEmptyPending,
            CharacterTimeout = _characterTimeout,
            TimeoutDeadline = _timeoutDeadline,
            SenderWaits = _senderWaits,
            Received = received,
        };
    }

    /// <exception cref="ArgumentException">More received bytes than the FIFO holds.</exception>
    public void Restore(Serial16550State state)
    {
        if (state.Received.Length > FifoSize)
        {
            throw new ArgumentException("A 16550A holds 16 received bytes.", nameof(state));
        }

        _ier = (byte)(state.Ier & IerWritable);
        _fcr = (byte)(state.Fcr & FcrStored);
        _lcr = state.Lcr;
        _mcr = (byte)(state.Mcr & McrWritable);
        _msr = state.Msr;
        _scr = state.Scr;
        _divisor = state.Divisor;
        _overrun = state.Overrun;
        _transmitterEmptyPending = state.TransmitterEmptyPending;
        _characterTimeout = state.CharacterTimeout;
        _timeoutDeadline = state.TimeoutDeadline;
        _senderWaits = state.SenderWaits;
        _fifoHead = 0;
        _fifoCount = state.Received.Length;
        state.Received.CopyTo(_fifo, 0);
        _timeoutTimer.Cancel();
        if (_timeoutDeadline != NoDeadline)
        {
            _timeoutTimer.Arm(_timeoutDeadline);
        }

        UpdateInterrupt();
    }
}
