using Tutti.Cpu;
using static Tutti.Devices.Acpi.AcpiPmPorts;

namespace Tutti.Devices.Acpi;

/// <summary>State of the ACPI fixed hardware; <paramref name="TimerSeenTicks"/> is up to when TMR_STS has been brought up to date.</summary>
public sealed record AcpiPmState(
    ushort Pm1Status, ushort Pm1Enable, ushort Pm1Control, ushort Gpe0Status, ushort Gpe0Enable, long TimerSeenTicks);

/// <summary>
/// ACPI fixed hardware: PM1 event and control registers, PM timer, general-purpose events, power button. The machine is
/// always in ACPI mode: it has no SMI command port, and SCI_EN stays set. Map at <see cref="Base"/> with accesses of up
/// to 4 bytes. Source: ACPI Specification 6.5, 4.8.3 and 4.8.4.
/// </summary>
public sealed class AcpiPm : IPortDevice, IStatefulDevice<AcpiPmState>
{
    private const int Pm1StatusOffset = Pm1Event - Base;
    private const int Pm1EnableOffset = Pm1StatusOffset + 2;
    private const int Pm1ControlOffset = Pm1Control - Base;
    private const int PmTimerOffset = PmTimer - Base;
    private const int Gpe0StatusOffset = Gpe0 - Base;
    private const int Gpe0EnableOffset = Gpe0StatusOffset + 2;

    // TMR_STS is set each time the timer's top bit changes.
    private const long TicksPerTmrSts = 1L << 31;

    private static readonly ClockRate Rate = new(PmTimerHertz);

    private readonly IGuestClock _clock;
    private readonly IInterruptLine _sci;
    private readonly IPowerControl _power;
    private readonly IClockTimer _timer;
    private ushort _pm1Status;
    private ushort _pm1Enable;
    private ushort _pm1Control = SciEn;
    private ushort _gpe0Status;
    private ushort _gpe0Enable;
    private long _timerSeenTicks;

    public AcpiPm(IGuestClock clock, IInterruptLine sci, IPowerControl power)
    {
        _clock = clock;
        _sci = sci;
        _power = power;
        _timer = clock.CreateTimer(Update);
    }

    /// <summary>Tells the guest that somebody pressed the power button.</summary>
    public void PressPowerButton()
    {
        _pm1Status |= PwrbtnSts;
        Update();
    }

    /// <summary>Raises a general-purpose event, 0 to 15.</summary>
    public void RaiseGpe(int number)
    {
        _gpe0Status |= (ushort)(1 << number);
        Update();
    }

    public IoResult ReadPort(ushort offset, Span<byte> data)
    {
        if (offset >> 2 != PmTimerOffset >> 2)
        {
            // Guests read the timer as a clock, often: only the other registers need the status brought up to date.
            Update();
        }

        uint timer = (uint)Rate.ToTicks(_clock.Nanoseconds);
        for (int i = 0; i < data.Length; i++)
        {
            data[i] = ReadByte(offset + i, timer);
        }

        return IoResult.Ok;
    }

    public IoResult WritePort(ushort offset, ReadOnlySpan<byte> data)
    {
        Update();
        for (int i = 0; i < data.Length; i++)
        {
            WriteByte(offset + i, data[i]);
        }

        Update();
        return IoResult.Ok;
    }

    private byte ReadByte(int offset, uint timer)
    {
        uint register = (offset & ~1) switch
        {
            Pm1StatusOffset => _pm1Status,
            Pm1EnableOffset => _pm1Enable,
            Pm1ControlOffset => _pm1Control,
            PmTimerOffset => timer & 0xFFFF,
            PmTimerOffset + 2 => timer >> 16,
            Gpe0StatusOffset => _gpe0Status,
            Gpe0EnableOffset => _gpe0Enable,
            _ => 0xFFFF,
        };
        return (byte)(register >> ((offset & 1) * 8));
    }

    private void WriteByte(int offset, byte value)
    {
        int shift = (offset & 1) * 8;
        ushort written = (ushort)(value << shift);
        ushort kept = (ushort)~(0xFF << shift);
        switch (offset & ~1)
        {
            case Pm1StatusOffset:
                _pm1Status &= (ushort)~written;
                break;
            case Pm1EnableOffset:
                _pm1Enable = (ushort)(((_pm1Enable & kept) | written) & Pm1EnableBits);
                break;
            case Pm1ControlOffset:
                WritePm1Control((ushort)((_pm1Control & kept) | written));
                break;
            case Gpe0StatusOffset:
                _gpe0Status &= (ushort)~written;
                break;
            case Gpe0EnableOffset:
                _gpe0Enable = (ushort)((_gpe0Enable & kept) | written);
                break;
        }
    }

    private void WritePm1Control(ushort value)
    {
        _pm1Control = (ushort)((value & (BmRld | SlpTyp)) | SciEn);
        if ((value & SlpEn) != 0 && (value & SlpTyp) >> SlpTypShift == SleepTypeS5)
        {
            _power.PowerOff();
        }
    }

    private void Update()
    {
        long ticks = Rate.ToTicks(_clock.Nanoseconds);
        if (ticks / TicksPerTmrSts != _timerSeenTicks / TicksPerTmrSts)
        {
            _pm1Status |= TmrSts;
        }

        _timerSeenTicks = ticks;
        bool timerEnabled = (_pm1Enable & TmrSts) != 0;
        if (timerEnabled && (_pm1Status & TmrSts) == 0)
        {
            _timer.Arm(Rate.ToNanoseconds(((ticks / TicksPerTmrSts) + 1) * TicksPerTmrSts));
        }
        else
        {
            _timer.Cancel();
        }

        _sci.Set((_pm1Status & _pm1Enable & Pm1EnableBits) != 0 || (_gpe0Status & _gpe0Enable) != 0);
    }

    public AcpiPmState Save()
    {
        Update();
        return new AcpiPmState(_pm1Status, _pm1Enable, _pm1Control, _gpe0Status, _gpe0Enable, _timerSeenTicks);
    }

    public void Restore(AcpiPmState state)
    {
        _pm1Status = (ushort)(state.Pm1Status & Pm1StatusBits);
        _pm1Enable = (ushort)(state.Pm1Enable & Pm1EnableBits);
        _pm1Control = (ushort)((state.Pm1Control & (BmRld | SlpTyp)) | SciEn);
        _gpe0Status = state.Gpe0Status;
        _gpe0Enable = state.Gpe0Enable;
        _timerSeenTicks = state.TimerSeenTicks;
        Update();
    }
}
