using Tutti.Cpu.Interpreter;
using Tutti.X86;

namespace Tutti.Cpu.Translator;

/// <summary>What goes, and what stays, when the guest changes its address space or drops translations.</summary>
internal sealed unsafe partial class Translator
{
    private readonly AddressSpaces _spaces;

    private readonly JumpPages _userPages = new();
    private readonly JumpPages _supervisorPages = new();

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
        ForgetLinks(TlbSet.User);
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
        bool isLarge = _tables.IsInLargePage(linear);
        if (isLarge)
        {
            _windows.MarkStale();
            _direct?.MarkStale();
        }

        if (isLarge || _userPages.Holds(linear))
        {
            ForgetUserJumps(ofAll: true);
        }

        if (isLarge || _supervisorPages.Holds(linear))
        {
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

    /// <summary>Lets jumps to RIP find its block.</summary>
    private void SetJump(TlbSet set, TranslatedBlock block)
    {
        bool isUser = set.Tables() == TlbSet.User;
        AddJumpPage(_state->Rip);
        if (isUser)
        {
            _spaces.Current.HasWindow = set == TlbSet.UserWindow;
        }

        _tables.SetJump(set.Tables(), _state->Rip, block.FarEntry);
    }

    /// <summary>Code of the current privilege at a linear address has been translated or is remembered.</summary>
    private void AddJumpPage(ulong linear)
    {
        bool isUser = _state->Cpl == 3;
        JumpPages pages = isUser ? _userPages : _supervisorPages;
        if (pages.IsFull)
        {
            pages.Clear();
            if (isUser)
            {
                ForgetUserJumps(ofAll: true);
            }
            else
            {
                ForgetSupervisorJumps();
            }
        }

        pages.Add(linear);
    }

    private void ForgetUserJumps(bool ofAll)
    {
        ForgetLinks(TlbSet.User);
        if (ofAll)
        {
            _spaces.ForgetAll(Pcid, Root);
        }
        else
        {
            _spaces.Forget();
        }
    }

    /// <summary>Forgets what leads from one page of code to another without the jump cache.</summary>
    private void ForgetLinks(TlbSet set)
    {
        _cache.ForgetFarLinks(set);
        _tables.ClearRing(set);
    }

    private void ForgetSupervisorJumps()
    {
        ForgetLinks(TlbSet.Supervisor);
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
}
