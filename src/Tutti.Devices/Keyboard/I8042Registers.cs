namespace Tutti.Devices.Keyboard;

/// <summary>Ports, status bits and commands of the keyboard controller. Source: IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller".</summary>
public static class I8042Registers
{
    public const ushort DataPort = 0x60;
    public const ushort CommandPort = 0x64;
    public const ushort SystemControlPortA = 0x92;
    public const int KeyboardIrq = 1;

    internal const byte StatusObf = 0x01;
    internal const byte StatusSystemFlag = 0x04;
    internal const byte StatusCommand = 0x08;
    internal const byte StatusUnlocked = 0x10;

    internal const byte ConfigKeyboardInterrupt = 0x01;
    internal const byte ConfigSystemFlag = 0x04;
    internal const byte ConfigKeyboardDisabled = 0x10;
    internal const byte ConfigAuxDisabled = 0x20;
    internal const byte ConfigTranslate = 0x40;

    internal const byte OutputPortReset = 0x01;
    internal const byte OutputPortA20 = 0x02;

    internal const byte SelfTestPassed = 0x55;
    internal const byte KeyboardTestPassed = 0x00;
    internal const byte AuxClockStuckLow = 0x01;

    internal const byte KeyboardAck = 0xFA;
    internal const byte KeyboardResend = 0xFE;
    internal const byte KeyboardSelfTestPassed = 0xAA;
    internal const byte KeyboardEcho = 0xEE;
}
