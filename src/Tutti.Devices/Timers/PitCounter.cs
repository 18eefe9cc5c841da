using static Tutti.Devices.Timers.PitRegisters;

namespace Tutti.Devices.Timers;

/// <summary>State of one counter of the 8254; ticks are those of its clock.</summary>
public sealed record PitCounterState
{
    /// <summary>Bits 5:0 of the control word: access, mode, BCD.</summary>
    public byte Control { get; init; }
    public bool Gate { get; init; }

    /// <summary>The count in use, 1 to 65536; 0 before the first is loaded.</summary>
    public int Count { get; init; }

    /// <summary>A count that takes over when the present period ends; 0 for none.</summary>
    public int NextCount { get; init; }

    /// <summary>A count that waits for a trigger (modes 1 and 5); 0 for none.</summary>
    public int ArmedCount { get; init; }
    public bool Running { get; init; }

    /// <summary>The tick at which the count was loaded; ticks counted so far while not running.</summary>
    public long Origin { get; init; }
    public bool ReadsHigh { get; init; }
    public bool WritesHigh { get; init; }
    public byte WrittenLow { get; init; }
    public int? LatchedCount { get; init; }
    public byte? LatchedStatus { get; init; }
}

/// <summary>
/// One counter of the 8254. Its value and output are worked out from the time that has passed, so a count costs nothing
/// and a pause of any length is caught up in one step. Source: Intel 8254 data sheet (231164), "Mode Definitions".
/// </summary>
internal sealed class PitCounter : IStatefulDevice<PitCounterState>
{
    private const int AccessLow = 1;
    private const int AccessBoth = 3;

    private byte _control = 0x30;
    private bool _gate = true;
    private int _count;
    private int _nextCount;
    private int _armedCount;
    private bool _running;
    private long _origin;
    private bool _readsHigh;
    private bool _writesHigh;
    private byte _writtenLow;
    private int? _latchedCount;
    private byte? _latchedStatus;

    private int Access => (_control >> 4) & 3;

    /// <summary>0 to 5; the chip takes 6 and 7 for 2 and 3.</summary>
    private int Mode
    {
        get
        {
            int mode = (_control >> 1) & 7;
            return mode > 5 ? mode - 4 : mode;
        }
    }

    private bool IsBcd => (_control & 1) != 0;

    private bool IsPeriodic => Mode is 2 or 3;

    private bool IsTriggered => Mode is 1 or 5;

    private int FullCount => IsBcd ? 10_000 : 0x1_0000;

    public void WriteControl(byte control)
    {
        _control = (byte)(control & 0x3F);
        _count = 0;
        _nextCount = 0;
        _armedCount = 0;
        _running = false;
        _origin = 0;
        _readsHigh = false;
        _writesHigh = false;
        _latchedCount = null;
        _latchedStatus = null;
    }

    public void LatchCount(long now) => _latchedCount ??= Value(now);

    public void LatchStatus(long now) =>
        _latchedStatus ??= (byte)(_control | (Output(now) ? StatusOutput : 0) | (IsNullCount(now) ? StatusNullCount : 0));

    public byte Read(long now)
    {
        if (_latchedStatus is { } status)
        {
            _latchedStatus = null;
            return status;
        }

        int value = _latchedCount ?? Value(now);
        bool high = Access == AccessBoth ? _readsHigh : Access != AccessLow;
        if (Access == AccessBoth && !_readsHigh)
        {
            _readsHigh = true;
        }
        else
        {
            _readsHigh = false;
            _latchedCount = null;
        }

        return (byte)(high ? value >> 8 : value);
    }

    /// <summary>Writes a byte of the count; true when the counting may have changed.</summary>
    public bool Write(byte value, long now)
    {
        if (Access == AccessBoth && !_writesHigh)
        {
            _writtenLow = value;
            _writesHigh = true;
            if (Mode == 0)
            {
                // In mode 0 the first byte stops the counting and takes the output low.
                _running = false;
                _count = 0;
                return true;
            }

            return false;
        }

        int written = Access switch
        {
            AccessLow => value,
            AccessBoth => _writtenLow | (value << 8),
            _ => value << 8,
        };
        _writesHigh = false;
        Load(FromWritten(written), now);
        return true;
    }

    public bool Gate => _gate;

    public void SetGate(bool gate, long now)
    {
        if (gate == _gate)
        {
            return;
        }

        Settle(now);
        _gate = gate;
        switch (Mode)
        {
            case 0 or 4:
                if (_count != 0)
                {
                    // The gate stops and resumes: the origin turns from a time into ticks counted, and back.
                    _origin = now - _origin;
                    _running = gate;
                }

                break;
            case 1 or 5 when gate && (_armedCount != 0 || _count != 0):
                _count = _armedCount != 0 ? _armedCount : _count;
                _armedCount = 0;
                Start(now);
                break;
            case 2 or 3 when gate && _count != 0:
                _count = _nextCount != 0 ? _nextCount : _count;
                _nextCount = 0;
                Start(now);
                break;
            case 2 or 3:
                _origin = now - _origin;
                _running = false;
                break;
        }
    }

    /// <summary>The OUT pin.</summary>
    public bool Output(long now)
    {
        Settle(now);
        if (_count == 0)
        {
            return Mode != 0;
        }

        if (IsPeriodic && !_running)
        {
            return true;
        }

        long elapsed = Elapsed(now);
        return Mode switch
        {
            0 or 1 => elapsed >= _count,
            2 => elapsed % _count != _count - 1,
            3 => elapsed % _count < (_count + 1) / 2,
            _ => elapsed != _count,
        };
    }

    /// <summary>The first tick after <paramref name="now"/> at which OUT rises, or -1 when it will not.</summary>
    public long NextRise(long now)
    {
        Settle(now);
        if (!_running || _count == 0)
        {
            return -1;
        }

        long elapsed = Elapsed(now);
        if (IsPeriodic)
        {
            return _origin + (((elapsed / _count) + 1) * _count);
        }

        // The strobe of modes 4 and 5 is low for one tick after the count has run out.
        long rise = Mode is 4 or 5 ? _count + 1 : _count;
        return elapsed < rise ? _origin + rise : -1;
    }

    /// <summary>Ticks from one rise of OUT to the next, or 0 when it rises once.</summary>
    public long Period => IsPeriodic ? _count : 0;

    private void Load(int count, long now)
    {
        Settle(now);
        if (IsTriggered)
        {
            _armedCount = count;
        }
        else if (IsPeriodic && _count != 0)
        {
            if (_running)
            {
                // From here on the origin is the start of the present period, at whose end the new count takes over.
                _origin = now - (Elapsed(now) % _count);
            }

            _nextCount = count;
        }
        else
        {
            _count = count;
            Start(now);
        }
    }

    private void Start(long now)
    {
        bool gated = IsTriggered || _gate;
        _running = gated;
        _origin = gated ? now : 0;
    }

    // Brings a count that was written during a period into use at the period's end. (The chip changes over after half
    // a period in mode 3; the difference is one half wave.)
    private void Settle(long now)
    {
        if (_nextCount == 0 || !_running || now - _origin < _count)
        {
            return;
        }

        _origin += _count;
        _count = _nextCount;
        _nextCount = 0;
    }

    private long Elapsed(long now) => _running ? Math.Max(now - _origin, 0) : Math.Max(_origin, 0);

    private bool IsNullCount(long now)
    {
        Settle(now);
        return _count == 0 || _nextCount != 0 || _armedCount != 0;
    }

    private int FromWritten(int written)
    {
        int count = written;
        if (IsBcd)
        {
            // Digits above 9 are undefined; they count as their value.
            count = (((written >> 12) * 1000) + (((written >> 8) & 15) * 100) + (((written >> 4) & 15) * 10) + (written & 15)) % 10_000;
        }

        // Zero is the longest count; one is not allowed in modes 2 and 3.
        return count == 0 ? FullCount : IsPeriodic ? Math.Max(count, 2) : count;
    }

    private int Value(long now)
    {
        Settle(now);
        if (_count == 0)
        {
            return 0;
        }

        long elapsed = Elapsed(now);
        long value = Mode switch
        {
            2 => _count - (elapsed % _count),
            3 => SquareWaveValue(elapsed % _count),
            _ => _count - elapsed,
        };
        int wrapped = (int)(((value % FullCount) + FullCount) % FullCount);
        return IsBcd ? ToBcd(wrapped) : wrapped;
    }

    // Mode 3 counts down by two, through both halves of the wave; an odd count is longer by one in its high half.
    private long SquareWaveValue(long phase)
    {
        int highHalf = (_count + 1) / 2;
        return (_count & ~1) - (2 * (phase < highHalf ? phase : phase - highHalf));
    }

    private static int ToBcd(int value) =>
        (value / 1000 % 10 << 12) | (value / 100 % 10 << 8) | (value / 10 % 10 << 4) | (value % 10);

    public PitCounterState Save() => new()
    {
        Control = _control,
        Gate = _gate,
        Count = _count,
        NextCount = _nextCount,
        ArmedCount = _armedCount,
        Running = _running,
        Origin = _origin,
        ReadsHigh = _readsHigh,
        WritesHigh = _writesHigh,
        WrittenLow = _writtenLow,
        LatchedCount = _latchedCount,
        LatchedStatus = _latchedStatus,
    };

    public void Restore(PitCounterState state)
    {
        _control = (byte)(state.Control & 0x3F);
        _gate = state.Gate;
        _count = Math.Clamp(state.Count, 0, 0x1_0000);
        _nextCount = Math.Clamp(state.NextCount, 0, 0x1_0000);
        _armedCount = Math.Clamp(state.ArmedCount, 0, 0x1_0000);
        _running = state.Running;
        _origin = state.Origin;
        _readsHigh = state.ReadsHigh;
        _writesHigh = state.WritesHigh;
        _writtenLow = state.WrittenLow;
        _latchedCount = state.LatchedCount;
        _latchedStatus = state.LatchedStatus;
    }
}
