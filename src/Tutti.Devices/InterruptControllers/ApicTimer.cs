using Tutti.Cpu;

namespace Tutti.Devices.InterruptControllers;

/// <summary>State of a local APIC's timer; times in guest nanoseconds.</summary>
public sealed record ApicTimerState
{
    public byte Mode { get; init; }
    public uint InitialCount { get; init; }
    public uint DivideConfiguration { get; init; }

    /// <summary>When the count reaches zero; -1 while the timer stands.</summary>
    public long Expiry { get; init; }
    public ulong TscDeadline { get; init; }
    public long TscOffset { get; init; }
}

/// <summary>
/// The timer of a local APIC. Its input clock is 1 GHz, so one undivided count is one nanosecond, and the processor's
/// time-stamp counter is guest nanoseconds plus <see cref="TscOffset"/>. Source: Intel SDM volume 3, "APIC Timer".
/// </summary>
internal sealed class ApicTimer : IStatefulDevice<ApicTimerState>
{
    private const byte OneShot = 0;
    private const byte Periodic = 1;
    private const byte Deadline = 2;

    // A far deadline is approached in steps, so that adding it to the time cannot overflow.
    private const ulong LongestWait = 1UL << 60;

    private readonly IGuestClock _clock;
    private readonly IClockTimer _timer;
    private readonly Action _onExpired;
    private byte _mode;
    private uint _initialCount;
    private uint _divideConfiguration;
    private long _expiry = -1;
    private ulong _tscDeadline;
    private long _tscOffset;

    public ApicTimer(IGuestClock clock, Action onExpired)
    {
        _clock = clock;
        _onExpired = onExpired;
        _timer = clock.CreateTimer(OnTimer);
    }

    public long TscOffset
    {
        get => _tscOffset;
        set
        {
            Settle();
            _tscOffset = value;
            ArmDeadline();
        }
    }

    /// <summary>0 one-shot, 1 periodic, 2 TSC-deadline (bits 18:17 of the LVT entry); 3 is reserved and stands still.</summary>
    public byte Mode
    {
        get => _mode;
        set
        {
            if (value == _mode)
            {
                return;
            }

            Settle();
            if (value <= Periodic && _mode <= Periodic)
            {
                uint current = CurrentCount;
                _mode = value;
                GoOnFrom(current);
                return;
            }

            _mode = value;
            Stop();
        }
    }

    public uint InitialCount
    {
        get => _initialCount;
        set
        {
            if (_mode <= Periodic)
            {
                Settle();
                _initialCount = value;
                Start(value);
            }
        }
    }

    public uint CurrentCount
    {
        get
        {
            if (_expiry < 0)
            {
                return 0;
            }

            long left = _expiry - _clock.Nanoseconds;
            if (_mode != Periodic)
            {
                return left <= 0 ? 0 : (uint)(((left - 1) >> Shift) + 1);
            }

            // The expiry that is armed may be several periods away, or past and not yet noticed.
            long period = Period;
            long intoPeriod = (left % period + period) % period;
            return intoPeriod == 0 ? _initialCount : (uint)(((intoPeriod - 1) >> Shift) + 1);
        }
    }

    public uint DivideConfiguration
    {
        get => _divideConfiguration;
        set
        {
            Settle();
            uint current = CurrentCount;
            _divideConfiguration = value & 0b1011;
            GoOnFrom(current);
        }
    }

    public ulong TscDeadline
    {
        get => _mode == Deadline ? _tscDeadline : 0;
        set
        {
            if (_mode == Deadline)
            {
                Settle();
                _tscDeadline = value;
                ArmDeadline();
            }
        }
    }

    /// <summary>
    /// Does now what the timer is due to do: its event may come a little later than the moment that it stands for. So whoever changes the
    /// timer, or what becomes of its interrupt, comes before that moment or after it, never in between.
    /// </summary>
    public void Settle()
    {
        if (_mode == Deadline ? _tscDeadline != 0 && _tscDeadline <= Tsc : _expiry >= 0 && _expiry <= _clock.Nanoseconds)
        {
            _timer.Cancel();
            OnTimer();
        }
    }

    private int Shift => (int)((((_divideConfiguration & 3) | ((_divideConfiguration >> 1) & 4)) + 1) & 7);

    private long Period => (long)_initialCount << Shift;

    private ulong Tsc => (ulong)(_clock.Nanoseconds + _tscOffset);

    public void Reset()
    {
        _mode = OneShot;
        _divideConfiguration = 0;
        Stop();
    }

    private void Stop()
    {
        _timer.Cancel();
        _initialCount = 0;
        _expiry = -1;
        _tscDeadline = 0;
    }

    private void Start(uint count)
    {
        if (count == 0)
        {
            _timer.Cancel();
            _expiry = -1;
            return;
        }

        _expiry = _clock.Nanoseconds + ((long)count << Shift);
        _timer.Arm(_expiry);
    }

    // A count that is zero has expired or is about to: its interrupt must not get lost.
    private void GoOnFrom(uint count)
    {
        if (count != 0)
        {
            Start(count);
        }
    }

    private void ArmDeadline()
    {
        if (_mode != Deadline)
        {
            return;
        }

        if (_tscDeadline == 0)
        {
            _timer.Cancel();
            return;
        }

        ulong tsc = Tsc;
        if (_tscDeadline > tsc)
        {
            _timer.Arm(_clock.Nanoseconds + (long)Math.Min(_tscDeadline - tsc, LongestWait));
            return;
        }

        _timer.Cancel();
        _tscDeadline = 0;
        _onExpired();
    }

    private void OnTimer()
    {
        if (_mode == Deadline)
        {
            ArmDeadline();
            return;
        }

        long now = _clock.Nanoseconds;
        if (_expiry < 0)
        {
            return;
        }

        if (now < _expiry)
        {
            _timer.Arm(_expiry);
            return;
        }

        if (_mode == Periodic && _initialCount != 0)
        {
            long period = Period;
            long notBefore = period < TimerLimits.MinimumPeriodNanoseconds ? now + TimerLimits.MinimumPeriodNanoseconds : now;
            _expiry += (((notBefore - _expiry) / period) + 1) * period;
            _timer.Arm(_expiry);
        }
        else
        {
            _expiry = -1;
        }

        _onExpired();
    }

    public ApicTimerState Save() => new()
    {
        Mode = _mode,
        InitialCount = _initialCount,
        DivideConfiguration = _divideConfiguration,
        Expiry = _expiry,
        TscDeadline = _tscDeadline,
        TscOffset = _tscOffset,
    };

    public void Restore(ApicTimerState state)
    {
        _timer.Cancel();
        _mode = (byte)(state.Mode & 3);
        _initialCount = state.InitialCount;
        _divideConfiguration = state.DivideConfiguration & 0b1011;
        _expiry = state.Expiry;
        _tscDeadline = state.TscDeadline;
        _tscOffset = state.TscOffset;
        if (_mode == Periodic && _initialCount == 0)
        {
            _expiry = -1;
        }

        if (_expiry >= 0)
        {
            _timer.Arm(_expiry);
        }

        ArmDeadline();
    }
}
