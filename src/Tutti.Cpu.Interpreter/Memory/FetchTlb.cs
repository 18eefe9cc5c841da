namespace Tutti.Cpu.Interpreter;

/// <summary>
/// Where the code pages lie that were fetched from last: a block that the jump cache does not know costs a lookup here, and
/// no page walk.
/// </summary>
internal sealed class FetchTlb
{
    private const int Count = 256;

    /// <summary>In a tag, beside the page: the entry holds something, and whether user rights were checked.</summary>
    private const ulong Valid = 1;

    private const ulong User = 2;

    private readonly (ulong Tag, ulong Physical)[] _entries = new (ulong, ulong)[Count];

    public bool TryGet(ulong linear, bool user, out ulong physical)
    {
        ref (ulong Tag, ulong Physical) entry = ref _entries[(linear >> 12) & (Count - 1)];
        physical = entry.Physical | (linear & 0xFFF);
        return entry.Tag == Tag(linear, user);
    }

    public void Set(ulong linear, bool user, ulong physical) =>
        _entries[(linear >> 12) & (Count - 1)] = (Tag(linear, user), physical & ~0xFFFUL);

    public void Flush() => Array.Clear(_entries);

    private static ulong Tag(ulong linear, bool user) => (linear & ~0xFFFUL) | Valid | (user ? User : 0);
}
