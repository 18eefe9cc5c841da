using static Tutti.Devices.InterruptControllers.ApicRegisters;

namespace Tutti.Devices.InterruptControllers;

/// <summary>An interrupt message without its destination. An edge message has <see cref="Level"/> false; INIT de-assert has <see cref="Assert"/> false.</summary>
public readonly record struct ApicMessage(byte Vector, DeliveryMode Mode, bool Level = false, bool Assert = true);

/// <summary>
/// Carries interrupt messages (IPIs, MSIs, the I/O APIC's) to the local APICs, end-of-interrupt messages back to the I/O
/// APICs, and the 8259's INTR and the NMI line to every local APIC's LINT0 and LINT1.
/// </summary>
public sealed class ApicBus : IInterruptLine
{
    private LocalApic[] _apics = [];
    private IoApic[] _ioApics = [];
    private bool _intr;

    /// <summary>The 8259s, which name the vectors of external interrupts.</summary>
    public IExternalInterruptSource? ExternalInterrupts { get; set; }

    public IReadOnlyList<LocalApic> LocalApics => _apics;

    internal void Attach(LocalApic apic)
    {
        _apics = [.. _apics, apic];
        apic.SetLint0(_intr);
    }

    internal void Attach(IoApic ioApic) => _ioApics = [.. _ioApics, ioApic];

    /// <summary>Drives INTR, which is wired to LINT0 of every local APIC.</summary>
    public void Set(bool asserted)
    {
        if (_intr == asserted)
        {
            return;
        }

        _intr = asserted;
        foreach (LocalApic apic in _apics)
        {
            apic.SetLint0(asserted);
        }
    }

    /// <summary>Drives the NMI line, which is wired to LINT1 of every local APIC.</summary>
    public void SetNmi(bool asserted)
    {
        foreach (LocalApic apic in _apics)
        {
            apic.SetLint1(asserted);
        }
    }

    /// <summary>Sends a message whose destination has 8 bits, as those of I/O APICs, MSIs and xAPIC IPIs have; 0xFF is everybody.</summary>
    public void SendShort(ApicMessage message, byte destination, bool logical) =>
        Send(message, destination == 0xFF ? Broadcast : destination, logical);

    /// <summary>Sends a message to a physical APIC ID or a logical destination; 0xFFFFFFFF is everybody.</summary>
    public void Send(ApicMessage message, uint destination, bool logical)
    {
        if (message.Mode == DeliveryMode.LowestPriority)
        {
            SendLowestPriority(message, destination, logical);
            return;
        }

        foreach (LocalApic apic in _apics)
        {
            if (apic.Matches(destination, logical))
            {
                apic.Accept(message);
            }
        }
    }

    /// <summary>Makes the interrupt that a write of <paramref name="data"/> to an address in 0xFEExxxxx asks for.</summary>
    public void SendMsi(ulong address, uint data)
    {
        DeliveryMode mode = (DeliveryMode)((data >> 8) & 7);
        bool redirectionHint = (address & 8) != 0;
        if (mode == DeliveryMode.Fixed && redirectionHint)
        {
            mode = DeliveryMode.LowestPriority;
        }

        bool level = (data & IcrLevel) != 0;
        if (level && (data & IcrAssert) == 0)
        {
            return;
        }

        SendShort(new ApicMessage((byte)data, mode, level), (byte)(address >> 12), (address & 4) != 0);
    }

    internal void SendToAll(ApicMessage message, LocalApic? except)
    {
        foreach (LocalApic apic in _apics)
        {
            if (apic != except)
            {
                apic.Accept(message with { Mode = message.Mode == DeliveryMode.LowestPriority ? DeliveryMode.Fixed : message.Mode });
            }
        }
    }

    internal void BroadcastEoi(byte vector)
    {
        foreach (IoApic ioApic in _ioApics)
        {
            ioApic.EndOfInterrupt(vector);
        }
    }

    private void SendLowestPriority(ApicMessage message, uint destination, bool logical)
    {
        LocalApic? chosen = null;
        foreach (LocalApic apic in _apics)
        {
            if (apic.AcceptsFixed && apic.Matches(destination, logical)
                && (chosen is null || apic.ProcessorPriority < chosen.ProcessorPriority))
            {
                chosen = apic;
            }
        }

        chosen?.Accept(message with { Mode = DeliveryMode.Fixed });
    }
}
