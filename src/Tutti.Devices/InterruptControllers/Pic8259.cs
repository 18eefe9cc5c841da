using static Tutti.Devices.InterruptControllers.Pic8259Registers;

namespace Tutti.Devices.InterruptControllers;

/// <summary>State of one 8259A.</summary>
public sealed record Pic8259State
{
    public byte Lines { get; init; }
    public byte Irr { get; init; }
    public byte Imr { get; init; }
    public byte Isr { get; init; }
    public byte Elcr { get; init; }
    public byte VectorBase { get; init; }
    public byte HighestPriority { get; init; }

    /// <summary>The initialisation command word that comes next: 2, 3 or 4; 0 when initialised.</summary>
    public byte NextIcw { get; init; }
    public bool ExpectsIcw4 { get; init; }
    public bool AutoEoi { get; init; }
    public bool RotateOnAutoEoi { get; init; }
    public bool SpecialMask { get; init; }
    public bool SpecialFullyNested { get; init; }
    public bool Poll { get; init; }
    public bool ReadIsr { get; init; }
}

/// <summary>
/// One 8259A interrupt controller at two ports. An edge input that falls before it is acknowledged withdraws its request,
/// as on the chip. Source: Intel 8259A data sheet (231468).
/// </summary>
public sealed class Pic8259 : BytePortDevice, IStatefulDevice<Pic8259State>
{
    private readonly bool _isMaster;
    private readonly byte _elcrMask;
    private readonly Action _outputMayHaveChanged;
    private byte _lines;
    private byte _irr;
    private byte _imr;
    private byte _isr;
    private byte _elcr;
    private byte _vectorBase;
    private int _highestPriority;
    private int _nextIcw;
    private bool _expectsIcw4;
    private bool _autoEoi;
    private bool _rotateOnAutoEoi;
    private bool _specialMask;
    private bool _specialFullyNested;
    private bool _poll;
    private bool _readIsr;

    internal Pic8259(bool isMaster, byte levelTriggered, Action outputMayHaveChanged)
    {
        _isMaster = isMaster;
        _elcrMask = isMaster ? MasterElcrMask : SlaveElcrMask;
        _elcr = (byte)(levelTriggered & _elcrMask);
        _outputMayHaveChanged = outputMayHaveChanged;
    }

    /// <summary>Whether the chip asks for an interrupt (INT pin).</summary>
    internal bool Output => PendingInput() >= 0;

    internal byte Elcr
    {
        get => _elcr;
        set
        {
            _elcr = (byte)(value & _elcrMask);
            _irr = (byte)((_irr & ~_elcr) | (_lines & _elcr));
            _outputMayHaveChanged();
        }
    }

    internal byte VectorBase => _vectorBase;

    internal void SetInput(int input, bool asserted)
    {
        byte bit = (byte)(1 << input);
        bool wasAsserted = (_lines & bit) != 0;
        if (wasAsserted == asserted)
        {
            return;
        }

        if (asserted)
        {
            _lines |= bit;
            _irr |= bit;
        }
        else
        {
            _lines &= (byte)~bit;
            _irr &= (byte)~bit;
        }

        _outputMayHaveChanged();
    }

    /// <summary>Moves the most urgent request into service and returns its input, or -1 when there is none.</summary>
    internal int Take()
    {
        int input = PendingInput();
        if (input < 0)
        {
            return -1;
        }

        byte bit = (byte)(1 << input);
        if (!_autoEoi)
        {
            _isr |= bit;
        }
        else if (_rotateOnAutoEoi)
        {
            _highestPriority = (input + 1) & 7;
        }

        if ((_elcr & bit) == 0)
        {
            _irr &= (byte)~bit;
        }

        _outputMayHaveChanged();
        return input;
    }

    protected override byte ReadRegister(int offset)
    {
        if (_poll)
        {
            // A read after the poll command stands for the processor's acknowledge cycles.
            _poll = false;
            int input = Take();
            return input < 0 ? (byte)0 : (byte)(0x80 | input);
        }

        return offset switch
        {
            0 => _readIsr ? _isr : _irr,
            1 => _imr,
            _ => 0xFF,
        };
    }

    protected override void WriteRegister(int offset, byte value)
    {
        if (offset == 0)
        {
            WriteCommand(value);
        }
        else if (offset == 1)
        {
            WriteData(value);
        }

        _outputMayHaveChanged();
    }

    private void WriteCommand(byte value)
    {
        if ((value & Icw1Select) != 0)
        {
            BeginInitialisation(value);
        }
        else if ((value & Ocw3Select) != 0)
        {
            WriteOcw3(value);
        }
        else
        {
            WriteOcw2(value);
        }
    }

    private void BeginInitialisation(byte icw1)
    {
        // The edge sense circuit is reset: an edge input must rise again to be seen.
        _irr = (byte)(_lines & _elcr);
        _imr = 0;
        _isr = 0;
        _highestPriority = 0;
        _autoEoi = false;
        _rotateOnAutoEoi = false;
        _specialMask = false;
        _specialFullyNested = false;
        _poll = false;
        _readIsr = false;
        _expectsIcw4 = (icw1 & Icw1Ic4) != 0;
        _nextIcw = 2;
    }

    private void WriteData(byte value)
    {
        switch (_nextIcw)
        {
            case 2:
                _vectorBase = (byte)(value & 0xF8);
                _nextIcw = 3;
                break;
            case 3:
                // The cascade is wired: what ICW3 says of it changes nothing.
                _nextIcw = _expectsIcw4 ? 4 : 0;
                break;
            case 4:
                _autoEoi = (value & Icw4Aeoi) != 0;
                _specialFullyNested = (value & Icw4Sfnm) != 0;
                _nextIcw = 0;
                break;
            default:
                _imr = value;
                break;
        }
    }

    private void WriteOcw3(byte value)
    {
        if ((value & Ocw3EnableSpecialMask) != 0)
        {
            _specialMask = (value & Ocw3SpecialMask) != 0;
        }

        if ((value & Ocw3Poll) != 0)
        {
            _poll = true;
        }

        if ((value & Ocw3ReadRegister) != 0)
        {
            _readIsr = (value & Ocw3ReadIsr) != 0;
        }
    }

    private void WriteOcw2(byte value)
    {
        int level = value & 7;
        switch (value >> 5)
        {
            case 0b000:
                _rotateOnAutoEoi = false;
                break;
            case 0b100:
                _rotateOnAutoEoi = true;
                break;
            case 0b001:
                EndNonSpecific(rotate: false);
                break;
            case 0b101:
                EndNonSpecific(rotate: true);
                break;
            case 0b011:
                _isr &= (byte)~(1 << level);
                break;
            case 0b111:
                _isr &= (byte)~(1 << level);
                _highestPriority = (level + 1) & 7;
                break;
            case 0b110:
                _highestPriority = (level + 1) & 7;
                break;
        }
    }

    private void EndNonSpecific(bool rotate)
    {
        int rank = RankOfHighest(_specialMask ? _isr & ~_imr : _isr);
        if (rank == 8)
        {
            return;
        }

        int input = (rank + _highestPriority) & 7;
        _isr &= (byte)~(1 << input);
        if (rotate)
        {
            _highestPriority = (input + 1) & 7;
        }
    }

    private int PendingInput()
    {
        int request = RankOfHighest(_irr & ~_imr);
        if (request == 8 || _nextIcw != 0)
        {
            return -1;
        }

        int inService = _isr;
        if (_specialMask)
        {
            inService &= ~_imr;
        }

        if (_specialFullyNested && _isMaster)
        {
            inService &= ~(1 << CascadeInput);
        }

        return request < RankOfHighest(inService) ? (request + _highestPriority) & 7 : -1;
    }

    private int RankOfHighest(int inputs)
    {
        for (int rank = 0; rank < 8; rank++)
        {
            if ((inputs & (1 << ((rank + _highestPriority) & 7))) != 0)
            {
                return rank;
            }
        }

        return 8;
    }

    public Pic8259State Save() => new()
    {
        Lines = _lines,
        Irr = _irr,
        Imr = _imr,
        Isr = _isr,
        Elcr = _elcr,
        VectorBase = _vectorBase,
        HighestPriority = (byte)_highestPriority,
        NextIcw = (byte)_nextIcw,
        ExpectsIcw4 = _expectsIcw4,
        AutoEoi = _autoEoi,
        RotateOnAutoEoi = _rotateOnAutoEoi,
        SpecialMask = _specialMask,
        SpecialFullyNested = _specialFullyNested,
        Poll = _poll,
        ReadIsr = _readIsr,
    };

    public void Restore(Pic8259State state)
    {
        _lines = state.Lines;
        _irr = state.Irr;
        _imr = state.Imr;
        _isr = state.Isr;
        _elcr = (byte)(state.Elcr & _elcrMask);
        _vectorBase = (byte)(state.VectorBase & 0xF8);
        _highestPriority = state.HighestPriority & 7;
        _nextIcw = state.NextIcw <= 4 ? state.NextIcw : 0;
        _expectsIcw4 = state.ExpectsIcw4;
        _autoEoi = state.AutoEoi;
        _rotateOnAutoEoi = state.RotateOnAutoEoi;
        _specialMask = state.SpecialMask;
        _specialFullyNested = state.SpecialFullyNested;
        _poll = state.Poll;
        _readIsr = state.ReadIsr;
        _outputMayHaveChanged();
    }
}
