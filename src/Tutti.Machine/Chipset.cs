using Tutti.Cpu;
using Tutti.Devices;
using Tutti.Devices.Acpi;
using Tutti.Devices.InterruptControllers;
using Tutti.Devices.Keyboard;
using Tutti.Devices.Serial;
using Tutti.Devices.Timers;
using Tutti.Memory;

namespace Tutti.Machine;

/// <summary>The devices at a PC's addresses that every machine has, whoever provides its interrupt controllers.</summary>
internal sealed class Chipset
{
    private readonly PortBus _ports;
    private readonly IGuestClock _clock;
    private readonly InterruptRouter _router;
    private readonly IPowerControl _power;
    private readonly AcpiPm _acpi;

    internal Chipset(
        PortBus ports, InterruptRouter router, GuestMemory memory, IGuestClock clock, IPowerControl power, Action onPanic, SerialConsole? console)
    {
        _ports = ports;
        _clock = clock;
        _router = router;
        _power = power;
        _acpi = new AcpiPm(clock, router.GetLine(AcpiPmPorts.SciIrq), power);
        _ports.Map(AcpiPmPorts.Base, AcpiPmPorts.Length, _acpi, maxWidth: 4);
        _ports.Map(AcpiPmPorts.Reset, 1, new ResetControl(power));
        _ports.Map(PanicDevice.Port, 1, new PanicDevice(onPanic));
        _ports.Map(PostCodePort.Port, 1, new PostCodePort());
        MapKeyboard();
        MapSerialPorts(console);
        MapRealTimeClock(memory);
    }

    /// <summary>Call under the chipset lock.</summary>
    internal void PressPowerButton() => _acpi.PressPowerButton();

    private void MapKeyboard()
    {
        A20Gate a20 = new();
        I8042 keyboard = new(_router.GetLine(I8042Registers.KeyboardIrq), a20, _power);
        _ports.Map(I8042Registers.DataPort, 1, keyboard.Data);
        _ports.Map(I8042Registers.CommandPort, 1, keyboard.Command);
        _ports.Map(I8042Registers.SystemControlPortA, 1, new SystemControlPortA(a20, _power));
    }

    private void MapSerialPorts(SerialConsole? console)
    {
        foreach ((ushort port, int irq) in PcAddresses.SerialPorts)
        {
            SerialConsole? cable = port == Serial16550Registers.Com1Port ? console : null;
            Serial16550 serial = new(_clock, _router.GetLine(irq), cable ?? (ISerialBackend)new UnpluggedSerial());
            _ports.Map(port, Serial16550Registers.PortCount, serial);
            cable?.Connect(serial);
        }
    }

    private void MapRealTimeClock(GuestMemory memory)
    {
        ulong low = memory.Regions[0].Size;
        CmosRtc rtc = new(_clock, _router.GetLine(CmosRegisters.RtcIrq), low, memory.Size - low);
        _ports.Map(CmosRegisters.Port, CmosRegisters.PortCount, rtc);
    }

    /// <summary>The other end of a serial port that nothing is plugged into.</summary>
    private sealed class UnpluggedSerial : ISerialBackend
    {
        public void Transmit(ReadOnlySpan<byte> data)
        {
            // Sent into the air.
        }

        public void ReceiveReady()
        {
            // Nothing ever waits to be received.
        }
    }
}
