using Iced.Intel;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Engines.Compare.Guests;

/// <summary>64-bit code at level 3.</summary>
internal static class UserModeGuests
{
    public static IReadOnlyList<NamedGuest> All { get; } =
    [
        new("user: arithmetic sets the flags", GuestMode.User, g => g.Program(a =>
        {
            a.mov(rax, -1L);
            a.add(rax, 1);
            a.pushfq();
            a.mov(ecx, int.MinValue);
            a.neg(ecx);
            a.pushfq();
            a.rcr(cl, 1);
            a.pushfq();
            a.cmp(rax, rcx);
        })),
        new("user: an interrupt pushes five quadwords on the inner stack", GuestMode.User, g => g.Program(a =>
        {
            a.stc();
            a.@int(0x80);
        })),
        new("user: an interrupt on a stack of the table", GuestMode.User, g =>
        {
            g.SetGate(0x80, 0xEE, ist: 1);
            g.Program(a => a.@int(0x80));
        }),
        new("user: INT and IRETQ come back", GuestMode.User, g =>
        {
            g.SetGateTarget(0x80, 0x8800, 0xEE);
            g.Assemble(0x8800, 64, a =>
            {
                a.mov(ebx, cs);
                a.mov(rcx, rsp);
                a.iretq();
            });
            g.Program(a =>
            {
                a.mov(rdx, rsp);
                a.@int(0x80);
                a.pushfq();
                a.mov(esi, cs);
                a.mov(edi, ss);
            });
        }),
        new("user: SYSCALL and SYSRET", GuestMode.User, g => SystemCall(g, a => a.sysretq())),
        new("user: SYSRET to compatibility mode", GuestMode.User, g => SystemCall(g, a => a.sysret())),
        new("user: SYSENTER", GuestMode.User, g =>
        {
            g.Registers.Msrs[Msr.SysenterCs] = GuestBuilder.KernelCode;
            g.Registers.Msrs[Msr.SysenterEsp] = GuestBuilder.KernelStack;
            g.Registers.Msrs[Msr.SysenterEip] = 0x8800;
            g.Assemble(0x8800, 64, a => a.mov(ebx, cs));
            g.Program(a =>
            {
                a.stc();
                a.sysenter();
            });
        }),
        new("user: #BP of INT3", GuestMode.User, g => g.Program(a => a.int3())),
        new("user: #DB after an instruction with TF", GuestMode.User, g => g.Program(a =>
        {
            a.pushfq();
            a.or(__dword_ptr[rsp], 0x100);
            a.popfq();
            a.inc(rcx);
            a.inc(rdx);
        })),
        new("user: SYSCALL with TF masked", GuestMode.User, g =>
        {
            g.Registers.Msrs[Msr.Star] = 0x0020_0008_0000_0000;
            g.Registers.Msrs[Msr.Lstar] = 0x8800;
            g.Registers.Msrs[Msr.Sfmask] = 0x4_7700;
            g.Assemble(0x8800, 64, a => a.mov(rbx, rsp));
            g.Program(a =>
            {
                a.pushfq();
                a.or(__dword_ptr[rsp], 0x100);
                a.popfq();
                a.syscall();
            });
        }),
        new("user: #UD of UD2", GuestMode.User, g => g.Program(a => a.ud2())),
        new("user: #UD of SYSRET's opcode when EFER.SCE is clear", GuestMode.User, g =>
        {
            g.Registers.Efer &= ~Efer.SyscallEnable;
            g.Program(a => a.syscall());
        }),
        new("user: #GP of HLT", GuestMode.User, g => g.Program(a => a.hlt())),
        new("user: #GP of CLI without IOPL", GuestMode.User, g => g.Program(a => a.cli())),
        new("user: CLI and STI with IOPL", GuestMode.User, g =>
        {
            g.Registers.Rflags |= Rflags.Iopl;
            g.Program(a =>
            {
                a.cli();
                a.pushfq();
                a.sti();
                a.nop();
                a.pushfq();
            });
        }),
        new("user: #GP of RDMSR", GuestMode.User, g => g.Program(a => a.rdmsr())),
        new("user: #GP of MOV CR", GuestMode.User, g => g.Program(a => a.mov(rax, cr0))),
        new("user: #GP of LGDT", GuestMode.User, g => g.Program(a => a.lgdt(__[(int)GuestBuilder.Data]))),
        new("user: #GP of SWAPGS", GuestMode.User, g => g.Program(a => a.swapgs())),
        new("user: #GP of a non-canonical address", GuestMode.User, g => g.Program(a =>
        {
            a.mov(rbx, 0x8000_0000_0000_0000);
            a.mov(rax, __qword_ptr[rbx]);
        })),
        new("user: #SS of a non-canonical stack", GuestMode.User, g => g.Program(a =>
        {
            a.mov(rsp, 0x8000_0000_0000_0000);
            a.push(rax);
        })),
        new("user: #GP of RET to a non-canonical address", GuestMode.User, g => g.Program(a =>
        {
            a.mov(rax, 0x8000_0000_0000_0000);
            a.push(rax);
            a.ret();
        })),
        new("user: #DE of IDIV's overflow", GuestMode.User, g => g.Program(a =>
        {
            a.mov(rax, long.MinValue);
            a.cqo();
            a.mov(ecx, -1);
            a.movsxd(rcx, ecx);
            a.idiv(rcx);
        })),
        new("user: #AC of a misaligned access", GuestMode.User, g =>
        {
            g.Registers.Cr0 |= Cr0.AlignmentMask;
            g.Registers.Rflags |= Rflags.AlignmentCheck;
            g.Program(a =>
            {
                a.mov(ebx, (int)GuestBuilder.Data);
                a.mov(rax, __qword_ptr[rbx]);
                a.mov(eax, __dword_ptr[rbx + 2]);
            });
        }),
        new("user: #XM of an unmasked SSE exception", GuestMode.User, g => g.Program(a =>
        {
            a.mov(__dword_ptr[rsp - 8], 0x1D80);
            a.ldmxcsr(__dword_ptr[rsp - 8]);
            a.mov(eax, 0x3F80_0000);
            a.movd(xmm0, eax);
            a.xorps(xmm1, xmm1);
            a.divss(xmm0, xmm1);
        })),
        new("user: #GP of a misaligned MOVAPS", GuestMode.User, g => g.Program(a => a.movaps(xmm0, __xmmword_ptr[(int)GuestBuilder.Data + 8]))),
        new("user: #NM of an x87 instruction with TS", GuestMode.User, g =>
        {
            g.Registers.Cr0 |= Cr0.TaskSwitched;
            g.Program(a => a.fld1());
        }),
        new("user: #UD of SSE with EM", GuestMode.User, g =>
        {
            g.Registers.Cr0 |= Cr0.Emulation;
            g.Program(a => a.addps(xmm0, xmm1));
        }),
        new("user: segment loads", GuestMode.User, g => g.Program(a =>
        {
            a.mov(eax, GuestBuilder.UserData);
            a.mov(ds, ax);
            a.xor(ecx, ecx);
            a.mov(es, cx);
            a.mov(fs, cx);
            a.mov(gs, ax);
            a.mov(eax, GuestBuilder.KernelData);
            a.mov(ds, ax);
        })),
        new("user: a far return to 32-bit code", GuestMode.User, g =>
        {
            g.Assemble(0x9800, 32, a =>
            {
                a.mov(eax, cs);
                a.inc(eax);
            });
            g.Program(a =>
            {
                a.push(GuestBuilder.UserCode32);
                a.push(0x9800);
                a.db(0x48, 0xCB);
            });
        }),
        new("user: POPFQ without IOPL leaves IF and IOPL alone", GuestMode.User, g => g.Program(a =>
        {
            a.mov(eax, 0x0024_7CD7);
            a.push(rax);
            a.popfq();
        })),
        new("user: RDFSBASE and WRGSBASE", GuestMode.User, g =>
        {
            g.Registers.Cr4 |= Cr4.FsGsBase;
            g.Program(a =>
            {
                a.mov(rax, 0x1234_5678_9ABC);
                a.wrfsbase(rax);
                a.wrgsbase(eax);
                a.rdfsbase(rbx);
                a.rdgsbase(rcx);
            });
        }),
        new("user: #UD of RDFSBASE without CR4.FSGSBASE", GuestMode.User, g => g.Program(a => a.rdfsbase(rax))),
    ];

    private static void SystemCall(GuestBuilder g, Action<Assembler> back)
    {
        g.Registers.Msrs[Msr.Star] = 0x0020_0008_0000_0000;
        g.Registers.Msrs[Msr.Lstar] = 0x8800;
        g.Registers.Msrs[Msr.Sfmask] = 0x4_7700;
        g.Assemble(0x8800, 64, a =>
        {
            a.mov(r8, rcx);
            a.mov(r9, r11);
            a.mov(ebx, cs);
            a.mov(edx, ss);
            a.pushfq();
            back(a);
        });

        // The same bytes in 64-bit and in 32-bit code.
        g.Program(a =>
        {
            a.std();
            a.stc();
            a.syscall();
            a.mov(esi, cs);
            a.mov(edi, ss);
        });
    }
}
