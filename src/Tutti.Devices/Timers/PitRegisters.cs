namespace Tutti.Devices.Timers;

/// <summary>Ports and control words of the 8254, and system control port B. Source: Intel 8254 data sheet (231164); IBM PC/AT Technical Reference.</summary>
public static class PitRegisters
{
    public const ushort Port = 0x40;
    public const int PortCount = 4;
    public const int TimerIrq = 0;
    public const ushort SystemControlPortB = 0x61;

    /// <summary>Counts a second of all three counters: a third of the NTSC colour carrier, rounded.</summary>
    public const long Hertz = 1_193_182;

    internal const int ControlWord = 3;
    internal const int CounterLatchCommand = 0;
    internal const int ReadBackCommand = 3;

    internal const byte ReadBackNoCount = 0x20;
    internal const byte ReadBackNoStatus = 0x10;

    internal const byte StatusOutput = 0x80;
    internal const byte StatusNullCount = 0x40;

    internal const byte PortBTimer2Gate = 0x01;
    internal const byte PortBSpeakerData = 0x02;
    internal const byte PortBWritable = 0x0F;
    internal const byte PortBRefreshToggle = 0x10;
    internal const byte PortBTimer2Output = 0x20;
}
