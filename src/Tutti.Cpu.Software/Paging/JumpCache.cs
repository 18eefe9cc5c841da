namespace Tutti.Cpu.Software;

/// <summary>Upkeep of the jump cache, which leads from a linear address straight to decoded code.</summary>
internal sealed unsafe class JumpCache
{
    private readonly CpuState* _state;

    /// <summary>Part of <see cref="CpuState.JumpTag"/>: another value makes all of the jump cache stale.</summary>
    private uint _generation;

    /// <param name="state">Its owner.</param>
    /// <param name="entries">As many as <see cref="JumpCacheEntry.Count"/>.</param>
    public JumpCache(CpuState* state, JumpCacheEntry* entries)
    {
        _state = state;
        _state->JumpCache = entries;
        Clear();
    }

    /// <summary>Makes all entries stale, in one step: they carry a generation.</summary>
    public void Flush()
    {
        _generation += CodeMode.GenerationStep;
        if (_generation == 0)
        {
            // The counter has come round: entries of its first time may still stand.
            Clear();
        }

        FollowMode();
    }

    /// <summary>The mode has changed: entries of other modes do not count.</summary>
    public void FollowMode() => _state->JumpTag = _state->Mode | _generation;

    // SAFETY: the constructor was given that many.
    private void Clear() =>
        new Span<JumpCacheEntry>(_state->JumpCache, JumpCacheEntry.Count).Fill(new JumpCacheEntry { Rip = ulong.MaxValue });
}
