using Iced.Intel;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Engines.Compare.Guests;

/// <summary>64-bit code at level 0.</summary>
internal static class LongModeGuests
{
    private const ushort Free = GuestBuilder.FreeSelector;

    public static IReadOnlyList<NamedGuest> All { get; } =
    [
        new("long: arithmetic sets the flags", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(rax, 0x7FFF_FFFF_FFFF_FFFF);
            a.add(rax, 1);
            a.pushfq();
            a.mov(ecx, -1);
            a.inc(ecx);
            a.pushfq();
            a.sub(cl, 1);
            a.pushfq();
            a.sbb(rdx, rdx);
            a.pushfq();
            a.bt(rax, 63);
            a.setc(bl);
            a.cmp(r8, r9);
            a.pushfq();
        })),
        new("long: 32-bit results clear the upper half", GuestMode.Long, g => g.Program(a =>
        {
            foreach (AssemblerRegister64 register in (AssemblerRegister64[])[rax, rbx, rcx, rdx, rsi, rdi])
            {
                a.mov(register, -1L);
            }

            a.mov(eax, 5);
            a.mov(bx, 5);
            a.mov(ch, 5);
            a.xchg(edx, edx);
            a.cmovc(esi, edi);
            a.movsxd(r8, esi);
            a.cdqe();
        })),
        new("long: strings", GuestMode.Long, g =>
        {
            g.Put(GuestBuilder.Data, "five boxing wizards jump quickly"u8);
            g.Program(a =>
            {
                a.mov(esi, (int)GuestBuilder.Data);
                a.mov(edi, (int)GuestBuilder.Data + 0xFF0);
                a.mov(ecx, 32);
                a.rep.movsb();
                a.mov(edi, (int)GuestBuilder.Data + 0x400);
                a.mov(rax, 0x1122_3344_5566_7788);
                a.mov(ecx, 7);
                a.rep.stosq();
                a.std();
                a.mov(ecx, 3);
                a.rep.lodsd();
                a.cld();
                a.mov(edi, (int)GuestBuilder.Data);
                a.mov(al, (sbyte)'z');
                a.mov(ecx, 40);
                a.repne.scasb();
                a.pushfq();
            });
        }),
        new("long: locked exchanges", GuestMode.Long, g =>
        {
            g.Write64(GuestBuilder.Data, 0x1122_3344_5566_7788);
            g.Program(a =>
            {
                a.mov(ebx, (int)GuestBuilder.Data);
                a.mov(eax, 0x5566_7788);
                a.mov(ecx, 0x0102_0304);
                a.@lock.cmpxchg(__dword_ptr[rbx], ecx);
                a.pushfq();
                a.@lock.cmpxchg(__dword_ptr[rbx], ecx);
                a.pushfq();
                a.@lock.xadd(__qword_ptr[rbx], rcx);
                a.pushfq();
                a.xchg(__word_ptr[rbx + 2], dx);
                a.mov(rax, __qword_ptr[rbx + 16]);
                a.@lock.cmpxchg16b(__xmmword_ptr[rbx + 16]);
                a.pushfq();
                a.@lock.dec(__byte_ptr[rbx + 40]);
            });
        }),
        new("long: SWAPGS and segment bases", GuestMode.Long, g => g.Program(a =>
        {
            WriteMsr(a, Msr.GsBase, GuestBuilder.Data);
            WriteMsr(a, Msr.KernelGsBase, GuestBuilder.Data + 0x100);
            WriteMsr(a, Msr.FsBase, GuestBuilder.Data + 0x200);
            a.mov(__dword_ptr.gs[8], 0x1111);
            a.swapgs();
            a.mov(__dword_ptr.gs[8], 0x2222);
            a.mov(__dword_ptr.fs[8], 0x3333);
            a.mov(ecx, unchecked((int)Msr.KernelGsBase));
            a.rdmsr();
        })),
        new("long: a selector load replaces FS's base", GuestMode.Long, g =>
        {
            g.SetDescriptor(Free, GuestBuilder.Segment(0xFFFF, 0x92, 0x4, 0x000A_1000));
            g.Program(a =>
            {
                WriteMsr(a, Msr.FsBase, 0x1234_5678_9ABC);
                a.mov(eax, Free);
                a.mov(fs, ax);
                a.mov(ds, ax);
            });
        }),
        new("long: control registers", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(rax, cr0);
            a.mov(rbx, cr3);
            a.mov(rcx, cr4);
            a.mov(rdx, 0x1234_5678_9ABC);
            a.mov(cr2, rdx);
            a.mov(rsi, cr2);
            a.or(rcx, (int)(Cr4.PageGlobalEnable | Cr4.DebuggingExtensions));
            a.mov(cr4, rcx);
            a.mov(rdi, cr4);
            a.mov(r8, 5);
            a.mov(cr8, r8);
            a.mov(r9, cr8);
        })),
        new("long: debug registers", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(rax, 0x1234_5678_9ABC);
            a.mov(dr0, rax);
            a.mov(dr3, rax);
            a.mov(rbx, dr0);

            // With bit 16 set: only a processor with TSX lets it be cleared (Intel SDM 3, 19.2.3), and the host may have that.
            a.mov(rax, 0x1_0F0F);
            a.mov(dr6, rax);
            a.mov(rcx, dr6);
            a.mov(rdx, dr7);
        })),
        new("long: EFER is read and written", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(ecx, unchecked((int)Msr.Efer));
            a.rdmsr();
            a.and(eax, ~1);
            a.wrmsr();
            a.rdmsr();
            a.syscall();
        })),
        new("long: #GP of a write that would leave long mode", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(ecx, unchecked((int)Msr.Efer));
            a.rdmsr();
            a.and(eax, ~0x100);
            a.wrmsr();
        })),
        new("long: #GP of CR0 with PG but without PE", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(rax, cr0);
            a.and(rax, ~1);
            a.mov(cr0, rax);
        })),
        new("long: #GP of CR4 without PAE", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(rax, cr4);
            a.and(rax, ~0x20);
            a.mov(cr4, rax);
        })),
        new("long: #GP of a reserved CR4 bit", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(rax, cr4);
            a.bts(rax, 31);
            a.mov(cr4, rax);
        }), Rflags.Overflow | Rflags.Sign | Rflags.Adjust | Rflags.Parity),
        new("long: #GP of a non-canonical MSR", GuestMode.Long, g => g.Program(a => WriteMsr(a, Msr.KernelGsBase, 0x8000_0000_0000_0000))),
        new("long: #GP of a non-canonical LSTAR", GuestMode.Long, g => g.Program(a => WriteMsr(a, Msr.Lstar, 0x0100_0000_0000_0000))),
        new("long: #GP of a PAT type that is reserved", GuestMode.Long, g => g.Program(a => WriteMsr(a, Msr.Pat, 0x0007_0406_0007_0402))),
        new("long: PAT is read and written", GuestMode.Long, g => g.Program(a =>
        {
            WriteMsr(a, Msr.Pat, 0x0001_0506_0007_0406);
            a.xor(eax, eax);
            a.rdmsr();
        })),
        new("long: SYSENTER's MSRs", GuestMode.Long, g => g.Program(a =>
        {
            WriteMsr(a, Msr.SysenterCs, 0x08);
            WriteMsr(a, Msr.SysenterEsp, 0x1234_5678);
            WriteMsr(a, Msr.SysenterEip, 0x8765_4321);
            a.rdmsr();
        })),
        new("long: #UD of instructions that 64-bit mode has not", GuestMode.Long, g => g.Program(a => a.db(0x27))),
        new("long: LTR marks the TSS busy", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(ax, GuestBuilder.OtherTssSelector);
            a.ltr(ax);
            a.str(ebx);
            a.sldt(ecx);
        })),
        new("long: LAR and LSL", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(eax, GuestBuilder.KernelCode);
            a.lar(ebx, eax);
            a.lsl(ecx, eax);
            a.pushfq();
            a.mov(eax, GuestBuilder.TssSelector);
            a.lar(edx, eax);
            a.lsl(esi, eax);
            a.mov(eax, 0x1000);
            a.lar(edi, eax);
            a.pushfq();
        })),
        new("long: SGDT, SIDT, LGDT, LIDT", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(ebx, (int)GuestBuilder.Data);
            a.sgdt(__[rbx]);
            a.sidt(__[rbx + 16]);
            a.mov(__word_ptr[rbx], 0x7F);
            a.lgdt(__[rbx]);
            a.lidt(__[rbx + 16]);
            a.smsw(ecx);
        })),
        new("long: POPFQ writes IOPL, NT, AC, ID at level 0", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(eax, 0x0024_7CD7);
            a.push(rax);
            a.popfq();
            a.pushfq();
            a.mov(eax, 0);
            a.push(rax);
            a.popfq();
            a.pushfq();
        })),
        new("long: STI and CLI", GuestMode.Long, g => g.Program(a =>
        {
            a.sti();
            a.nop();
            a.pushfq();
            a.cli();
            a.pushfq();
        })),
        new("long: ENTER, LEAVE, RET n", GuestMode.Long, g =>
        {
            g.Assemble(0x8800, 64, a =>
            {
                a.enter(0x20, 2);
                a.mov(rbx, rsp);
                a.leave();
                a.ret(8);
            });
            g.Program(a =>
            {
                a.mov(ebp, 0x3_F000);
                a.push(0x77);
                a.call(0x8800);
                a.mov(rcx, rsp);
            });
        }),
        new("long: compatibility mode by far return and back", GuestMode.Long, g =>
        {
            g.Assemble(0x8800, 32, a =>
            {
                a.mov(eax, -1);
                a.inc(eax);
                a.pushfd();
                a.mov(ecx, cs);
                a.db(0xEA, 0x00, 0x89, 0x00, 0x00, 0x08, 0x00);
            });
            g.Assemble(0x8900, 64, a =>
            {
                a.mov(rdx, rsp);
                a.mov(ebx, cs);
            });
            g.Program(a =>
            {
                a.push(GuestBuilder.KernelCode32);
                a.push(0x8800);
                a.db(0x48, 0xCB);
            });
        }),
        new("long: INVLPG, WBINVD, fences", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(ebx, (int)GuestBuilder.Data);
            a.invlpg(__byte_ptr[rbx]);
            a.wbinvd();
            a.mfence();
            a.lfence();
            a.sfence();
            a.clflush(__byte_ptr[rbx]);
            a.mov(rax, __qword_ptr[rbx]);
        })),
        new("long: code that changes itself", GuestMode.Long, g => g.Program(a =>
        {
            Label patched = a.CreateLabel();
            a.mov(ecx, 3);
            a.Label(ref patched);
            a.mov(al, 1);
            a.add(bl, al);
            a.lea(rdx, __[patched]);
            a.inc(__byte_ptr[rdx + 1]);
            a.dec(ecx);
            a.jne(patched);
        })),
        new("long: #DB after each instruction with TF", GuestMode.Long, g => g.Program(a =>
        {
            a.pushfq();
            a.or(__dword_ptr[rsp], 0x100);
            a.popfq();
            a.inc(rcx);
            a.inc(rdx);
        })),
        new("long: MOV SS holds a single step for one instruction", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(ebx, GuestBuilder.KernelData);
            a.pushfq();
            a.or(__dword_ptr[rsp], 0x100);
            a.popfq();
            a.mov(ss, bx);
            a.inc(rdx);
            a.inc(rsi);
        })),
        new("long: #DB of INT1", GuestMode.Long, g => g.Program(a => a.int1())),
        new("long: #DB of general detect", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(eax, 0x2400);
            a.mov(dr7, rax);
            a.mov(rbx, dr0);
        })),
    ];

    internal static void WriteMsr(Assembler a, uint msr, ulong value)
    {
        a.mov(ecx, unchecked((int)msr));
        a.mov(eax, unchecked((int)value));
        a.mov(edx, unchecked((int)(value >> 32)));
        a.wrmsr();
    }
}
