namespace Tutti.Devices.InterruptControllers;

/// <summary>State of one local APIC. The bit fields have 8 words of 32 bits, vector 0 in bit 0 of word 0.</summary>
public sealed record LocalApicState
{
    public required uint Id { get; init; }
    public required ulong ApicBase { get; init; }
    public required byte Tpr { get; init; }
    public required uint Ldr { get; init; }
    public required uint Dfr { get; init; }
    public required uint Svr { get; init; }
    public required uint[] Isr { get; init; }
    public required uint[] Tmr { get; init; }
    public required uint[] Irr { get; init; }
    public required uint Esr { get; init; }
    public required uint PendingErrors { get; init; }
    public required uint IcrLow { get; init; }
    public required uint IcrHigh { get; init; }

    /// <summary>LVT entries: timer, thermal, performance, LINT0, LINT1, error.</summary>
    public required uint[] Lvt { get; init; }
    public required bool Lint0 { get; init; }
    public required bool Lint1 { get; init; }
    public required bool ExtIntMessage { get; init; }
    public required ApicTimerState Timer { get; init; }
}
