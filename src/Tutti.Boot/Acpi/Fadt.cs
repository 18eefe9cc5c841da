namespace Tutti.Boot.Acpi;

/// <summary>Fixed ACPI Description Table, revision 6. Source: ACPI specification 6.5, 5.2.9.</summary>
internal static class Fadt
{
    private const byte Pm1EventLength = 4;
    private const byte Pm1ControlLength = 2;
    private const byte PmTimerLength = 4;

    // IAPC_BOOT_ARCH
    private const ushort LegacyDevices = 1 << 0;
    private const ushort KeyboardController8042 = 1 << 1;
    private const ushort VgaNotPresent = 1 << 2;

    // Flags. PWR_BUTTON (4) clear: a fixed power button. TMR_VAL_EXT (8) clear: 24 timer bits, which holds for a 32-bit timer too.
    private const uint WriteBackInvalidate = 1 << 0;
    private const uint ProcessorC1 = 1 << 2;
    private const uint SleepButtonNotFixed = 1 << 5;
    private const uint RtcWakeNotFixed = 1 << 6;
    private const uint ResetRegisterSupported = 1 << 10;

    public static byte[] Build(AcpiHardware hardware, uint facs, uint dsdt)
    {
        TableWriter fadt = new("FACP", 6);
        fadt.U32(facs);
        fadt.U32(dsdt);
        fadt.U8(0);
        fadt.U8(0); // Preferred_PM_Profile: unspecified
        fadt.U16(hardware.SciInterrupt);
        fadt.PadTo(56); // SMI_CMD 0: the machine is in ACPI mode from the start
        fadt.U32(hardware.Pm1EventPort);
        fadt.U32(0);
        fadt.U32(hardware.Pm1ControlPort);
        fadt.U32(0);
        fadt.U32(0);
        fadt.U32(hardware.PmTimerPort);
        fadt.U32(hardware.Gpe0Port);
        fadt.U32(0);
        fadt.U8(Pm1EventLength);
        fadt.U8(Pm1ControlLength);
        fadt.U8(0);
        fadt.U8(PmTimerLength);
        fadt.U8(hardware.Gpe0Length);
        fadt.PadTo(96);
        fadt.U16(101); // P_LVL2_LAT above 100: no C2
        fadt.U16(1001); // P_LVL3_LAT above 1000: no C3
        fadt.PadTo(108);
        fadt.U8(hardware.CenturyRegister);
        fadt.U16(LegacyDevices | KeyboardController8042 | VgaNotPresent);
        fadt.U8(0);
        fadt.U32(WriteBackInvalidate | ProcessorC1 | SleepButtonNotFixed | RtcWakeNotFixed | ResetRegisterSupported);
        fadt.IoAddress(hardware.ResetPort, 8, 1);
        fadt.U8(hardware.ResetValue);
        fadt.PadTo(131);
        fadt.U8(5); // minor version: 6.5
        fadt.U64(0); // X_FIRMWARE_CTRL: only one of the two may be set
        fadt.U64(dsdt);
        fadt.IoAddress(hardware.Pm1EventPort, Pm1EventLength * 8, 2);
        fadt.IoAddress(0, 0, 0);
        fadt.IoAddress(hardware.Pm1ControlPort, Pm1ControlLength * 8, 2);
        fadt.IoAddress(0, 0, 0);
        fadt.IoAddress(0, 0, 0);
        fadt.IoAddress(hardware.PmTimerPort, PmTimerLength * 8, 3);
        fadt.IoAddress(hardware.Gpe0Port, checked((byte)(hardware.Gpe0Length * 8)), 1);
        fadt.PadTo(276); // X_GPE1_BLK, sleep registers and hypervisor identity: none
        return fadt.Finish();
    }
}
