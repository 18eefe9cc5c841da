using Tutti.Cpu.Interpreter;
using Tutti.X86;

namespace Tutti.Cpu.Translator;

/// <summary>What goes, and what stays, when the guest changes its address space or drops translations.</summary>
internal sealed unsafe partial class Translator
{
    private readonly AddressSpaces _spaces;

    /// <summary>Linear addresses of pages that the jump cache leads into.</summary>
    private readonly HashSet<ulong> _jumpPages = [];

    /// <summary>A bit for each of the numbers that the lowest bits of those pages make: most pages that are asked for are none of them.</summary>
    private readonly ulong[] _jumpPageBits = new ulong[256];

    public void FlushTlb(bool keepsGlobal)
    {
        _tables.Flush(keepsGlobal);
        _windows.MarkStale();
        _direct?.MarkStale();
        ForgetUserJumps(ofAll: true);
        if (!keepsGlobal)
        {
            ForgetSupervisorJumps();
        }
        else
        {
            ForgetLocalCode();
        }
    }

    public void SwitchSpace(bool keeps)
    {
        _tables.Flush(keepsGlobal: true);
        _direct?.MarkStale();
        ForgetLocalCode();
        _cache.ForgetFarLinks(TlbSet.User);
        if (!_spaces.Switch(Pcid, Root, keeps))
        {
            _windows.MarkStale(Root);
        }
        else if (_windows.TryEnter() != _spaces.Current.HasWindow)
        {
            // User mode is not looked at again before it goes on by what is remembered.
            _spaces.Forget();
        }
    }

    public void InvalidatePage(ulong linear)
    {
        _tables.Invalidate(linear);
        _windows.Invalidate(linear);
        _direct?.Invalidate(linear);
        if (IsJumpPage(linear >> 12) || _tables.IsInLargePage(linear))
        {
            _windows.MarkStale();
            _direct?.MarkStale();
            ForgetUserJumps(ofAll: true);
            ForgetSupervisorJumps();
        }
    }

    public void DropKeys(uint keys)
    {
        _tables.DropKeys(keys);
        if ((keys & 1) != 0)
        {
            // Windows show pages of key 0 only.
            ForgetUserJumps(ofAll: true);
        }
    }

    private int Pcid => (_state->Cr4 & Cr4.PcidEnable) != 0 ? (int)(_state->Cr3 & 0xFFF) : 0;

    private ulong Root => _state->Cr3 & PageTableEntry.AddressMask;

    private void SetJump(TlbSet set, TranslatedBlock block)
    {
        if (set.Tables() == TlbSet.User)
        {
            _spaces.Current.HasWindow = set == TlbSet.UserWindow;
        }

        _tables.SetJump(set.Tables(), _state->Rip, block.FarEntry);
    }

    private void ForgetUserJumps(bool ofAll)
    {
        _cache.ForgetFarLinks(TlbSet.User);
        if (ofAll)
        {
            _spaces.ForgetAll(Pcid, Root);
        }
        else
        {
            _spaces.Forget();
        }
    }

    private void ForgetSupervisorJumps()
    {
        _cache.ForgetFarLinks(TlbSet.Supervisor);
        _tables.ClearJumps(TlbSet.Supervisor);
        _processor.Tlb.HasFetchedLocalCode = false;
    }

    /// <summary>The supervisor's code is looked up anew where some of it is of this address space only.</summary>
    private void ForgetLocalCode()
    {
        if (_processor.Tlb.HasFetchedLocalCode)
        {
            ForgetSupervisorJumps();
        }
    }

    private void AddJumpPage(ulong page)
    {
        _jumpPageBits[(page >> 6) & 255] |= 1UL << (int)(page & 63);
        _jumpPages.Add(page);
    }

    private bool IsJumpPage(ulong page) => (_jumpPageBits[(page >> 6) & 255] >> (int)(page & 63) & 1) != 0 && _jumpPages.Contains(page);
}
