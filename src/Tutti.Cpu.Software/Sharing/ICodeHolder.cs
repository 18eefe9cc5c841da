namespace Tutti.Cpu.Software;

/// <summary>Holds what a vCPU has made from guest code, decoded or translated. Called on the vCPU's own thread.</summary>
public interface ICodeHolder
{
    /// <summary>Bytes of host memory that the code takes. Safe from any thread.</summary>
    long ByteCount { get; }

    /// <summary>Whether there is code of a page.</summary>
    bool HasCode(long page);

    /// <summary>Drops the code of written bytes, which lie in one page; true when there was any. May be called while some of it runs.</summary>
    bool Invalidate(long page, ulong address, int length);

    /// <summary>Drops all code of a page. May be called while some of it runs.</summary>
    void DropPage(long page);

    /// <summary>Drops all code; never called while any of it runs.</summary>
    void DropAll();

    /// <summary>Gives the host back what the code has taken; all of it has been dropped.</summary>
    void ReleaseMemory();
}
