using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>Makes the tier of each vCPU that runs guest code faster than the interpreter.</summary>
internal interface ITranslationTierFactory
{
    /// <summary>Bytes of native memory that the tier wants right before the vCPU's <see cref="CpuState"/>; a multiple of 16.</summary>
    int BytesBefore { get; }

    /// <summary>Bytes from the start of that memory to the end of what the tier wants behind the state.</summary>
    int BytesInAll { get; }

    ITranslationTier Create(SoftwareProcessor processor);
}

/// <summary>
/// A tier above the interpreter, owned by one vCPU: runs what it can, has single instructions interpreted, and is told of
/// everything that makes its copies of translations and code stale. Called on the vCPU's own thread.
/// </summary>
internal interface ITranslationTier : IDisposable
{
    /// <summary>Whether the current mode is one that the tier runs.</summary>
    bool CanRun { get; }

    /// <summary>Runs guest code until something asks for attention, a fault is to be delivered or the mode changes to one that it does not run.</summary>
    void Run();

    /// <summary>
    /// IRETQ at level 0 has gone to 64-bit code of level 0 or 3 by descriptors of the GDT, which both have their accessed bit set now;
    /// <paramref name="stackDescriptor"/> is 0 for a null selector.
    /// </summary>
    void NoteReturn(ushort code, ushort stack, Descriptor codeDescriptor, Descriptor stackDescriptor);

    /// <summary>All translations have gone, or all that are not global.</summary>
    void FlushTlb(bool keepsGlobal);

    /// <summary>The translation of one linear page has gone, which may be a large one.</summary>
    void InvalidatePage(ulong linear);

    /// <summary>The translations of user pages with these protection keys have gone: a bit for each key.</summary>
    void DropKeys(uint keys);

    /// <summary>Writes to a page must be seen from now on; <paramref name="host"/> is its host address.</summary>
    void DropWriteTags(ulong host);

    /// <summary>Whether there is code of a page.</summary>
    bool HasCode(long page);

    /// <summary>Drops the code of written bytes, which lie in one page; true when there was any.</summary>
    bool Invalidate(long page, ulong address, int length);

    /// <summary>Drops all code of a page.</summary>
    void DropPage(long page);

    /// <summary>Drops all code; never called while any of it runs.</summary>
    void DropAll();

    /// <summary>Bytes of host memory that the code takes. Safe from any thread.</summary>
    long ByteCount { get; }

    /// <summary>Gives the host back what the code has taken; all of it has been dropped.</summary>
    void ReleaseMemory();

    /// <summary>What the tier has counted: groups and names of its own, which follow the interpreter's.</summary>
    IEnumerable<EngineCounter> ReadCounters();
}
