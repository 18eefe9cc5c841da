namespace Tutti.Cpu.Software;

/// <summary>Has copies of the TLB's translations, and is told when they go. Called on the vCPU's own thread.</summary>
public interface ITlbFollower
{
    /// <summary>All translations of all PCIDs have gone, or all that are not global.</summary>
    void FlushTlb(bool keepsGlobal);

    /// <summary>
    /// CR3 has been written. What is not global may not be used any more, but for what was kept of the new PCID when that was left, and
    /// that only where <paramref name="keeps"/> says so.
    /// </summary>
    void SwitchSpace(bool keeps);

    /// <summary>The translation of one linear page has gone, which may be a large one.</summary>
    void InvalidatePage(ulong linear);

    /// <summary>The translations of user pages with these protection keys have gone: a bit for each key.</summary>
    void DropKeys(uint keys);

    /// <summary>Writes to a page must be seen from now on; <paramref name="host"/> is its host address.</summary>
    void DropWriteTags(ulong host);
}
