using Tutti.Cpu;

namespace Tutti.Engines.Compare;

/// <summary>How a compared guest came to its end.</summary>
internal enum Ending
{
    /// <summary>It wrote to the exit port.</summary>
    Exit,

    TripleFault,

    /// <summary>The engine could not go on.</summary>
    InternalError,

    /// <summary>It ran on until it was stopped.</summary>
    TooLate,
}

/// <summary>What a guest left behind, apart from memory.</summary>
internal sealed class EndState
{
    public Ending Ending { get; set; }

    /// <summary>Of an internal error.</summary>
    public string? Message { get; set; }

    public ProcessorRegisters Registers { get; } = new();

    /// <summary>Accesses to ports and devices in their order.</summary>
    public List<IoCall> Calls { get; } = [];
}
