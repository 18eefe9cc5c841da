namespace Tutti.Cpu.Translator;

/// <summary>Linear pages that the jump cache leads into, or has led.</summary>
internal sealed class JumpPages
{
    /// <summary>Pages that are remembered.</summary>
    private const int MaxCount = 1 << 16;

    private readonly HashSet<ulong> _pages = [];

    /// <summary>A bit for each of the numbers that the lowest bits of the pages make: most pages that are asked for are none of them.</summary>
    private readonly ulong[] _bits = new ulong[256];

    /// <summary>One page of RAM may be code at any number of linear ones.</summary>
    public bool IsFull => _pages.Count >= MaxCount;

    public void Add(ulong linear)
    {
        ulong page = linear >> 12;
        _bits[(page >> 6) & 255] |= 1UL << (int)(page & 63);
        _pages.Add(page);
    }

    public bool Holds(ulong linear)
    {
        ulong page = linear >> 12;
        return (_bits[(page >> 6) & 255] >> (int)(page & 63) & 1) != 0 && _pages.Contains(page);
    }

    public void Clear()
    {
        _pages.Clear();
        Array.Clear(_bits);
    }

    public void TrimExcess() => _pages.TrimExcess();
}
