using Tutti.Cpu;
using static Tutti.Devices.Timers.PitRegisters;

namespace Tutti.Devices.Timers;

/// <summary>State of the 8254; <paramref name="Rise"/> is the tick at which counter 0 interrupts next, -1 for never.</summary>
public sealed record Pit8254State(PitCounterState Counter0, PitCounterState Counter1, PitCounterState Counter2, bool TimerLine, long Rise);

/// <summary>
/// The 8254 interval timer at 1.193182 MHz: counter 0 drives IRQ 0, counter 2 hangs on system control port B. Periods
/// below <see cref="TimerLimits.MinimumPeriodNanoseconds"/> count right but interrupt more seldom.
/// Source: Intel 8254 data sheet (231164).
/// </summary>
public sealed class Pit8254 : BytePortDevice, IStatefulDevice<Pit8254State>
{
    private static readonly ClockRate Rate = new(Hertz);

    private readonly IGuestClock _clock;
    private readonly IInterruptLine _timerLine;
    private readonly IClockTimer _timer;
    private readonly PitCounter[] _counters = [new(), new(), new()];
    private bool _timerLineAsserted;
    private long _rise = -1;

    public Pit8254(IGuestClock clock, IInterruptLine timerLine)
    {
        _clock = clock;
        _timerLine = timerLine;
        _timer = clock.CreateTimer(OnTimer);
        _counters[2].SetGate(false, 0);
    }

    /// <summary>GATE 2, which system control port B drives.</summary>
    internal bool Gate2
    {
        get => _counters[2].Gate;
        set => _counters[2].SetGate(value, Now);
    }

    /// <summary>OUT 2, which system control port B shows.</summary>
    internal bool Output2 => _counters[2].Output(Now);

    private long Now => Rate.ToTicks(_clock.Nanoseconds);

    protected override byte ReadRegister(int offset) => offset < ControlWord ? _counters[offset].Read(Now) : (byte)0xFF;

    protected override void WriteRegister(int offset, byte value)
    {
        if (offset < ControlWord)
        {
            if (_counters[offset].Write(value, Now) && offset == 0)
            {
                UpdateTimer();
            }
        }
        else if (offset == ControlWord)
        {
            WriteControlWord(value);
        }
    }

    private void WriteControlWord(byte value)
    {
        int counter = value >> 6;
        if (counter == ReadBackCommand)
        {
            ReadBack(value);
        }
        else if (((value >> 4) & 3) == CounterLatchCommand)
        {
            _counters[counter].LatchCount(Now);
        }
        else
        {
            _counters[counter].WriteControl(value);
            if (counter == 0)
            {
                UpdateTimer();
            }
        }
    }

    private void ReadBack(byte value)
    {
        long now = Now;
        for (int i = 0; i < _counters.Length; i++)
        {
            if ((value & (2 << i)) == 0)
            {
                continue;
            }

            if ((value & ReadBackNoCount) == 0)
            {
                _counters[i].LatchCount(now);
            }

            if ((value & ReadBackNoStatus) == 0)
            {
                _counters[i].LatchStatus(now);
            }
        }
    }

    // Mode 2 and the strobes are low for a single tick, which no guest could see on the line: there it stays high
    // between rises. Only where a rise may be long off, before mode 0 and 1 have run out, does the line show low.
    private void UpdateTimer()
    {
        long now = Now;
        SetTimerLine(_counters[0].Period != 0 || _counters[0].Output(now));
        Arm(_counters[0].NextRise(now));
    }

    private void Arm(long rise)
    {
        _rise = rise;
        if (rise < 0)
        {
            _timer.Cancel();
            return;
        }

        _timer.Arm(Rate.ToNanoseconds(rise));
    }

    private void OnTimer()
    {
        long now = Now;
        if (_rise < 0 || now < _rise)
        {
            // The guest changed the counter while this expiry was on its way.
            Arm(_rise);
            return;
        }

        SetTimerLine(false);
        SetTimerLine(true);

        // A period shorter than the limit skips rises, as an interrupt controller that is slow to acknowledge would.
        long rise = _counters[0].NextRise(now);
        long period = _counters[0].Period;
        long notBefore = now + Rate.ToTicks(TimerLimits.MinimumPeriodNanoseconds) + 1;
        if (period != 0 && period < notBefore - now && rise < notBefore)
        {
            rise += (((notBefore - rise - 1) / period) + 1) * period;
        }

        Arm(rise);
    }

    private void SetTimerLine(bool asserted)
    {
        _timerLineAsserted = asserted;
        _timerLine.Set(asserted);
    }

    public Pit8254State Save() => new(_counters[0].Save(), _counters[1].Save(), _counters[2].Save(), _timerLineAsserted, _rise);

    public void Restore(Pit8254State state)
    {
        _counters[0].Restore(state.Counter0);
        _counters[1].Restore(state.Counter1);
        _counters[2].Restore(state.Counter2);
        SetTimerLine(state.TimerLine);
        Arm(state.Rise);
    }
}
