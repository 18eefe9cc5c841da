namespace Tutti.Cpu.Translator;

/// <summary>What a vCPU knows of the address space of a PCID.</summary>
internal sealed class AddressSpace
{
    /// <summary>Guest physical address of the top-level table that it was used with last.</summary>
    public ulong Root { get; set; }

    /// <summary>See <see cref="JumpSalts"/>.</summary>
    public int Salt { get; set; }

    /// <summary>What has been remembered with the salt are blocks that go by the window.</summary>
    public bool HasWindow { get; set; }

    /// <summary>Flushes so far.</summary>
    public int Flushes { get; set; }

    /// <summary>How often in a row it was found running, see <see cref="UserWindows.Note"/>; and its flushes when it was last.</summary>
    public int Notes { get; set; }

    public int FlushesAtNote { get; set; }
}

/// <summary>
/// The address spaces of one vCPU, by PCID: what user mode's jumps lead to stays known while the guest is in another one, and until it flushes.
/// Without CR4.PCIDE there is one, of PCID 0.
/// </summary>
internal sealed class AddressSpaces
{
    private readonly TranslatorTables _tables;
    private readonly Dictionary<int, AddressSpace> _spaces = [];
    private int _pcid;
    private int _nextSalt;

    public AddressSpaces(TranslatorTables tables)
    {
        _tables = tables;
        ForgetAll(0, 0);
    }

    public AddressSpace Current { get; private set; } = new();

    /// <summary>CR3 has been written; true where what is known of the address space still holds.</summary>
    /// <param name="pcid">0 to 4095.</param>
    /// <param name="root">Guest physical address of the top-level table.</param>
    /// <param name="keeps">The PCID's translations are not to be flushed.</param>
    public bool Switch(int pcid, ulong root, bool keeps)
    {
        if (!_spaces.TryGetValue(pcid, out AddressSpace? space))
        {
            space = new AddressSpace();
            _spaces.Add(pcid, space);
            keeps = false;
        }

        keeps &= space.Root == root;
        if (space.Root != root || (!keeps && pcid != _pcid))
        {
            // Another process, as far as one can tell.
            space.Root = root;
            space.Notes = 0;
        }

        _pcid = pcid;
        Current = space;
        if (keeps)
        {
            _tables.UseJumpSalt(JumpSalts.Get(space.Salt));
        }
        else
        {
            Forget();
        }

        return keeps;
    }

    /// <summary>Forgets where user mode's jumps lead in the current address space.</summary>
    public void Forget()
    {
        if (_nextSalt == JumpSalts.Count)
        {
            _tables.ClearJumps(TlbSet.User);
            _nextSalt = 0;
            KeepCurrent();
        }

        Current.Flushes++;
        Current.Salt = _nextSalt++;
        _tables.UseJumpSalt(JumpSalts.Get(Current.Salt));
    }

    /// <summary>Forgets that in all of them. What CR3 has now is told, because it may have changed by other ways than <see cref="Switch"/>.</summary>
    public void ForgetAll(int pcid, ulong root)
    {
        _pcid = pcid;
        Current.Root = root;
        KeepCurrent();
        Forget();
    }

    private void KeepCurrent()
    {
        _spaces.Clear();
        _spaces.Add(_pcid, Current);
    }
}
