using Iced.Intel;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;
using static Tutti.Cpu.Translator.Tests.Kernel.KernelLayout;

namespace Tutti.Cpu.Translator.Tests.Kernel;

/// <summary>System instructions within fragments: where user mode may not have them, they fault there.</summary>
internal sealed partial class KernelProgramBuilder
{
    private static readonly ushort[] Selectors = [0, KernelData, KernelData, UserData, UserData, 3, KernelCodeSelector, UserCode64, 0x48, 0x104];

    /// <summary>Selectors that the IRET of an interrupt does not take away.</summary>
    private static readonly ushort[] LastingSelectors = [0, UserData, UserCode64, 0x104];

    private void AddSystem()
    {
        switch (_random.Below(20))
        {
            case 0:
                _code.cli();
                break;
            case 1:
                _code.sti();
                break;
            case 2 or 3:
                _code.pushfq();
                if (_random.Percent(60))
                {
                    _code.pop(rax);
                }

                break;
            case 4 or 5:
                _code.push((int)RandomFlags());
                _code.popfq();
                break;
            case 6:
                AddUserAccess();
                break;
            case 7:
                if (_random.Percent(50))
                {
                    _code.stac();
                }
                else
                {
                    _code.clac();
                }

                break;
            case 8:
                _code.swapgs();
                break;
            case 9:
                ReadRegister();
                break;
            case 10 or 11:
                ChangeControl();
                break;
            case 12:
                ChangeSegment();
                break;
            case 13:
                ChangeBase();
                break;
            case 14 or 15:
                ReturnToNext();
                break;
            case 16 or 17:
                ChangeKeys();
                break;
            default:
                AddSeldom();
                break;
        }
    }

    /// <summary>Other rights of the keys that pages have, and an access on either side.</summary>
    private void ChangeKeys()
    {
        ulong address = UserArena + (ulong)_random.Below((ArenaPages * PageSize) - 16);
        _code.mov(rdi, address);
        _code.mov(rsi, __qword_ptr[rdi]);
        _code.mov(ecx, _random.Percent(95) ? 0 : 1);
        if (_random.Percent(20))
        {
            _code.rdpkru();
            return;
        }

        _code.mov(edx, 0);
        _code.mov(eax, _random.Percent(30) ? 0 : (uint)_random.Next() & 0xFF);
        _code.wrpkru();
        if (_random.Percent(50))
        {
            _code.mov(__byte_ptr[rdi], al);
        }
        else
        {
            _code.mov(rsi, __qword_ptr[rdi]);
        }
    }

    /// <summary>A kernel's access to a user page, and once more where it may not.</summary>
    private void AddUserAccess()
    {
        _code.mov(rdx, UserArena + (ulong)_random.Below((ArenaPages * PageSize) - 16));
        _code.stac();
        _code.mov(rax, __qword_ptr[rdx]);
        _code.mov(__qword_ptr[rdx], rax);
        _code.clac();
        if (_random.Percent(50))
        {
            _code.mov(__byte_ptr[rdx + 8], cl);
        }
        else
        {
            _code.mov(ecx, __dword_ptr[rdx + 8]);
        }
    }

    private void ReadRegister()
    {
        switch (_random.Below(7))
        {
            case 0:
                _code.mov(rax, cr0);
                break;
            case 1:
                _code.mov(rcx, cr2);
                break;
            case 2:
                _code.mov(r11, cr3);
                break;
            case 3:
                _code.mov(rdx, cr4);
                break;
            case 4:
                _code.mov(rsi, dr6);
                break;
            case 5:
                _code.mov(eax, _random.Pick<AssemblerRegisterSegment>([cs, ss, ds, es, fs, gs]));
                break;
            default:
                _code.mov(ecx, _random.Pick<uint>([Msr.FsBase, Msr.GsBase, Msr.KernelGsBase, Msr.Efer, Msr.Star, 0x1234_5678]));
                _code.rdmsr();
                break;
        }
    }

    private void ChangeControl()
    {
        if (_random.Percent(60))
        {
            ulong bits = _random.Pick<ulong>([Cr0.WriteProtect, Cr0.WriteProtect, Cr0.TaskSwitched, Cr0.AlignmentMask, Cr0.NumericError]);
            _code.mov(rax, cr0);
            _code.btc(eax, (byte)ulong.TrailingZeroCount(bits));
            _code.cmp(eax, 0);
            _code.mov(cr0, rax);
            return;
        }

        ulong bit = _random.Pick<ulong>(
        [
            Cr4.SupervisorModeAccessPrevention, Cr4.SupervisorModeExecutionPrevention, Cr4.PageGlobalEnable, Cr4.FsGsBase, Cr4.OsFxsr, Cr4.OsXsave,
            Cr4.DebuggingExtensions, Cr4.ProtectionKeyEnable, Cr4.UserModeInstructionPrevention, Cr4.LinearAddress57, 1UL << 31,
        ]);
        _code.mov(rax, cr4);
        _code.mov(ecx, (uint)bit);
        _code.xor(rax, rcx);
        _code.mov(cr4, rax);
    }

    private void ChangeSegment()
    {
        _code.mov(eax, (uint)_random.Pick(image.HasInterrupts ? LastingSelectors : Selectors));
        if (_random.Percent(20))
        {
            _code.mov(eax, (uint)(_isUser ? UserData : KernelData));
            _code.mov(ss, eax);
            return;
        }

        _code.mov(_random.Pick<AssemblerRegisterSegment>([ds, es, fs, gs]), eax);
    }

    private void ChangeBase()
    {
        _code.mov(rax, PickAddress());
        switch (_random.Below(6))
        {
            case 0:
                _code.wrfsbase(rax);
                break;
            case 1:
                _code.wrgsbase(rax);
                break;
            case 2:
                _code.rdfsbase(rdx);
                break;
            case 3:
                _code.rdgsbase(rdx);
                break;
            default:
                _code.mov(rdx, rax);
                _code.shr(rdx, 32);
                _code.cmp(eax, 1);
                _code.mov(ecx, _random.Pick<uint>([Msr.FsBase, Msr.GsBase, Msr.KernelGsBase]));
                _code.wrmsr();
                break;
        }
    }

    /// <summary>IRETQ, or RETFQ, to the next instruction at the same level.</summary>
    private void ReturnToNext()
    {
        Label next = _code.CreateLabel();
        if (_random.Percent(80))
        {
            _code.mov(rax, rsp);
            _code.push(_isUser ? UserData : KernelData);
            _code.push(rax);
            _code.push((int)RandomFlags());
        }

        _code.push(_isUser ? UserCode64 : KernelCodeSelector);
        _code.lea(rax, __[next]);
        _code.push(rax);
        if (_random.Percent(90))
        {
            _code.iretq();
        }
        else
        {
            _code.AddInstruction(Instruction.Create(Code.Retfq));
        }

        Place(ref next);
        _code.nop();
    }

    private void AddSeldom()
    {
        switch (_random.Below(10))
        {
            case 0:
                _code.clts();
                break;
            case 1:
                _code.cpuid();
                break;
            case 2:
                _code.mov(rdx, PickAddress());
                _code.invlpg(__byte_ptr[rdx]);
                break;
            case 3:
                _code.mov(rdx, PickAddress());
                _code.sgdt(__tbyte_ptr[rdx]);
                break;
            case 4:
                _code.smsw(eax);
                break;
            case 5:
                _code.str(eax);
                break;
            case 6:
                _code.mov(ecx, (uint)_random.Pick(Selectors));
                _code.lar(eax, ecx);
                break;
            case 7:
                _code.mov(ecx, (uint)_random.Pick(Selectors));
                _code.verw(cx);
                break;
            case 8:
                _code.@in(al, 0x71);
                break;
            default:
                _code.mov(rax, cr3);
                _code.mov(cr3, rax);
                break;
        }
    }

    private void AddFault()
    {
        switch (_random.Below(9))
        {
            case 0:
                _code.int3();
                break;
            case 1 or 2 or 3:
                _code.@int((byte)(FirstFlagVector + _random.Below(FlagVectors)));
                break;
            case 4:
                _code.ud2();
                break;
            case 5:
                _code.mov(ecx, 0);
                _code.div(ecx);
                break;
            case 6:
                // A function comes back here; what lay on the stack may be an address of the stack, which holds anything as code.
                Label next = _code.CreateLabel();
                _code.lea(rax, __[next]);
                _code.push(rax);
                _code.mov(rax, _random.Pick<ulong>([0x8000_0000_0000, 0x7FFF_FFFF_FFFE, Base, UserStack, ulong.MaxValue, PickFunction(), _isUser ? KernelCode : Base]));
                _code.jmp(rax);
                _code.Label(ref next);
                _code.nop();
                break;
            case 7:
                _code.@int((byte)(FirstSoftwareVector + _random.Below(256 - FirstSoftwareVector)));
                break;
            default:
                _code.syscall();
                break;
        }
    }
}
