using Iced.Intel;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Engines.Compare.Guests;

/// <summary>Ways between modes and levels.</summary>
internal static class TransferGuests
{
    private const ushort Free = GuestBuilder.FreeSelector;

    public static IReadOnlyList<NamedGuest> All { get; } =
    [
        new("transfer: protected mode to long mode", GuestMode.Protected, g =>
        {
            LongTables(g);
            g.SetDescriptor(Free, GuestBuilder.Segment(0xFFFFF, 0x9B, 0xA));
            g.Program(a =>
            {
                EnableLong(a);
                a.jmp(Free, 0x8800);
            });
            g.Assemble(0x8800, 64, a =>
            {
                a.mov(rax, 0x1234_5678_9ABC_DEF0);
                a.push(rax);
                a.mov(ecx, unchecked((int)Msr.Efer));
                a.rdmsr();
            });
        }),
        new("transfer: EFER.LMA follows CR0.PG", GuestMode.Protected, g =>
        {
            LongTables(g);
            g.Program(a =>
            {
                EnableLong(a);
                a.mov(ecx, unchecked((int)Msr.Efer));
                a.rdmsr();
                a.mov(ebx, eax);
                a.mov(eax, cr0);
                a.and(eax, 0x7FFF_FFFF);
                a.mov(cr0, eax);
                a.rdmsr();
            });
        }),
        new("transfer: IRETQ to level 3 and back by an interrupt", GuestMode.Long, g =>
        {
            g.Assemble(GuestBuilder.UserCode, 64, a =>
            {
                a.mov(ebx, cs);
                a.mov(rcx, rsp);
                a.@int(0x80);
            });
            g.Program(a =>
            {
                a.push(GuestBuilder.UserData);
                a.push((int)GuestBuilder.UserStack);
                a.push(0x3002);
                a.push(GuestBuilder.UserCode64);
                a.push((int)GuestBuilder.UserCode);
                a.iretq();
            });
        }),
        new("transfer: IRETQ to level 3 drops kernel data segments", GuestMode.Long, g =>
        {
            g.Assemble(GuestBuilder.UserCode, 64, a =>
            {
                a.mov(eax, ds);
                a.mov(ebx, es);
                a.mov(ecx, fs);
                a.mov(edx, gs);
            });
            g.Program(a =>
            {
                a.mov(eax, GuestBuilder.UserData);
                a.mov(es, ax);
                a.push(GuestBuilder.UserData);
                a.push((int)GuestBuilder.UserStack);
                a.push(0x3002);
                a.push(GuestBuilder.UserCode64);
                a.push((int)GuestBuilder.UserCode);
                a.iretq();
            });
        }),
        new("transfer: IRETQ to compatibility mode", GuestMode.Long, g =>
        {
            g.Assemble(GuestBuilder.UserCode, 32, a =>
            {
                a.inc(eax);
                a.push(eax);
                a.@int(0x80);
            });
            g.Program(a =>
            {
                a.mov(rax, 0x1122_3344_5566_7788);
                a.push(GuestBuilder.UserData);
                a.push((int)GuestBuilder.UserStack);
                a.push(0x3002);
                a.push(GuestBuilder.UserCode32);
                a.push((int)GuestBuilder.UserCode);
                a.iretq();
            });
        }, Rflags.Adjust),
        new("transfer: a call gate of long mode", GuestMode.User, g =>
        {
            g.SetDescriptor(Free, GuestBuilder.GateTo(0x8800, GuestBuilder.KernelCode, 0xEC));
            g.SetDescriptor(Free + 8, 0);
            g.Write64(GuestBuilder.Data, ((ulong)Free << 32) | 0x1234);
            g.Assemble(0x8800, 64, a =>
            {
                a.mov(rbx, rsp);
                a.mov(ecx, cs);
                a.mov(edx, ss);
                a.db(0x48, 0xCB);
            });
            g.Program(a =>
            {
                a.call(__fword_ptr[(int)GuestBuilder.Data]);
                a.mov(esi, cs);
                a.mov(rdi, rsp);
            });
        }),
        new("transfer: SYSRET with a 16-bit-aligned selector", GuestMode.Long, g =>
        {
            g.Registers.Msrs[Msr.Star] = 0x0023_0008_0000_0000;
            g.Assemble(GuestBuilder.UserCode, 64, a =>
            {
                a.mov(ebx, cs);
                a.mov(edx, ss);
                a.pushfq();
            });
            g.Program(a =>
            {
                a.mov(ecx, (int)GuestBuilder.UserCode);
                a.mov(r11d, 0x3AD7);
                a.mov(esp, (int)GuestBuilder.UserStack);
                a.sysretq();
            });
        }),
        new("transfer: SYSEXIT", GuestMode.Protected, g =>
        {
            g.Registers.Msrs[Msr.SysenterCs] = GuestBuilder.KernelCode;
            g.SetDescriptor(0x18, GuestBuilder.Segment(0xFFFFF, 0xFB, 0xC));
            g.Assemble(GuestBuilder.UserCode, 32, a =>
            {
                a.mov(eax, cs);
                a.mov(ebx, ss);
                a.@int(0x80);
            });
            g.Program(a =>
            {
                a.mov(edx, (int)GuestBuilder.UserCode);
                a.mov(ecx, (int)GuestBuilder.UserStack);
                a.sysexit();
            });
        }),
        new("transfer: SYSENTER of 32-bit code", GuestMode.ProtectedUser, g =>
        {
            g.Registers.Msrs[Msr.SysenterCs] = GuestBuilder.KernelCode;
            g.Registers.Msrs[Msr.SysenterEsp] = GuestBuilder.KernelStack;
            g.Registers.Msrs[Msr.SysenterEip] = 0x8800;
            g.Assemble(0x8800, 32, a =>
            {
                a.mov(eax, cs);
                a.mov(ebx, ss);
                a.pushfd();
            });
            g.Program(a =>
            {
                a.stc();
                a.sysenter();
            });
        }),
        new("transfer: #GP of SYSENTER without a selector", GuestMode.ProtectedUser, g => g.Program(a => a.sysenter())),
        new("transfer: a far jump to a conforming segment", GuestMode.ProtectedUser, g =>
        {
            g.SetDescriptor(Free, GuestBuilder.Segment(0xFFFFF, 0x9F, 0xC));
            g.Program(a => a.jmp(Free, 0x9800));
            g.Assemble(0x9800, 32, a => a.mov(eax, cs));
        }),
        new("transfer: #GP of a far jump to inner code", GuestMode.ProtectedUser, g => g.Program(a => a.jmp(GuestBuilder.KernelCode, 0x9800))),
        new("transfer: #NP of a far jump", GuestMode.Protected, g =>
        {
            g.SetDescriptor(Free, GuestBuilder.Segment(0xFFFFF, 0x1B, 0xC));
            g.Program(a => a.jmp(Free, 0x9800));
        }),
        new("transfer: #GP of IRET to an inner level", GuestMode.ProtectedUser, g => g.Program(a =>
        {
            a.pushfd();
            a.push(GuestBuilder.KernelCode);
            a.push(0x8800);
            a.iretd();
        })),
        new("transfer: near CALL, RET and JMP through memory", GuestMode.Long, g =>
        {
            g.Write64(GuestBuilder.Data, 0x8800);
            g.Assemble(0x8800, 64, a =>
            {
                a.inc(ebx);
                a.ret();
            });
            g.Program(a =>
            {
                a.call(__qword_ptr[(int)GuestBuilder.Data]);
                a.mov(eax, 0x8800);
                a.call(rax);
                a.push(rax);
                a.mov(eax, 0x8801);
                a.ret();
            });
        }),
    ];

    private static void LongTables(GuestBuilder g)
    {
        const ulong Rights = PageTableEntry.Present | PageTableEntry.Writable;
        g.Write64(GuestBuilder.PageTables, (GuestBuilder.PageTables + 0x1000) | Rights);
        g.Write64(GuestBuilder.PageTables + 0x1000, (GuestBuilder.PageTables + 0x2000) | Rights);
        g.Write64(GuestBuilder.PageTables + 0x2000, Rights | PageTableEntry.PageSize);
    }

    private static void EnableLong(Assembler a)
    {
        a.mov(eax, cr4);
        a.or(eax, (int)Cr4.PhysicalAddressExtension);
        a.mov(cr4, eax);
        a.mov(eax, (int)GuestBuilder.PageTables);
        a.mov(cr3, eax);
        a.mov(ecx, unchecked((int)Msr.Efer));
        a.rdmsr();
        a.or(eax, (int)Efer.LongModeEnable);
        a.wrmsr();
        a.mov(eax, cr0);
        a.or(eax, unchecked((int)Cr0.Paging));
        a.mov(cr0, eax);
    }
}
