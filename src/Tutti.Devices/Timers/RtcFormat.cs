using static Tutti.Devices.Timers.CmosRegisters;

namespace Tutti.Devices.Timers;

/// <summary>How the real-time clock writes its time: binary or BCD, 24 or 12 hours (register B).</summary>
internal readonly record struct RtcFormat(bool Binary, bool Has24Hours)
{
    public void Encode(DateTime time, Span<byte> memory)
    {
        memory[Seconds] = ToByte(time.Second);
        memory[Minutes] = ToByte(time.Minute);
        memory[Hours] = EncodeHour(time.Hour);
        memory[WeekDay] = ToByte((int)time.DayOfWeek + 1);
        memory[DayOfMonth] = ToByte(time.Day);
        memory[Month] = ToByte(time.Month);
        memory[Year] = ToByte(time.Year % 100);
        memory[Century] = ToByte(time.Year / 100);
    }

    /// <summary>Reads a time back; a field outside its range counts as the nearest value inside.</summary>
    public DateTime Decode(ReadOnlySpan<byte> memory)
    {
        int year = Math.Clamp((FromByte(memory[Century]) * 100) + FromByte(memory[Year]), 1, 9999);
        int month = Math.Clamp(FromByte(memory[Month]), 1, 12);
        int day = Math.Clamp(FromByte(memory[DayOfMonth]), 1, DateTime.DaysInMonth(year, month));
        return new DateTime(
            year,
            month,
            day,
            Math.Clamp(DecodeHour(memory[Hours]), 0, 23),
            Math.Clamp(FromByte(memory[Minutes]), 0, 59),
            Math.Clamp(FromByte(memory[Seconds]), 0, 59),
            DateTimeKind.Utc);
    }

    /// <summary>The first whole second after this time that the alarm bytes match, in ticks; -1 when no time of day does.</summary>
    public long NextAlarm(long after, byte hours, byte minutes, byte seconds)
    {
        int hour = IsDoNotCare(hours) ? -1 : DecodeHour(hours);
        int minute = IsDoNotCare(minutes) ? -1 : FromByte(minutes);
        int second = IsDoNotCare(seconds) ? -1 : FromByte(seconds);
        if (hour > 23 || minute > 59 || second > 59)
        {
            return -1;
        }

        const long SecondsPerDay = 86_400;
        long start = (after / TimeSpan.TicksPerSecond) + 1;
        long day = start / SecondsPerDay;
        int ofDay = (int)(start % SecondsPerDay);
        int next = NextOfDay(ofDay, hour, minute, second);
        if (next < 0)
        {
            day++;
            next = NextOfDay(0, hour, minute, second);
        }

        return ((day * SecondsPerDay) + next) * TimeSpan.TicksPerSecond;
    }

    // The first second of the day, from this one on, that matches; -1 stands for any value, and for no match.
    private static int NextOfDay(int from, int hour, int minute, int second)
    {
        int h = from / 3600;
        int m = from / 60 % 60;
        int s = from % 60;
        if (hour >= 0 && hour != h)
        {
            if (hour < h)
            {
                return -1;
            }

            (h, m, s) = (hour, 0, 0);
        }

        if (second >= 0 && s > second)
        {
            (m, s) = (m + 1, 0);
        }

        if (minute >= 0 && m != minute)
        {
            // A later hour is only there when any hour will do.
            h += m > minute ? 1 : 0;
            (m, s) = (minute, 0);
        }
        else if (m == 60)
        {
            (h, m) = (h + 1, 0);
        }

        bool hourLeft = hour < 0 ? h < 24 : h == hour;
        return hourLeft ? (h * 3600) + (m * 60) + (second >= 0 ? second : s) : -1;
    }

    private static bool IsDoNotCare(byte value) => (value & AlarmDoNotCare) == AlarmDoNotCare;

    private byte EncodeHour(int hour)
    {
        if (Has24Hours)
        {
            return ToByte(hour);
        }

        int twelve = hour % 12 == 0 ? 12 : hour % 12;
        return (byte)(ToByte(twelve) | (hour >= 12 ? HoursPm : 0));
    }

    private int DecodeHour(byte value)
    {
        if (Has24Hours)
        {
            return FromByte(value);
        }

        int twelve = FromByte((byte)(value & ~HoursPm));
        return twelve > 12 ? twelve : (twelve % 12) + ((value & HoursPm) != 0 ? 12 : 0);
    }

    private byte ToByte(int value) => (byte)(Binary ? value : (value / 10 << 4) | (value % 10));

    private int FromByte(byte value) => Binary ? value : ((value >> 4) * 10) + (value & 15);
}
