namespace Tutti.Cpu.Translator.Tests.Emitted;

/// <summary>What is known of a host register, a slot of the state, or a comparison that has come out true.</summary>
internal enum HostValueKind
{
    /// <summary>Nothing at all.</summary>
    None,

    /// <summary>A number known by its root only, plus <see cref="HostValue.Low"/>.</summary>
    Linear,

    /// <summary>Bounded by the TLB's index mask.</summary>
    TlbIndex,

    /// <summary>Bounded by the jump cache's index mask.</summary>
    JumpIndex,

    /// <summary>Bounded by the mask of the return ring at offset Table.</summary>
    RingIndex,

    /// <summary>The address Low of emitted code.</summary>
    Code,

    /// <summary>Read from a table of tags, or the stack's tag.</summary>
    Tag,

    /// <summary>A tag plus an address.</summary>
    Sum,

    /// <summary>1 where the tag is that of the bytes from Low to High; as a fact: it was 1.</summary>
    Check,

    CheckLessOne,

    /// <summary>The bits of a root that the mask at offset Table leaves; as a fact: there were none.</summary>
    Masked,

    /// <summary>From linear to host address, good for the root's bytes from Low to High.</summary>
    Distance,

    /// <summary>A host address: bytes Low to High from here are the guest's.</summary>
    Host,
}

/// <param name="Root">Which unknown number it is about.</param>
/// <param name="Table">Offset in the state of a table or mask; of the last byte of a run, the root of its first.</param>
/// <param name="Count">Root of the number of elements of a run, of <paramref name="Scale"/> bytes each; 0 where it is no run.</param>
/// <param name="CountLow">What is added to that root.</param>
internal readonly record struct HostValue(
    HostValueKind Kind, int Root = 0, long Low = 0, long High = 0, int Table = 0, bool Write = false, int Count = 0, long CountLow = 0,
    int Scale = 0);

/// <summary>What is known at one place of a block: registers, slots, and which comparisons have held.</summary>
internal sealed class HostState
{
    /// <summary>Place of <see cref="StateLayout.Saved"/> among the slots.</summary>
    public const int Saved = StateLayout.SlotCount;

    private const int MergedPlace = 32;
    private const int MergedReach = 64;

    public HostValue[] Registers { get; } = new HostValue[16];

    public HostValue[] Slots { get; } = new HostValue[StateLayout.SlotCount + 1];

    public HashSet<HostValue> Facts { get; } = [];

    /// <summary>How far registers, and fields of the state, are from other numbers: see <see cref="ReachRules"/>.</summary>
    public Reach[] Reaches { get; } = [.. Enumerable.Repeat(Reach.Unknown, ReachRules.Count)];

    public static HostState Unknown(int place)
    {
        var state = new HostState();
        state.ForgetRegisters(place);
        return state;
    }

    public HostState Copy()
    {
        var copy = new HostState();
        Registers.CopyTo(copy.Registers, 0);
        Slots.CopyTo(copy.Slots, 0);
        Reaches.CopyTo(copy.Reaches, 0);
        copy.Facts.UnionWith(Facts);
        return copy;
    }

    /// <summary>Another number, of which nothing is known, in a register.</summary>
    /// <param name="place">Offset of the instruction in the block: with the register it names the number.</param>
    public HostValue Fresh(int place, int register)
    {
        int root = 1 + (place * 64) + register;

        // Met before: what was said of the old number is not true of the new one.
        Facts.RemoveWhere(fact => fact.Root == root || fact.Count == root);
        foreach (HostValue[] values in (HostValue[][])[Registers, Slots])
        {
            for (int i = 0; i < values.Length; i++)
            {
                values[i] = Mentions(values[i], root) ? default : values[i];
            }
        }

        return new HostValue(HostValueKind.Linear, root);
    }

    /// <summary>After an exit: registers come back with whatever they hold, slots stay.</summary>
    /// <param name="keepsGuest">The guest's registers, and what the state has of it, are what they were.</param>
    public void ForgetRegisters(int place, bool keepsGuest = false)
    {
        Facts.Clear();
        Slots[Saved] = default;
        for (int i = 0; i < 16; i++)
        {
            Registers[i] = Fresh(place, i);
        }

        for (int i = 0; i < Reaches.Length; i++)
        {
            bool isGuests = i is not (HostRegister.Test or HostRegister.Address or HostRegister.Distance);
            Reaches[i] = isGuests && keepsGuest ? Reaches[i] : FreshReach(place, i);
        }
    }

    /// <summary>Another number that others may be near to.</summary>
    /// <param name="number">Of the register or field; or where ways meet more than that.</param>
    public Reach FreshReach(int place, int number)
    {
        int root = 1 + (place * 2 * MergedReach) + number;
        for (int i = 0; i < Reaches.Length; i++)
        {
            Reaches[i] = Reaches[i].Root == root ? Reach.Unknown : Reaches[i];
        }

        return new Reach(ReachKind.Linear, root, 0, 0);
    }

    /// <summary>Makes registers numbers of their own where ways meet that bring different ones.</summary>
    public void Merge(IEnumerable<int> merged, int place)
    {
        foreach (int register in merged)
        {
            if (register >= MergedReach)
            {
                Reaches[register - MergedReach] = FreshReach(place, register);
                continue;
            }

            Registers[register] = Fresh(place, register + MergedPlace);
        }
    }

    /// <summary>Keeps what holds in both states; true when that is less than before.</summary>
    /// <param name="merged">Gets the registers that are a number of their own from here on.</param>
    public bool Meet(HostState other, int place, HashSet<int> merged)
    {
        bool changed = false;
        HostValue[] before = [.. Registers];
        for (int i = 0; i < 16; i++)
        {
            HostValue met = Meet(Registers[i], other.Registers[i]);
            if (met.Kind == HostValueKind.None)
            {
                merged.Add(i);
                met = Fresh(place, i + MergedPlace);
            }

            Registers[i] = met;
            changed |= Registers[i] != before[i];
        }

        for (int i = 0; i < Slots.Length; i++)
        {
            HostValue met = Meet(Slots[i], other.Slots[i]);
            changed |= met != Slots[i];
            Slots[i] = met;
        }

        changed |= MeetReaches(other, place, merged);
        int facts = Facts.Count;
        Facts.IntersectWith(other.Facts);
        return changed || facts != Facts.Count;
    }

    private bool MeetReaches(HostState other, int place, HashSet<int> merged)
    {
        bool changed = false;
        for (int i = 0; i < Reaches.Length; i++)
        {
            Reach before = Reaches[i];
            Reach two = other.Reaches[i];
            if (before == two)
            {
                continue;
            }

            if (before.Kind == ReachKind.Linear && two.Kind == ReachKind.Linear)
            {
                // Bounds that grow would grow for ever in a loop.
                merged.Add(i + MergedReach);
                Reaches[i] = FreshReach(place, i + MergedReach);
            }
            else
            {
                Reaches[i] = Reach.Either(before, two);
            }

            changed |= Reaches[i] != before;
        }

        return changed;
    }

    private static bool Mentions(HostValue value, int root) =>
        value.Root == root || value.Count == root || (value.Kind == HostValueKind.Linear && value.Table == root);

    private static HostValue Meet(HostValue one, HostValue two)
    {
        bool isRange = one.Kind is HostValueKind.Distance or HostValueKind.Host;
        if (one == two)
        {
            return one;
        }

        return isRange && one with { Low = 0, High = 0, Write = false } == two with { Low = 0, High = 0, Write = false }
            ? one with { Low = Math.Max(one.Low, two.Low), High = Math.Min(one.High, two.High), Write = one.Write && two.Write }
            : default;
    }
}
