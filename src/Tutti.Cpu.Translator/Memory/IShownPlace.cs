namespace Tutti.Cpu.Translator;

/// <summary>What user mode may do to a page where it is shown.</summary>
[Flags]
internal enum PageRights : byte
{
    None = 0,
    Read = 1,
    Write = 2,
    Execute = 4,
}

/// <summary>Where the pages of an address space are shown: host addresses of one process or another, for each linear address one.</summary>
internal interface IShownPlace
{
    /// <summary>Whether code is executed there.</summary>
    bool ShowsCode { get; }

    /// <summary>Whether its ranges are mappings of this process, which has so many in all.</summary>
    bool IsOfThisProcess { get; }

    /// <summary>Pages around one that is asked for which are shown with it, if they have been used: a power of two, at most 512.</summary>
    int BatchPages { get; }

    /// <summary>Whether something can be shown at these linear addresses.</summary>
    bool Covers(ulong linear, long length);

    /// <summary>Whether the code of a page may be executed there; for places that show code.</summary>
    /// <param name="page">Its bytes, all of them.</param>
    /// <param name="isWanted">The page itself is asked for, not one around it.</param>
    unsafe bool MayExecute(ulong linear, byte* page, bool isWanted);

    /// <summary>Shows a part of the file that guest memory is; false where the host refuses, and what was shown there may be gone.</summary>
    bool TryMap(ulong linear, long length, long fileOffset, PageRights rights);

    /// <summary>Lets pages be read only; false where the host refuses.</summary>
    bool TryProtect(ulong linear, long length);

    /// <summary>Makes pages unreadable; false where the host refuses.</summary>
    bool TryClear(ulong linear, long length);

    /// <summary>Makes all pages unreadable; false where the host refuses, which it never should.</summary>
    bool TryClearAll();
}
