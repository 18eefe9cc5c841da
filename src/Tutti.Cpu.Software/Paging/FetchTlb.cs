namespace Tutti.Cpu.Software;

/// <summary>
/// Where the code pages lie that were fetched from last: a block that the jump cache does not know costs a lookup here, and
/// no page walk.
/// </summary>
internal sealed class FetchTlb
{
    private const int Count = 256;

    /// <summary>In a tag, beside the page: whether user rights were checked, and the generation, which begins at 1.</summary>
    private const ulong User = 1;

    private const ulong GenerationStep = 2;
    private const ulong GenerationMask = 0xFFE;

    private readonly (ulong Tag, ulong Physical)[] _entries = new (ulong, ulong)[Count];
    private ulong _generation = GenerationStep;

    public bool TryGet(ulong linear, bool user, out ulong physical)
    {
        ref (ulong Tag, ulong Physical) entry = ref _entries[(linear >> 12) & (Count - 1)];
        physical = entry.Physical | (linear & 0xFFF);
        return entry.Tag == Tag(linear, user);
    }

    public void Set(ulong linear, bool user, ulong physical) =>
        _entries[(linear >> 12) & (Count - 1)] = (Tag(linear, user), physical & ~0xFFFUL);

    /// <summary>Drops one page of 4 KiB.</summary>
    public void Invalidate(ulong linear)
    {
        ref (ulong Tag, ulong Physical) entry = ref _entries[(linear >> 12) & (Count - 1)];
        if (((entry.Tag ^ linear) & ~0xFFFUL) == 0)
        {
            entry.Tag = 0;
        }
    }

    public void Flush()
    {
        _generation = (_generation + GenerationStep) & GenerationMask;
        if (_generation == 0)
        {
            // Come round: entries of the first time may still stand.
            Array.Clear(_entries);
            _generation = GenerationStep;
        }
    }

    private ulong Tag(ulong linear, bool user) => (linear & ~0xFFFUL) | _generation | (user ? User : 0);
}
