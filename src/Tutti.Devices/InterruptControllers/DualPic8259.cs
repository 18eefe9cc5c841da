using static Tutti.Devices.InterruptControllers.Pic8259Registers;

namespace Tutti.Devices.InterruptControllers;

/// <summary>Who names the vector of an external interrupt (ExtINT) when a processor acknowledges it.</summary>
public interface IExternalInterruptSource
{
    /// <summary>Answers the processor's interrupt-acknowledge cycle: a vector, spurious when the request went away.</summary>
    byte Acknowledge();
}

/// <summary>State of the PC's pair of 8259As.</summary>
public sealed record DualPic8259State(Pic8259State Master, Pic8259State Slave);

/// <summary>
/// The PC's two cascaded 8259As with their edge/level control registers: inputs 0 to 15, one INTR output.
/// Source: Intel 8259A data sheet (231468), Intel 82371SB data sheet for the ELCR.
/// </summary>
public sealed class DualPic8259 : IExternalInterruptSource, IStatefulDevice<DualPic8259State>
{
    private readonly IInterruptLine _intr;
    private readonly Pic8259 _master;
    private readonly Pic8259 _slave;

    /// <param name="intr">The INTR output, to the local APICs.</param>
    /// <param name="levelTriggered">The ELCR as firmware leaves it, a bit an input; by default only the ACPI interrupt, 9.</param>
    public DualPic8259(IInterruptLine intr, ushort levelTriggered = 1 << 9)
    {
        _intr = intr;
        _master = new Pic8259(isMaster: true, (byte)levelTriggered, () => _intr.Set(_master!.Output));
        _slave = new Pic8259(isMaster: false, (byte)(levelTriggered >> 8), () => _master.SetInput(CascadeInput, _slave!.Output));
        Elcr = new BytePorts(ReadElcr, WriteElcr);
    }

    /// <summary>Two ports at <see cref="MasterPort"/>.</summary>
    public IPortDevice Master => _master;

    /// <summary>Two ports at <see cref="SlavePort"/>.</summary>
    public IPortDevice Slave => _slave;

    /// <summary>Two ports at <see cref="ElcrPort"/>.</summary>
    public IPortDevice Elcr { get; }

    /// <summary>Drives an input; 2 is the cascade's own and not for devices.</summary>
    public void SetInput(int irq, bool asserted)
    {
        if (irq < 8)
        {
            _master.SetInput(irq, asserted);
        }
        else
        {
            _slave.SetInput(irq - 8, asserted);
        }
    }

    public byte Acknowledge()
    {
        int input = _master.Take();
        if (input != CascadeInput)
        {
            return (byte)(_master.VectorBase + (input < 0 ? SpuriousInput : input));
        }

        int slaveInput = _slave.Take();
        return (byte)(_slave.VectorBase + (slaveInput < 0 ? SpuriousInput : slaveInput));
    }

    private byte ReadElcr(int offset) => offset switch
    {
        0 => _master.Elcr,
        1 => _slave.Elcr,
        _ => 0xFF,
    };

    private void WriteElcr(int offset, byte value)
    {
        if (offset == 0)
        {
            _master.Elcr = value;
        }
        else if (offset == 1)
        {
            _slave.Elcr = value;
        }
    }

    public DualPic8259State Save() => new(_master.Save(), _slave.Save());

    public void Restore(DualPic8259State state)
    {
        // The slave drives the master's cascade input while it is restored, so the master comes last and has the say.
        _slave.Restore(state.Slave);
        _master.Restore(state.Master);
    }
}
