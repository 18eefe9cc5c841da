using Tutti.Cpu;
using static Tutti.Devices.Timers.CmosRegisters;

namespace Tutti.Devices.Timers;

/// <summary>State of the real-time clock; times in 100 ns units.</summary>
public sealed record CmosRtcState
{
    public required byte[] Memory { get; init; }
    public required byte Index { get; init; }
    public required byte Flags { get; init; }

    /// <summary>What the clock is ahead of the machine's power-on time plus guest time.</summary>
    public required long OffsetTicks { get; init; }

    /// <summary>Up to when, in the clock's own time, the flags have been brought up to date.</summary>
    public required long SeenTicks { get; init; }

    /// <summary>The same in guest nanoseconds.</summary>
    public required long SeenNanoseconds { get; init; }
}

/// <summary>
/// The MC146818 real-time clock with 128 bytes of CMOS memory, in UTC. It follows guest time; the guest can set it.
/// Source: Motorola MC146818A data sheet.
/// </summary>
public sealed class CmosRtc : BytePortDevice, IStatefulDevice<CmosRtcState>
{
    private const byte IndexMask = 0x7F;

    // UIP rises 244 microseconds before the seconds change.
    private const long UipTicks = 2_440;

    private readonly IGuestClock _clock;
    private readonly IInterruptLine _interrupt;
    private readonly IClockTimer _timer;
    private readonly byte[] _memory = new byte[Size];
    private byte _index;
    private byte _flags;
    private long _offsetTicks;
    private long _seenTicks;
    private long _seenNanoseconds;

    /// <param name="memoryBelow4Gib">Bytes of RAM below 4 GiB, for the CMOS bytes that tell old code the memory's size.</param>
    /// <param name="memoryAbove4Gib">Bytes of RAM from 4 GiB up.</param>
    public CmosRtc(IGuestClock clock, IInterruptLine interrupt, ulong memoryBelow4Gib = 0, ulong memoryAbove4Gib = 0)
    {
        _clock = clock;
        _interrupt = interrupt;
        _timer = clock.CreateTimer(Update);
        _memory[RegisterA] = ADefault;
        _memory[RegisterB] = B24Hours;
        _seenTicks = Now;
        _seenNanoseconds = clock.Nanoseconds;
        FillMemorySizes(memoryBelow4Gib, memoryAbove4Gib);
    }

    private long Now => Math.Clamp(_clock.PowerOnTime.UtcTicks + (_clock.Nanoseconds / 100) + _offsetTicks, 0, DateTime.MaxValue.Ticks);

    private byte Control => _memory[RegisterB];

    private bool IsSetting => (Control & BSet) != 0;

    private RtcFormat Format => new((Control & BDm) != 0, (Control & B24Hours) != 0);

    /// <summary>The rate of the periodic interrupt (rate select of register A), or 0 Hz for none.</summary>
    private ClockRate PeriodicRate
    {
        get
        {
            int rate = _memory[RegisterA] & ARateSelect;

            // Rates 1 and 2 mean 256 and 128 Hz with this time base; the others halve 32,768 Hz.
            return new ClockRate(rate switch { 0 => 0, 1 or 2 => 512 >> rate, _ => 32_768 >> (rate - 1) });
        }
    }

    protected override byte ReadRegister(int offset) => offset == 1 ? ReadMemory(_index & IndexMask) : (byte)0xFF;

    protected override void WriteRegister(int offset, byte value)
    {
        if (offset == 0)
        {
            // Bit 7 masks the NMI, which nothing in this machine raises through it.
            _index = value;
        }
        else if (offset == 1)
        {
            WriteMemory(_index & IndexMask, value);
        }
    }

    private byte ReadMemory(int index)
    {
        Update();
        switch (index)
        {
            case Seconds or Minutes or Hours or (>= WeekDay and <= Year) or Century:
                if (!IsSetting)
                {
                    Format.Encode(new DateTime(Now, DateTimeKind.Utc), _memory);
                }

                return _memory[index];
            case RegisterA:
                bool updateNear = !IsSetting && Now % TimeSpan.TicksPerSecond >= TimeSpan.TicksPerSecond - UipTicks;
                return (byte)(_memory[RegisterA] | (updateNear ? AUip : 0));
            case RegisterC:
                byte flags = (byte)(_flags | (InterruptPending ? CIrqf : 0));
                _flags = 0;
                Update();
                return flags;
            case RegisterD:
                return DVrt;
            default:
                return _memory[index];
        }
    }

    private void WriteMemory(int index, byte value)
    {
        Update();
        switch (index)
        {
            case Seconds or Minutes or Hours or (>= WeekDay and <= Year) or Century:
                WriteTime(index, value);
                break;
            case RegisterA:
                _memory[RegisterA] = (byte)(value & ~AUip);
                break;
            case RegisterB:
                WriteRegisterB(value);
                break;
            case RegisterC or RegisterD:
                break;
            default:
                _memory[index] = value;
                break;
        }

        Update();
    }

    private void WriteTime(int index, byte value)
    {
        if (!IsSetting)
        {
            Format.Encode(new DateTime(Now, DateTimeKind.Utc), _memory);
        }

        _memory[index] = value;
        if (!IsSetting)
        {
            SetClock();
        }
    }

    private void WriteRegisterB(byte value)
    {
        bool wasSetting = IsSetting;
        if (!wasSetting && (value & BSet) != 0)
        {
            // From now on the time stands still in the registers, in the format of the old register B.
            Format.Encode(new DateTime(Now, DateTimeKind.Utc), _memory);
        }

        // Setting the clock turns the update interrupt off.
        _memory[RegisterB] = (value & BSet) != 0 ? (byte)(value & ~BUie) : value;
        if (wasSetting && !IsSetting)
        {
            SetClock();
        }
    }

    // What the guest wrote becomes the time; the fraction of the second goes on.
    private void SetClock()
    {
        long now = Now;
        long wanted = Format.Decode(_memory).Ticks + (now % TimeSpan.TicksPerSecond);
        _offsetTicks += wanted - now;
        _seenTicks = wanted;
    }

    private bool InterruptPending => (_flags & Control & (CPf | CAf | CUf)) != 0;

    /// <summary>Raises the flags of what has come to pass since the last look, and arms the timer for what can interrupt next.</summary>
    private void Update()
    {
        long now = Now;
        long guestTime = _clock.Nanoseconds;
        ClockRate periodic = PeriodicRate;
        if (periodic.ToTicks(guestTime) > periodic.ToTicks(_seenNanoseconds))
        {
            _flags |= CPf;
        }

        if (!IsSetting)
        {
            if (now / TimeSpan.TicksPerSecond > _seenTicks / TimeSpan.TicksPerSecond)
            {
                _flags |= CUf;
            }

            long alarm = NextAlarm(_seenTicks);
            if (alarm >= 0 && alarm <= now)
            {
                _flags |= CAf;
            }
        }

        _seenTicks = now;
        _seenNanoseconds = guestTime;
        _interrupt.Set(InterruptPending);
        ArmTimer(now, guestTime, periodic);
    }

    private void ArmTimer(long now, long guestTime, ClockRate periodic)
    {
        // A pending interrupt stays so until register C is read: nothing new can show before that.
        if (InterruptPending)
        {
            _timer.Cancel();
            return;
        }

        long next = long.MaxValue;
        if ((Control & BPie) != 0 && periodic.Hertz != 0)
        {
            next = periodic.ToNanoseconds(periodic.ToTicks(guestTime) + 1);
        }

        if ((Control & BUie) != 0 && !IsSetting)
        {
            next = Math.Min(next, GuestTimeOf(((now / TimeSpan.TicksPerSecond) + 1) * TimeSpan.TicksPerSecond, now, guestTime));
        }

        if ((Control & BAie) != 0 && !IsSetting && NextAlarm(now) is >= 0 and var alarm)
        {
            next = Math.Min(next, GuestTimeOf(alarm, now, guestTime));
        }

        if (next == long.MaxValue)
        {
            _timer.Cancel();
        }
        else
        {
            _timer.Arm(next);
        }
    }

    // The clock stands at the end of the calendar; what would come after it never comes.
    private static long GuestTimeOf(long clockTicks, long now, long guestTime) => clockTicks > DateTime.MaxValue.Ticks
        ? long.MaxValue
        : ((guestTime / 100) + (clockTicks - now)) * 100;

    /// <summary>The first second after this time that the alarm bytes match, or -1 when none does.</summary>
    private long NextAlarm(long after) => Format.NextAlarm(
        after, _memory[HoursAlarm], _memory[MinutesAlarm], _memory[SecondsAlarm]);

    private void FillMemorySizes(ulong below4Gib, ulong above4Gib)
    {
        const ulong Kib = 1024;
        const ulong Mib = 1024 * Kib;
        WriteSize(BaseMemoryKib, Math.Min(below4Gib / Kib, 640), 2);
        ulong extended = below4Gib > Mib ? Math.Min((below4Gib - Mib) / Kib, 0xFFFF) : 0;
        WriteSize(ExtendedMemoryKib, extended, 2);
        WriteSize(ExtendedMemoryKibCopy, extended, 2);
        WriteSize(MemoryAbove16MibIn64Kib, below4Gib > 16 * Mib ? Math.Min((below4Gib - (16 * Mib)) / (64 * Kib), 0xFFFF) : 0, 2);
        WriteSize(MemoryAbove4GibIn64Kib, Math.Min(above4Gib / (64 * Kib), 0xFF_FFFF), 3);
    }

    private void WriteSize(int index, ulong value, int bytes)
    {
        for (int i = 0; i < bytes; i++)
        {
            _memory[index + i] = (byte)(value >> (8 * i));
        }
    }

    public CmosRtcState Save()
    {
        Update();
        return new CmosRtcState
        {
            Memory = (byte[])_memory.Clone(),
            Index = _index,
            Flags = _flags,
            OffsetTicks = _offsetTicks,
            SeenTicks = _seenTicks,
            SeenNanoseconds = _seenNanoseconds,
        };
    }

    /// <exception cref="ArgumentException">Not 128 bytes of memory.</exception>
    public void Restore(CmosRtcState state)
    {
        if (state.Memory.Length != Size)
        {
            throw new ArgumentException("The CMOS memory has 128 bytes.", nameof(state));
        }

        state.Memory.CopyTo(_memory, 0);
        _index = state.Index;
        _flags = state.Flags;
        _offsetTicks = state.OffsetTicks;
        _seenTicks = Math.Clamp(state.SeenTicks, 0, DateTime.MaxValue.Ticks);
        _seenNanoseconds = state.SeenNanoseconds;
        Update();
    }
}
