namespace Tutti.Cpu;

/// <summary>
/// The local interrupt controller of one vCPU, for engines that do not bring their own.
/// The engine calls it only from the vCPU's thread. Sources: Intel SDM volume 3, chapter "APIC"; AMD APM volume 2, chapter 16.
/// </summary>
public interface ILocalApic
{
    /// <summary>IA32_APIC_BASE: base address (bits 12 and up), x2APIC enable (10), global enable (11), BSP (8).</summary>
    ulong ApicBase { get; }

    /// <summary>CR8: bits 7:4 of the task-priority register, 0 to 15.</summary>
    byte TaskPriority { get; set; }

    /// <summary>Guest TSC minus guest-clock nanoseconds (the TSC runs at 1 GHz); for the TSC-deadline timer.</summary>
    long TscOffset { get; set; }

    /// <summary>Writes IA32_APIC_BASE; false means #GP(0).</summary>
    bool TryWriteApicBase(ulong value);

    /// <summary>Reads the xAPIC page at ApicBase; any offset below 4096.</summary>
    void ReadMmio(uint offset, Span<byte> data);

    /// <summary>Writes the xAPIC page at ApicBase; any offset below 4096.</summary>
    void WriteMmio(uint offset, ReadOnlySpan<byte> data);

    /// <summary>Reads an x2APIC register (MSR 0x800 to 0x8FF) or IA32_TSC_DEADLINE (0x6E0); false means #GP(0).</summary>
    bool TryReadMsr(uint msr, out ulong value);

    /// <summary>Writes an x2APIC register (MSR 0x800 to 0x8FF) or IA32_TSC_DEADLINE (0x6E0); false means #GP(0).</summary>
    bool TryWriteMsr(uint msr, ulong value);

    /// <summary>
    /// Takes the interrupt that is to be delivered now (an own one, or the 8259's through LINT0) and moves it into service.
    /// Returns its vector, or -1 where none is deliverable any more.
    /// </summary>
    int AcknowledgeInterrupt();

    /// <summary>Puts the controller into the state it has after INIT (not after power-on: the APIC ID and base stay).</summary>
    void Initialize();
}

/// <summary>What a local APIC signals to its vCPU. All calls are safe from any thread, wake a halted vCPU, and return at once.</summary>
public interface IProcessorSignals
{
    /// <summary>An interrupt may be deliverable; the vCPU asks <see cref="ILocalApic.AcknowledgeInterrupt"/> when RFLAGS.IF allows.</summary>
    void SignalInterrupt();

    void SignalNmi();

    void SignalInit();

    /// <summary>STARTUP: real-mode entry at vector &lt;&lt; 12; ignored by a vCPU that is not waiting for it.</summary>
    void SignalStartup(byte vector);
}
