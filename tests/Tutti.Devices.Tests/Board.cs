using System.Text.Json;
using Tutti.Devices.Acpi;
using Tutti.Devices.InterruptControllers;
using Tutti.Devices.Keyboard;
using Tutti.Devices.Serial;
using Tutti.Devices.Timers;

namespace Tutti.Devices.Tests;

/// <summary>All devices wired as in a machine with two processors.</summary>
internal sealed class Board
{
    private readonly List<Func<object>> _save = [];
    private readonly List<Action<object>> _restore = [];

    public Board(long startNanoseconds = 0)
    {
        Clock.SetTo(startNanoseconds);
        ApicBus bus = new();
        PcInterruptControllers controllers = new(bus);
        (DualPic8259 pic, IoApic ioApic) = (controllers.Pic, controllers.IoApic);
        InterruptRouter router = new(controllers);
        Mmio.Map(IoApicRegisters.DefaultBase, IoApicRegisters.Length, ioApic);
        Ports.Map(Pic8259Registers.MasterPort, 2, pic.Master);
        Ports.Map(Pic8259Registers.SlavePort, 2, pic.Slave);
        Ports.Map(Pic8259Registers.ElcrPort, 2, pic.Elcr);
        for (int i = 0; i < Apics.Length; i++)
        {
            Apics[i] = new LocalApic((uint)i, bus, Clock, new RecordingSignals(), isBootstrap: i == 0);
        }

        Apics[0].EnableVirtualWireMode();
        Pit8254 pit = new(Clock, router.GetLine(PitRegisters.TimerIrq));
        SystemControlPortB portB = new(Clock, pit);
        Ports.Map(PitRegisters.Port, PitRegisters.PortCount, pit);
        Ports.Map(PitRegisters.SystemControlPortB, 1, portB);
        CmosRtc rtc = new(Clock, router.GetLine(CmosRegisters.RtcIrq));
        Ports.Map(CmosRegisters.Port, CmosRegisters.PortCount, rtc);
        Serial = new Serial16550(Clock, router.GetLine(Serial16550Registers.Com1Irq), Backend);
        Ports.Map(Serial16550Registers.Com1Port, Serial16550Registers.PortCount, Serial);
        A20Gate a20 = new();
        I8042 i8042 = new(router.GetLine(I8042Registers.KeyboardIrq), a20, Power);
        SystemControlPortA portA = new(a20, Power);
        Ports.Map(I8042Registers.DataPort, 1, i8042.Data);
        Ports.Map(I8042Registers.CommandPort, 1, i8042.Command);
        Ports.Map(I8042Registers.SystemControlPortA, 1, portA);
        Pm = new AcpiPm(Clock, router.GetLine(AcpiPmPorts.SciIrq), Power);
        ResetControl reset = new(Power);
        PostCodePort post = new();
        Ports.Map(AcpiPmPorts.Base, AcpiPmPorts.Length, Pm, maxWidth: 4);
        Ports.Map(AcpiPmPorts.Reset, 1, reset);
        Ports.Map(PostCodePort.Port, 1, post);

        Add(router);
        Add(pic);
        Add(ioApic);
        Add(Apics[0]);
        Add(Apics[1]);
        Add(pit);
        Add(portB);
        Add(rtc);
        Add(Serial);
        Add(a20);
        Add(i8042);
        Add(portA);
        Add(Pm);
        Add(reset);
        Add(post);
    }

    public TestClock Clock { get; } = new();

    public PortBus Ports { get; } = new();

    public MmioBus Mmio { get; } = new();

    public LocalApic[] Apics { get; } = new LocalApic[2];

    public RecordingPower Power { get; } = new();

    public RecordingBackend Backend { get; } = new();

    public Serial16550 Serial { get; }

    public AcpiPm Pm { get; }

    public string StateText => JsonSerializer.Serialize(_save.Select(save => save()).ToArray());

    /// <summary>A second board that takes over from this one.</summary>
    public Board Copy()
    {
        Board copy = new(Clock.Nanoseconds);
        for (int i = 0; i < _save.Count; i++)
        {
            copy._restore[i](_save[i]());
        }

        return copy;
    }

    private void Add<TState>(IStatefulDevice<TState> device)
        where TState : notnull
    {
        _save.Add(() => device.Save());
        _restore.Add(state => device.Restore((TState)state));
    }
}
