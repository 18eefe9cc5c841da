using Iced.Intel;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Engines.Compare.Guests;

/// <summary>Ports and device memory: what the devices see, in order, and what comes back.</summary>
internal static class DeviceGuests
{
    private const int Mmio = unchecked((int)GuestBuilder.Mmio);

    public static IReadOnlyList<NamedGuest> All { get; } =
    [
        new("ports: all widths, both forms", GuestMode.Long, g => g.Program(Ports)),
        new("ports: all widths at level 3", GuestMode.User, g =>
        {
            g.Registers.Rflags |= Rflags.Iopl;
            g.Program(Ports);
        }),
        new("ports: all widths in real mode", GuestMode.Real, g => g.Program(a =>
        {
            a.mov(eax, 0x1234_5678);
            a.mov(dx, 0x510);
            a.@out(dx, al);
            a.@out(dx, ax);
            a.@out(dx, eax);
            a.@in(al, dx);
            a.mov(bx, ax);
            a.@in(ax, dx);
            a.mov(cx, ax);
            a.@in(eax, dx);
        })),
        new("ports: a read keeps the rest of RAX", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(rax, -1L);
            a.@in(al, 0xE1);
            a.mov(rbx, rax);
            a.mov(rax, -1L);
            a.@in(ax, 0xE2);
            a.mov(rcx, rax);
            a.mov(rax, -1L);
            a.@in(eax, 0xE4);
        })),
        new("ports: REP OUTS and REP INS", GuestMode.Long, g =>
        {
            g.Put(GuestBuilder.Data, "string output"u8);
            g.Program(a =>
            {
                a.mov(edx, 0x511);
                a.mov(esi, (int)GuestBuilder.Data);
                a.mov(ecx, 5);
                a.rep.outsb();
                a.mov(ecx, 2);
                a.rep.outsd();
                a.outsw();
                a.mov(edi, (int)GuestBuilder.Data + 0x100);
                a.mov(ecx, 5);
                a.rep.insb();
                a.mov(ecx, 3);
                a.rep.insd();
                a.insw();
            });
        }),
        new("ports: REP OUTS downward in real mode", GuestMode.Real, g =>
        {
            g.Put(GuestBuilder.Data, "downward"u8);
            g.Program(a =>
            {
                a.std();
                a.mov(dx, 0x511);
                a.mov(si, (int)GuestBuilder.Data + 7);
                a.mov(cx, 8);
                a.rep.outsb();
                a.mov(di, (int)GuestBuilder.Data + 0x20);
                a.mov(cx, 3);
                a.rep.insw();
            });
        }),
        new("ports: REP INS stops at a page fault", GuestMode.Long, g =>
        {
            g.SetPage(0x1F_0000, 0);
            g.Program(a =>
            {
                a.mov(edx, 0x511);
                a.mov(edi, 0x1F_0000 - 3);
                a.mov(ecx, 10);
                a.rep.insb();
            });
        }),
        new("mmio: MOV of all widths", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(ebx, Mmio);
            a.mov(rax, 0x1122_3344_5566_7788);
            a.mov(__byte_ptr[rbx + 1], al);
            a.mov(__word_ptr[rbx + 2], ax);
            a.mov(__dword_ptr[rbx + 4], eax);
            a.mov(__qword_ptr[rbx + 8], rax);
            a.mov(__byte_ptr[rbx + 0x11], 0x5A);
            a.mov(__dword_ptr[rbx + 0x14], 0x1234_5678);
            a.mov(__qword_ptr[rbx + 0x18], -2);
            a.mov(cl, __byte_ptr[rbx + 0x21]);
            a.mov(dx, __word_ptr[rbx + 0x22]);
            a.mov(esi, __dword_ptr[rbx + 0x24]);
            a.mov(rdi, __qword_ptr[rbx + 0x28]);
        })),
        new("mmio: MOV of all widths at level 3", GuestMode.User, g => g.Program(a =>
        {
            a.mov(ebx, Mmio);
            a.mov(rax, 0x1122_3344_5566_7788);
            a.mov(__byte_ptr[rbx + 1], al);
            a.mov(__qword_ptr[rbx + 8], rax);
            a.mov(cx, __word_ptr[rbx + 0x22]);
            a.mov(rdi, __qword_ptr[rbx + 0x28]);
        })),
        new("mmio: MOVZX, MOVSX, MOVSXD", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(ebx, Mmio);
            a.movzx(eax, __byte_ptr[rbx]);
            a.movzx(rcx, __word_ptr[rbx]);
            a.movsx(rdx, __byte_ptr[rbx]);
            a.movsx(esi, __word_ptr[rbx]);
            a.movsxd(rdi, __dword_ptr[rbx]);
        })),
        new("mmio: arithmetic reads, and reads and writes", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(ebx, Mmio);
            a.mov(eax, 0x1000);
            a.add(eax, __dword_ptr[rbx]);
            a.pushfq();
            a.xor(__dword_ptr[rbx + 4], eax);
            a.pushfq();
            a.cmp(__byte_ptr[rbx + 9], 7);
            a.pushfq();
            a.test(__dword_ptr[rbx + 12], 0x10);
            a.sete(al);
            a.inc(__word_ptr[rbx + 16]);
            a.neg(__qword_ptr[rbx + 24]);
            a.or(__byte_ptr[rbx + 33], 0x80);
        }), Rflags.Adjust),
        new("mmio: XCHG and locked ADD", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(ebx, Mmio);
            a.mov(eax, 0x1000);
            a.xchg(__dword_ptr[rbx], eax);
            a.@lock.add(__dword_ptr[rbx + 8], eax);
            a.pushfq();
        })),
        new("mmio: strings", GuestMode.Long, g =>
        {
            g.Put(GuestBuilder.Data, "0123456789abcdef"u8);
            g.Program(a =>
            {
                a.mov(edi, Mmio);
                a.mov(esi, (int)GuestBuilder.Data);
                a.mov(ecx, 4);
                a.rep.movsd();
                a.mov(eax, 0x5555_AAAA);
                a.mov(ecx, 3);
                a.rep.stosw();
                a.mov(esi, Mmio + 0x40);
                a.mov(edi, (int)GuestBuilder.Data + 0x40);
                a.mov(ecx, 3);
                a.rep.movsq();
                a.lodsb();
            });
        }),
        new("mmio: PUSH, POP and a call through a device", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(ebx, Mmio);
            a.push(__qword_ptr[rbx]);
            a.pop(rax);
            a.push(rsp);
            a.pop(__qword_ptr[rbx + 8]);
        })),
        new("mmio: an access across into another page", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(ebx, Mmio + 0x1000);
            a.mov(rax, 0x1122_3344_5566_7788);
            a.mov(__qword_ptr[rbx - 3], rax);
            a.mov(__word_ptr[rbx - 1], ax);
            a.mov(rcx, __qword_ptr[rbx - 5]);
        })),
        new("mmio: bit tests", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(ebx, Mmio);
            a.bt(__dword_ptr[rbx], 3);
            a.setc(al);
            a.bts(__dword_ptr[rbx + 4], 5);
            a.setc(cl);
        }), Rflags.Overflow | Rflags.Sign | Rflags.Adjust | Rflags.Parity),
        new("mmio: MOV in protected mode", GuestMode.Protected, g => g.Program(a =>
        {
            a.mov(ebx, Mmio);
            a.mov(eax, 0x1122_3344);
            a.mov(__dword_ptr[ebx + 4], eax);
            a.mov(__byte_ptr[ebx + 9], ah);
            a.mov(ecx, __dword_ptr[ebx + 8]);
            a.mov(__word_ptr[ebx + 10], ds);
        })),
    ];

    private static void Ports(Assembler a)
    {
        a.mov(eax, 0x1234_5678);
        a.mov(edx, 0x1510);
        a.@out(0x72, al);
        a.@out(0x74, ax);
        a.@out(0x78, eax);
        a.@out(dx, al);
        a.@out(dx, ax);
        a.@out(dx, eax);
        a.@in(al, 0x72);
        a.mov(ebx, eax);
        a.@in(ax, 0x74);
        a.mov(ecx, eax);
        a.@in(eax, 0x78);
        a.mov(esi, eax);
        a.@in(al, dx);
        a.mov(edi, eax);
        a.@in(ax, dx);
        a.mov(r8d, eax);
        a.@in(eax, dx);
    }
}
