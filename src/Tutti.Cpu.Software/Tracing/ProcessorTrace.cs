using System.Globalization;
using Iced.Intel;
using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>What the vCPU counts and tells a trace. Only rare events are counted: nothing here is on the way of a guest instruction.</summary>
public sealed unsafe class ProcessorTrace
{
    private const int VectorCount = 32;

    /// <summary>Iced's mnemonics are numbers from 0 up, fewer than these.</summary>
    private const int MnemonicCount = 1 << 12;

    private readonly CpuState* _state;
    private readonly int _index;
    private readonly IEngineTrace? _eventTrace;
    private readonly TraceKinds _traced;
    private readonly long[] _exceptions = new long[VectorCount];

    /// <summary>Instructions that a tier had interpreted, by mnemonic; made with the first.</summary>
    private long[]? _singles;

    private long _interrupts;
    private long _nmis;
    private long _halts;

    internal ProcessorTrace(CpuState* state, int index, IEngineTrace? trace)
    {
        _state = state;
        _index = index;
        _eventTrace = trace;
        _traced = trace?.Kinds ?? TraceKinds.None;
    }

    /// <summary>Whether a trace wants events of this kind.</summary>
    public bool Traces(TraceKinds kind) => (_traced & kind) != 0;

    /// <summary>A tier has an instruction interpreted.</summary>
    public void CountSingle(Mnemonic mnemonic)
    {
        _singles ??= new long[MnemonicCount];
        _singles[(int)mnemonic & (MnemonicCount - 1)]++;
    }

    /// <summary>HLT.</summary>
    public void CountHalt() => _halts++;

    internal void CountException(int vector, uint error)
    {
        _exceptions[vector & (VectorCount - 1)]++;
        if (Traces(TraceKinds.Exceptions))
        {
            string code = ExceptionVector.HasErrorCode(vector) ? string.Create(CultureInfo.InvariantCulture, $", error code {error:x}") : string.Empty;
            string address = vector == ExceptionVector.PageFault ? string.Create(CultureInfo.InvariantCulture, $", CR2 {_state->Cr2:x}") : string.Empty;
            Tell(TraceKinds.Exceptions, _state->Rip, $"{NameException(vector)}{code}{address}");
        }
    }

    internal void CountInterrupt(int vector)
    {
        bool isNmi = vector == ExceptionVector.Nmi;
        _interrupts += isNmi ? 0 : 1;
        _nmis += isNmi ? 1 : 0;
        if (Traces(TraceKinds.Interrupts))
        {
            Tell(TraceKinds.Interrupts, _state->Rip, isNmi ? "NMI" : string.Create(CultureInfo.InvariantCulture, $"vector {vector:x2}"));
        }
    }

    /// <summary>Writes an event of a kind that the trace wants.</summary>
    public void Tell(TraceKinds kind, ulong rip, string text) =>
        _eventTrace!.Write(kind, string.Create(CultureInfo.InvariantCulture, $"vCPU {_index} rip {rip:x16} {text}"));

    internal IEnumerable<EngineCounter> ReadEvents() =>
    [
        new("guest", "interrupts", _interrupts),
        new("guest", "NMIs", _nmis),
        new("guest", "halts", _halts),
    ];

    internal IEnumerable<EngineCounter> ReadExceptions() => NameCounts("exceptions", _exceptions, NameException);

    /// <summary>Instructions that a tier had interpreted.</summary>
    internal IEnumerable<EngineCounter> ReadSingles() =>
        NameCounts("interpreted for the translator", _singles ?? [], index => ((Mnemonic)index).ToString().ToUpperInvariant());

    private static IEnumerable<EngineCounter> NameCounts(string group, long[] counts, Func<int, string> name) => counts
        .Select((count, index) => (Count: count, Index: index))
        .Where(row => row.Count > 0)
        .OrderByDescending(row => row.Count)
        .Select(row => new EngineCounter(group, name(row.Index), row.Count));

    private static string NameException(int vector) => vector switch
    {
        ExceptionVector.DivideError => "#DE",
        ExceptionVector.Debug => "#DB",
        ExceptionVector.Breakpoint => "#BP",
        ExceptionVector.Overflow => "#OF",
        ExceptionVector.BoundRange => "#BR",
        ExceptionVector.InvalidOpcode => "#UD",
        ExceptionVector.DeviceNotAvailable => "#NM",
        ExceptionVector.DoubleFault => "#DF",
        ExceptionVector.InvalidTss => "#TS",
        ExceptionVector.SegmentNotPresent => "#NP",
        ExceptionVector.StackFault => "#SS",
        ExceptionVector.GeneralProtection => "#GP",
        ExceptionVector.PageFault => "#PF",
        ExceptionVector.FloatingPoint => "#MF",
        ExceptionVector.AlignmentCheck => "#AC",
        ExceptionVector.MachineCheck => "#MC",
        ExceptionVector.SimdFloatingPoint => "#XM",
        _ => string.Create(CultureInfo.InvariantCulture, $"vector {vector}"),
    };
}
