namespace Tutti.Devices.Serial;

/// <summary>Registers of the 16550A. Source: National Semiconductor PC16550D data sheet.</summary>
public static class Serial16550Registers
{
    public const int PortCount = 8;
    public const ushort Com1Port = 0x3F8;
    public const int Com1Irq = 4;
    public const ushort Com2Port = 0x2F8;
    public const int Com2Irq = 3;
    public const ushort Com3Port = 0x3E8;
    public const int Com3Irq = 4;
    public const ushort Com4Port = 0x2E8;
    public const int Com4Irq = 3;

    /// <summary>Bytes that the receiver's FIFO holds.</summary>
    public const int FifoSize = 16;

    // Offsets. RBR/THR and IER give way to the divisor latch while LCR.DLAB is set; IIR is read, FCR written.
    internal const int Rbr = 0;
    internal const int Ier = 1;
    internal const int Iir = 2;
    internal const int Lcr = 3;
    internal const int Mcr = 4;
    internal const int Lsr = 5;
    internal const int Msr = 6;
    internal const int Scr = 7;

    internal const byte IerErbfi = 0x01;
    internal const byte IerEtbei = 0x02;
    internal const byte IerElsi = 0x04;
    internal const byte IerEdssi = 0x08;
    internal const byte IerWritable = 0x0F;

    internal const byte IirNone = 0x01;
    internal const byte IirModemStatus = 0x00;
    internal const byte IirTransmitterEmpty = 0x02;
    internal const byte IirReceivedData = 0x04;
    internal const byte IirLineStatus = 0x06;
    internal const byte IirCharacterTimeout = 0x0C;
    internal const byte IirFifosEnabled = 0xC0;

    internal const byte FcrEnable = 0x01;
    internal const byte FcrResetReceiver = 0x02;
    internal const byte FcrStored = 0xC9;

    internal const byte LcrWordLength = 0x03;
    internal const byte LcrDlab = 0x80;

    internal const byte McrDtr = 0x01;
    internal const byte McrRts = 0x02;
    internal const byte McrOut1 = 0x04;
    internal const byte McrOut2 = 0x08;
    internal const byte McrLoop = 0x10;
    internal const byte McrWritable = 0x1F;

    internal const byte LsrDr = 0x01;
    internal const byte LsrOe = 0x02;
    internal const byte LsrThre = 0x20;
    internal const byte LsrTemt = 0x40;

    internal const byte MsrTeri = 0x04;
    internal const byte MsrCts = 0x10;
    internal const byte MsrDsr = 0x20;
    internal const byte MsrRi = 0x40;
    internal const byte MsrDcd = 0x80;

    /// <summary>Input clock divided by 16: the bit rate with divisor 1.</summary>
    internal const long BaudBase = 115_200;
}
