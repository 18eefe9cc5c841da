using Iced.Intel;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;
using static Tutti.Cpu.Translator.Tests.Kernel.KernelLayout;

namespace Tutti.Cpu.Translator.Tests.Kernel;

/// <summary>Steps that change what the processor makes of addresses.</summary>
internal sealed partial class KernelProgramBuilder
{
    private void AddPaging()
    {
        Label next = _code.CreateLabel();
        SetContinue(next);
        for (int left = 1 + _random.Below(4); left > 0; left--)
        {
            switch (_random.Below(12))
            {
                case < 6:
                    ChangePage();
                    break;
                case < 8:
                    ClearMarks();
                    break;
                case < 10:
                    ChangeLargePage();
                    break;
                default:
                    ChangeCalledPage();
                    break;
            }
        }

        Place(ref next);
        _code.nop();
        _labelWaits = false;
    }

    /// <summary>The same call before and after its page is another one, by another entry or in another address space.</summary>
    private void ChangeCalledPage()
    {
        bool isUser = _random.Percent(50);
        ulong page = (isUser ? UserFunctions : KernelFunctions) + ((ulong)_random.Below(FunctionPages) * PageSize);
        ulong target = page + (ulong)FunctionPage.EntryOf(_random.Percent(20) ? -1 : _random.Below(6));
        Label again = _code.CreateLabel();
        _code.mov(r15, target);
        _code.mov(r14d, 2);
        Place(ref again);
        _code.call(r15);
        _code.add(r13, rax);
        if (isUser && _random.Percent(60))
        {
            _code.mov(rax, cr3);
            _code.xor(rax, (int)(Pml4A ^ Pml4B));
            _code.mov(cr3, rax);
        }
        else
        {
            WriteEntry(page, KernelImage.FunctionEntry(_random, isUser) & ~(isUser ? PageTableEntry.User : 0), inB: _random.Percent(50));
            Forget(page);
        }

        _code.call(r15);
        _code.add(r13, rax);
        _code.dec(r14d);
        _code.jnz(again);
    }

    private (ulong Linear, bool IsFunction) PickPage()
    {
        if (_random.Percent(8))
        {
            return (UserStack, false);
        }

        bool isFunction = _random.Percent(30);
        ulong linear = (isFunction, _random.Percent(50)) switch
        {
            (false, false) => UserArena + ((ulong)_random.Below(ArenaPages) * PageSize),
            (false, true) => KernelArena + ((ulong)_random.Below(ArenaPages) * PageSize),
            (true, false) => UserFunctions + ((ulong)_random.Below(FunctionPages) * PageSize),
            (true, true) => KernelFunctions + ((ulong)_random.Below(FunctionPages) * PageSize),
        };
        return (linear, isFunction);
    }

    private static bool IsShared(ulong linear) => linear is >= UserArena + (FirstSharedPage * PageSize) and < UserArena + (ArenaPages * PageSize);

    private void ChangePage()
    {
        (ulong linear, bool isFunction) = PickPage();
        bool isUser = linear < Base;
        ulong entry = isFunction ? KernelImage.FunctionEntry(_random, isUser) : KernelImage.DataEntry(_random, isUser);
        entry |= IsShared(linear) ? KernelImage.SharedMarks : 0;
        if (_random.Percent(30))
        {
            // An entry that was absent is in no TLB: once it is there, no INVLPG is needed.
            bool inB = _random.Percent(50);
            WriteEntry(linear, 0, inB);
            Forget(linear);
            _code.mov(rdx, linear + (ulong)_random.Below(PageSize - 8));
            _code.mov(eax, __dword_ptr[rdx]);
            WriteEntry(linear, entry, inB);
            return;
        }

        WriteEntry(linear, entry, inB: _random.Percent(50));
        Forget(linear);
    }

    private void WriteEntry(ulong linear, ulong entry, bool inB)
    {
        _code.mov(rax, entry);
        if (IsShared(linear))
        {
            _code.mov(rbx, EntryOf(linear, !inB));
            _code.mov(__qword_ptr[rbx], rax);
        }

        _code.mov(rbx, EntryOf(linear, inB));
        if (_random.Percent(30))
        {
            _code.xchg(__qword_ptr[rbx], rax);
        }
        else
        {
            _code.mov(__qword_ptr[rbx], rax);
        }
    }

    private void Forget(ulong linear)
    {
        if (_random.Percent(15))
        {
            // Everything, global pages too; one write of these changes PGE from what it is, the other back.
            _code.mov(rax, cr4);
            _code.xor(rax, (int)Cr4.PageGlobalEnable);
            _code.mov(cr4, rax);
            _code.xor(rax, (int)Cr4.PageGlobalEnable);
            _code.mov(cr4, rax);
            return;
        }

        _code.mov(rbx, linear + (ulong)_random.Below(PageSize));
        _code.invlpg(__byte_ptr[rbx]);
    }

    private void ClearMarks()
    {
        ulong linear = PickPage().Linear;
        if (!IsShared(linear))
        {
            _code.mov(rbx, EntryOf(linear, _random.Percent(50)));
            _code.and(__qword_ptr[rbx], ~(int)(PageTableEntry.Accessed | PageTableEntry.Dirty));
        }

        Forget(linear);
    }

    private void ChangeLargePage()
    {
        bool isUser = _random.Percent(50);
        ulong entry = Frames | PageTableEntry.PageSize | (_random.Percent(95) ? PageTableEntry.Present : 0) | (_random.Percent(80) ? PageTableEntry.Writable : 0)
            | (_random.Next() & (PageTableEntry.Accessed | PageTableEntry.Dirty)) | (_random.Percent(isUser ? 85 : 5) ? PageTableEntry.User : 0)
            | (isUser ? 0 : _random.Next() & PageTableEntry.Global) | (_random.Percent(30) ? PageTableEntry.NoExecute : 0);
        ulong at = !isUser ? HighDirectory + 16 : (_random.Percent(50) ? UserDirectoryB : UserDirectoryA) + 48;
        ulong page = isUser ? UserLarge : KernelLarge;
        ulong reached = page + (ulong)(_random.Below(2) * PageSize);

        // Reached before and after, and forgotten by another address in it.
        _code.mov(rdx, reached + (ulong)_random.Below(PageSize));
        _code.mov(cl, __byte_ptr[rdx]);
        _code.mov(__byte_ptr[rdx], cl);
        _code.mov(rax, entry);
        _code.mov(rbx, Base + at);
        _code.mov(__qword_ptr[rbx], rax);
        Forget(page + ((ulong)_random.Below(0x40) * PageSize));
        _code.mov(cl, __byte_ptr[rdx]);
        _code.mov(__byte_ptr[rdx], cl);
    }

    private void SwitchSpace()
    {
        _code.mov(rax, cr3);
        _code.xor(rax, (int)(Pml4A ^ Pml4B));
        _code.mov(cr3, rax);
    }

    /// <summary>Breakpoints on code that follows and on data, until the step ends.</summary>
    private void AddBreakpoints()
    {
        AssemblerRegisterDR[] registers = [dr0, dr1, dr2, dr3];
        ulong control = 0;
        for (int i = 0; i < 4; i++)
        {
            if (_random.Percent(40))
            {
                continue;
            }

            bool isCode = _random.Percent(40);
            ulong condition = isCode ? 0 : _random.Percent(50) ? 1UL : 3;
            ulong length = isCode ? 0 : (ulong)_random.Below(4);
            ulong address = !isCode ? PickAddress()
                : (_random.Percent(50) ? _kernelNext : _userNext) + (ulong)_random.Below(300);
            _code.mov(rax, address);
            _code.mov(registers[i], rax);
            control |= (1UL << (i * 2)) | (((length << 2) | condition) << (16 + (i * 4)));
        }

        _code.mov(eax, (uint)control);
        _code.mov(dr7, rax);
    }

    /// <summary>The kernel's code goes on at its other linear address, or back.</summary>
    private void AddAlias()
    {
        Label next = _code.CreateLabel();
        int distance = (int)(KernelCodeAlias - KernelCode);
        _code.lea(rax, __[next]);
        _code.lea(rax, __[rax + (_random.Percent(50) ? distance : -distance)]);
        _code.mov(rbx, KernelCode);
        _code.mov(rcx, rax);
        _code.sub(rcx, rbx);
        _code.cmp(rcx, distance + CodeBytes);
        _code.jae(next);
        _code.cmp(rcx, distance);
        Label jump = _code.CreateLabel();
        _code.jae(jump);
        _code.cmp(rcx, CodeBytes);
        _code.jae(next);
        _code.Label(ref jump);
        _code.jmp(rax);
        _code.Label(ref next);
        _code.nop();
    }

    private void AddModelRegister()
    {
        const ulong Usual = Rflags.Trap | Rflags.Interrupt | Rflags.Direction | Rflags.AlignmentCheck | Rflags.NestedTask;
        (uint number, ulong value) = _random.Below(8) switch
        {
            0 => (Msr.FsBase, PickAddress()),
            1 => (Msr.GsBase, PickAddress()),
            2 => (Msr.KernelGsBase, PickAddress()),
            3 => (Msr.Sfmask, Usual | (_random.Next() & Rflags.Arithmetic)),
            4 => (Msr.Sfmask, _random.Next() & Rflags.Defined),
            5 => (Msr.Efer, Efer.LongModeEnable | Efer.LongModeActive | Efer.NoExecuteEnable | (_random.Percent(80) ? Efer.SyscallEnable : 0)),
            6 => (Msr.Efer, Efer.LongModeEnable | Efer.LongModeActive | Efer.SyscallEnable | (_random.Percent(70) ? Efer.NoExecuteEnable : 0)),
            _ => (Msr.GsBase, UserArena + (ulong)_random.Below(ArenaPages * PageSize)),
        };
        _code.mov(ecx, number);
        _code.mov(eax, (uint)value);
        _code.mov(edx, (uint)(value >> 32));
        _code.wrmsr();
    }
}
