using Iced.Intel;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Engines.Compare.Guests;

/// <summary>Exceptions in 64-bit code at level 0, and exceptions while exceptions are delivered.</summary>
internal static class FaultGuests
{
    private const ulong Absent = 0x1F_0000;
    private const ushort Free = GuestBuilder.FreeSelector;

    public static IReadOnlyList<NamedGuest> All { get; } =
    [
        new("fault: #DE", GuestMode.Long, g => g.Program(a =>
        {
            a.xor(ecx, ecx);
            a.mov(eax, 5);
            a.cdq();
            a.idiv(ecx);
        })),
        new("fault: #BP", GuestMode.Long, g => g.Program(a => a.int3())),
        new("fault: #UD", GuestMode.Long, g => g.Program(a => a.ud2())),
        new("fault: #UD of LOCK with a register", GuestMode.Long, g => g.Program(a => a.db(0xF0, 0x01, 0xC8))),
        new("fault: #PF of a read", GuestMode.Long, g => Absence(g, a => a.mov(rax, __qword_ptr[(int)Absent + 0x123]))),
        new("fault: #PF of a write", GuestMode.Long, g => Absence(g, a => a.mov(__byte_ptr[(int)Absent + 0x456], 1))),
        new("fault: #PF of a read and write", GuestMode.Long, g => Absence(g, a => a.inc(__dword_ptr[(int)Absent]))),
        new("fault: #PF of the second half of an operand", GuestMode.Long, g => Absence(g, a => a.mov(__qword_ptr[(int)Absent - 3], rax))),
        new("fault: #PF of a fetch", GuestMode.Long, g => Absence(g, a =>
        {
            a.mov(eax, (int)Absent);
            a.jmp(rax);
        })),
        new("fault: #PF of an instruction across pages", GuestMode.Long, g =>
        {
            g.SetPage(Absent, 0);
            g.Put(Absent - 2, [0xB8, 0x01]);
            g.Program(a =>
            {
                a.mov(eax, (int)Absent - 2);
                a.jmp(rax);
            });
        }),
        new("fault: #PF of a write to a read-only page", GuestMode.Long, g =>
        {
            g.SetPage(Absent, Absent | PageTableEntry.Present);
            g.Program(a => a.mov(__qword_ptr[(int)Absent], rax));
        }),
        new("fault: #PF of a fetch from a no-execute page", GuestMode.Long, g =>
        {
            g.SetPage(Absent, Absent | PageTableEntry.Present | PageTableEntry.NoExecute);
            g.Program(a =>
            {
                a.mov(eax, (int)Absent);
                a.call(rax);
            });
        }),
        new("fault: #PF of a reserved bit", GuestMode.Long, g =>
        {
            g.SetPage(Absent, Absent | PageTableEntry.Present | (1UL << 51));
            g.Program(a => a.mov(al, __byte_ptr[(int)Absent]));
        }),
        new("fault: #PF of PUSH leaves RSP", GuestMode.Long, g => Absence(g, a =>
        {
            a.mov(esp, (int)Absent + 0x1000);
            a.push(rax);
        }, ist: 1)),
        new("fault: #PF of POP leaves RSP", GuestMode.Long, g => Absence(g, a =>
        {
            a.mov(esp, (int)Absent + 0x800);
            a.pop(rax);
        }, ist: 1)),
        new("fault: #PF in the middle of REP MOVS", GuestMode.Long, g => Absence(g, a =>
        {
            a.mov(esi, (int)GuestBuilder.Data);
            a.mov(edi, (int)Absent - 20);
            a.mov(ecx, 10);
            a.rep.movsq();
        })),
        new("fault: #PF in the middle of REP STOS downward", GuestMode.Long, g => Absence(g, a =>
        {
            a.std();
            a.mov(edi, (int)Absent + 0x1008);
            a.mov(ecx, 10);
            a.rep.stosd();
        })),
        new("fault: #PF of REP LODS at its first element", GuestMode.Long, g => Absence(g, a =>
        {
            a.mov(esi, (int)Absent);
            a.mov(ecx, 10);
            a.rep.lodsb();
        })),
        new("fault: #PF of CMPXCHG that does not match still writes", GuestMode.Long, g =>
        {
            g.SetPage(Absent, Absent | PageTableEntry.Present);
            g.Program(a =>
            {
                a.mov(eax, 1);
                a.cmpxchg(__dword_ptr[(int)Absent], ecx);
            });
        }),
        new("fault: #GP of a non-canonical address", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(rbx, 0x0000_8000_0000_0000);
            a.mov(rax, __qword_ptr[rbx]);
        })),
        new("fault: #SS of a non-canonical address from RBP", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(rbp, 0x0000_8000_0000_0000);
            a.mov(rax, __qword_ptr[rbp]);
        })),
        new("fault: #GP of JMP to a non-canonical address", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(rbx, 0x0000_8000_0000_0000);
            a.jmp(rbx);
        })),
        new("fault: #GP of an unknown MSR", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(ecx, 0x1234_5678);
            a.rdmsr();
        })),
        new("fault: #NP of a segment", GuestMode.Long, g =>
        {
            g.SetDescriptor(Free, GuestBuilder.Segment(0xFFFFF, 0x13, 0xC));
            g.Program(a =>
            {
                a.mov(eax, Free);
                a.mov(fs, ax);
            });
        }),
        new("fault: #NP of an interrupt gate", GuestMode.Long, g =>
        {
            g.SetGate(0x40, 0x0E);
            g.Program(a => a.@int(0x40));
        }),
        new("fault: #GP of a gate that is none", GuestMode.Long, g =>
        {
            g.SetGate(0x40, 0x85);
            g.Program(a => a.@int(0x40));
        }),
        new("fault: #GP of a vector beyond the IDT", GuestMode.Long, g =>
        {
            g.Registers.IdtLimit = 0x3FF;
            g.Program(a => a.@int(0x40));
        }),
        new("fault: #GP of a gate to 32-bit code", GuestMode.Long, g =>
        {
            g.SetGate(0x40, 0x8E, GuestBuilder.KernelCode32);
            g.Program(a => a.@int(0x40));
        }),
        new("fault: #GP of LTR of a busy TSS", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(eax, GuestBuilder.TssSelector);
            a.ltr(ax);
        })),
        new("fault: #GP of IRETQ to a data segment", GuestMode.Long, g => g.Program(a =>
        {
            a.push(GuestBuilder.KernelData);
            a.mov(rax, rsp);
            a.push(rax);
            a.pushfq();
            a.push(GuestBuilder.KernelData);
            a.push(0x8000);
            a.iretq();
        })),
        new("fault: #GP of IRETQ to a non-canonical address", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(rbx, 0x0000_8000_0000_0000);
            a.push(GuestBuilder.UserData);
            a.push((int)GuestBuilder.UserStack);
            a.pushfq();
            a.push(GuestBuilder.UserCode64);
            a.push(rbx);
            a.iretq();
        })),
        new("fault: #DF of a fault while a fault is delivered", GuestMode.Long, g =>
        {
            g.SetGate(8, ist: 1);
            g.SetPage(Absent, 0);
            g.Program(a =>
            {
                a.mov(esp, (int)Absent + 0x100);
                a.ud2();
                a.mov(rax, __qword_ptr[(int)Absent]);
            });
        }),
        new("fault: #DF of a page fault within a page fault", GuestMode.Long, g =>
        {
            g.SetGate(8, ist: 1);
            g.SetPage(Absent, 0);
            g.Program(a =>
            {
                a.mov(esp, (int)Absent + 0x100);
                a.mov(rax, __qword_ptr[(int)Absent + 0x800]);
            });
        }),
        new("fault: a benign fault, then a page fault on the stack", GuestMode.Long, g =>
        {
            g.SetPage(Absent, 0);
            g.SetGate(14, ist: 1);
            g.Program(a =>
            {
                a.mov(esp, (int)Absent + 0x100);
                a.ud2();
            });
        }),
        new("fault: shutdown after a fault within a double fault", GuestMode.Long, g =>
        {
            g.Registers.IdtLimit = 0;
            g.Program(a => a.ud2());
        }),
        new("fault: NMI's handler by INT 2", GuestMode.Long, g => g.Program(a => a.@int(2))),
        new("fault: INT 13 pushes no error code", GuestMode.Long, g => g.Program(a => a.@int(13))),
        new("fault: the stack is aligned before a frame is pushed", GuestMode.Long, g => g.Program(a =>
        {
            a.sub(rsp, 3);
            a.ud2();
        })),
        new("fault: #DB of a data breakpoint", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(eax, (int)GuestBuilder.Data);
            a.mov(dr2, rax);
            a.mov(eax, 0x0B00_0420);
            a.mov(dr7, rax);
            a.mov(ebx, 0x77);
            a.mov(__qword_ptr[(int)GuestBuilder.Data], rbx);
            a.inc(ecx);
        })),
        new("fault: #DB of an instruction breakpoint, before it", GuestMode.Long, g => g.Program(a =>
        {
            Label there = a.CreateLabel();
            a.lea(rax, __[there]);
            a.mov(dr0, rax);
            a.mov(eax, 0x402);
            a.mov(dr7, rax);
            a.inc(ebx);
            a.Label(ref there);
            a.inc(ecx);
        })),
        new("fault: RF in the image of the flags passes an instruction breakpoint", GuestMode.Long, ResumeFlag),
        new("fault: #MF at the next waiting instruction", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(__word_ptr[rsp - 8], 0x37B);
            a.fldcw(__word_ptr[rsp - 8]);
            a.fld1();
            a.fldz();
            a.fdivp(st1, st0);
            a.nop();
            a.wait();
            a.inc(ecx);
        })),
    ];

    private static void Absence(GuestBuilder g, Action<Assembler> write, int ist = 0)
    {
        g.SetPage(Absent, 0);
        g.SetGate(14, ist: ist);
        g.Program(write);
    }

    private static void ResumeFlag(GuestBuilder g) => g.Program(a =>
    {
        Label there = a.CreateLabel();
        a.lea(rax, __[there]);
        a.mov(dr0, rax);
        a.mov(ebx, 0x402);
        a.mov(dr7, rbx);
        a.mov(rcx, rsp);
        a.push(GuestBuilder.KernelData);
        a.push(rcx);
        a.push(0x1_0002);
        a.push(GuestBuilder.KernelCode);
        a.push(rax);
        a.iretq();
        a.ud2();
        a.Label(ref there);
        a.inc(edx);
        a.jmp(there);
    });
}
