namespace Tutti.Engines.Compare.Streams;

/// <summary>Where random streams run. The names are those of the command line, in lower case.</summary>
internal enum StreamMode
{
    /// <summary>64-bit code at level 3.</summary>
    Ring3,

    /// <summary>64-bit code at level 0.</summary>
    Ring0,

    /// <summary>32-bit code at level 0 with paging.</summary>
    Protected,

    /// <summary>16-bit code in real mode.</summary>
    Real,
}
