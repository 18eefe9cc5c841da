namespace Tutti.Cpu;

/// <summary>What a trace can tell of; the names in lower case are those that <c>--trace</c> takes.</summary>
[Flags]
public enum TraceKinds
{
    None = 0,

    /// <summary>Blocks of guest code as they are decoded or translated.</summary>
    Blocks = 1 << 0,

    /// <summary>Returns from translated code to the engine, with their cause.</summary>
    Exits = 1 << 5,

    /// <summary>Exceptions as they are delivered.</summary>
    Exceptions = 1 << 1,

    /// <summary>Interrupts and NMIs as they are delivered.</summary>
    Interrupts = 1 << 2,

    /// <summary>Reads and writes of I/O ports.</summary>
    Ports = 1 << 3,

    /// <summary>Reads and writes of physical addresses that are not RAM.</summary>
    Mmio = 1 << 4,
}

/// <summary>Where a trace goes. Who traces asks <see cref="Kinds"/> once and makes no text for what nobody wants.</summary>
public interface IEngineTrace
{
    /// <summary>What is wanted; never changes.</summary>
    TraceKinds Kinds { get; }

    /// <summary>Takes one event. Safe from any thread; never throws.</summary>
    /// <param name="kind">One of <see cref="Kinds"/>.</param>
    /// <param name="text">What happened, in one line.</param>
    void Write(TraceKinds kind, string text);
}
