using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>Interrupts and NMIs that have arrived and wait until the processor may take them, and whether it runs at all.</summary>
public sealed unsafe class PendingEvents
{
    /// <summary>After STI: interrupts wait.</summary>
    public const int ShadowOfSti = 1;

    /// <summary>After a load of SS: interrupts and debug exceptions wait.</summary>
    public const int ShadowOfStackLoad = 2;

    private readonly CpuState* _state;
    private readonly AttentionWord _attention;

    internal PendingEvents(CpuState* state, AttentionWord attention)
    {
        _state = state;
        _attention = attention;
    }

    /// <summary>The local APIC may have an interrupt to give.</summary>
    internal bool InterruptWaits { get; set; }

    internal bool NmiWaits { get; set; }

    /// <summary>An NMI is being handled: the next one waits for IRET.</summary>
    internal bool IsNmiBlocked { get; set; }

    internal ProcessorActivity Activity { get; set; }

    /// <summary>Whether an interrupt or NMI has arrived that could not be delivered yet.</summary>
    public bool IsAny => InterruptWaits || NmiWaits
        || (_attention.Value & (Attention.Interrupt | Attention.Nmi)) != 0;

    /// <summary>
    /// RFLAGS.IF has been set, or an interrupt shadow or NMI block has ended: makes the loop look for events that
    /// waited for it. Cheap where none waits.
    /// </summary>
    public void LookAgain()
    {
        int bits = (InterruptWaits ? Attention.Interrupt : 0) | (NmiWaits ? Attention.Nmi : 0);
        if (bits != 0)
        {
            _attention.Set(bits);
        }
    }

    /// <summary>STI, or a load of SS: one more instruction runs before the next event. Costs nothing while none waits.</summary>
    public void BeginInterruptShadow()
    {
        _state->InterruptShadow = 1;
        _attention.Set(Attention.Step);
    }

    /// <summary>HLT: stops until an event. The caller leaves its block.</summary>
    public void Halt()
    {
        Activity = ProcessorActivity.Halted;
        _attention.Set(Attention.Halted);
        LookAgain();
    }
}
