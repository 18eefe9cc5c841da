using Iced.Intel;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Engines.Compare.Guests;

/// <summary>16-bit code in real mode.</summary>
internal static class RealModeGuests
{
    public static IReadOnlyList<NamedGuest> All { get; } =
    [
        new("real: arithmetic sets the flags", GuestMode.Real, g => g.Program(Arithmetic)),
        new("real: decimal adjustments", GuestMode.Real, g => g.Program(Decimal), Rflags.Overflow | Rflags.Carry | Rflags.Adjust),
        new("real: strings go up and down", GuestMode.Real, Strings),
        new("real: a segment's base is 16 times its selector", GuestMode.Real, g => g.Program(SegmentLoads)),
        new("real: far call, far jump, far return", GuestMode.Real, FarTransfers),
        new("real: INT pushes flags, CS, IP; IRET takes them back", GuestMode.Real, Interrupts),
        new("real: POPF and POPFD write what real mode may", GuestMode.Real, g => g.Program(PopFlags)),
        new("real: ENTER nests frames, LEAVE drops one", GuestMode.Real, g => g.Program(Frames)),
        new("real: PUSHA and POPA", GuestMode.Real, g => g.Program(PushAll)),
        new("real: LOOP and JCXZ count CX", GuestMode.Real, g => g.Program(Loops)),
        new("real: XLAT, LEA, LDS, LES", GuestMode.Real, Pointers),
        new("real: #DE of a division by zero", GuestMode.Real, g => g.Program(a =>
        {
            a.mov(ax, 7);
            a.xor(cx, cx);
            a.div(cx);
        })),
        new("real: #DE of AAM 0", GuestMode.Real, g => g.Program(a =>
        {
            a.mov(ax, 0x1234);
            a.aam(0);
        })),
        new("real: #BR of BOUND", GuestMode.Real, g =>
        {
            g.Write32(GuestBuilder.Data, 0x0010_0005);
            g.Program(a =>
            {
                a.mov(ax, 0x11);
                a.bound(ax, __dword_ptr[(int)GuestBuilder.Data]);
            });
        }),
        new("real: #OF of INTO", GuestMode.Real, g => g.Program(a =>
        {
            a.mov(al, 0x7F);
            a.add(al, 1);
            a.into();
        })),
        new("real: #UD of UD2", GuestMode.Real, g => g.Program(a => a.ud2())),
        new("real: #UD of instructions of protected mode", GuestMode.Real, g => g.Program(a => a.db(0x0F, 0x00, 0xC0))),
        new("real: #GP of a word across the segment's end", GuestMode.Real, g => g.Program(a =>
        {
            a.mov(bx, 0xFFFF);
            a.mov(ax, __word_ptr[bx]);
        })),
        new("real: #SS of a word across the stack segment's end", GuestMode.Real, g => g.Program(a =>
        {
            a.mov(bp, 0xFFFF);
            a.mov(ax, __word_ptr[bp]);
        })),
        new("real: #DB after each instruction with TF", GuestMode.Real, g => g.Program(a =>
        {
            a.mov(ax, 0x0102);
            a.push(ax);
            a.popf();
            a.inc(cx);
            a.inc(dx);
        })),
        new("real: protected mode and back", GuestMode.Real, ProtectedAndBack),
        new("real: a limit loaded in protected mode stays", GuestMode.Real, BigReal),
        new("real: LIDT moves the vector table", GuestMode.Real, MovedVectors),
        new("real: SMSW, LMSW and MOV of CR0", GuestMode.Real, g => g.Program(a =>
        {
            a.smsw(ax);
            a.mov(cx, ax);
            a.or(ax, 8);
            a.lmsw(ax);
            a.mov(eax, cr0);
            a.mov(edx, eax);
            a.clts();
            a.mov(eax, cr0);
        })),
        new("real: 32-bit operands and addresses", GuestMode.Real, g => g.Program(a =>
        {
            a.mov(eax, 0x1234_5678);
            a.mov(ebx, (int)GuestBuilder.Data);
            a.mov(__dword_ptr[ebx + 8], eax);
            a.add(__dword_ptr[ebx + 8], 0x1111_1111);
            a.imul(ecx, eax, 3);
            a.movzx(esi, __word_ptr[ebx + 8]);
            a.push(eax);
            a.pop(edi);
        }), Rflags.Sign | Rflags.Zero | Rflags.Adjust | Rflags.Parity),
        new("real: RDMSR and WRMSR", GuestMode.Real, g => g.Program(a =>
        {
            a.mov(ecx, unchecked((int)Msr.Lstar));
            a.mov(eax, 0x1234);
            a.mov(edx, 0x5678);
            a.wrmsr();
            a.xor(eax, eax);
            a.xor(edx, edx);
            a.rdmsr();
        })),
    ];

    private static void Arithmetic(Assembler a)
    {
        (ushort First, ushort Second)[] values = [(0x7FFF, 1), (0xFFFF, 1), (0x8000, 0x8000), (0x0F, 1), (0, 0), (0x1234, 0xFEDC)];
        foreach ((ushort first, ushort second) in values)
        {
            a.mov(ax, first);
            a.mov(bx, second);
            a.add(ax, bx);
            a.pushf();
            a.sub(ax, 0x55);
            a.pushf();
            a.adc(al, bl);
            a.pushf();
            a.sbb(ah, bh);
            a.pushf();
            a.cmp(ax, bx);
            a.pushf();
            a.neg(bx);
            a.pushf();
            a.inc(ax);
            a.pushf();
            a.dec(bl);
            a.pushf();
            a.push(ax);
        }
    }

    private static void Decimal(Assembler a)
    {
        a.mov(ax, 0x0038);
        a.add(al, 0x45);
        a.daa();
        a.mov(bx, ax);
        a.mov(al, 0x15);
        a.sub(al, 0x28);
        a.das();
        a.mov(cx, ax);
        a.mov(ax, 0x0309);
        a.add(al, 9);
        a.aaa();
        a.mov(dx, ax);
        a.mov(ax, 0x0507);
        a.aad(10);
        a.push(ax);
        a.mov(ax, 97);
        a.aam(10);
    }

    private static void Strings(GuestBuilder g)
    {
        g.Put(GuestBuilder.Data, "the quick brown fox jumps over the lazy dog"u8);
        g.Program(a =>
        {
            a.mov(si, (int)GuestBuilder.Data);
            a.mov(di, (int)GuestBuilder.Data + 0x100);
            a.mov(cx, 43);
            a.rep.movsb();
            a.mov(di, (int)GuestBuilder.Data + 0x200);
            a.mov(cx, 9);
            a.mov(eax, 0x1122_3344);
            a.rep.stosd();
            a.std();
            a.mov(si, (int)GuestBuilder.Data + 40);
            a.mov(di, (int)GuestBuilder.Data + 0x140);
            a.mov(cx, 11);
            a.repe.cmpsw();
            a.pushf();
            a.push(cx);
            a.cld();
            a.mov(di, (int)GuestBuilder.Data);
            a.mov(cx, 100);
            a.mov(al, (sbyte)'j');
            a.repne.scasb();
            a.pushf();
            a.lodsw();
        });
    }

    private static void SegmentLoads(Assembler a)
    {
        a.mov(ax, 0x1234);
        a.mov(ds, ax);
        a.mov(ax, 0x0A00);
        a.mov(es, ax);
        a.mov(fs, ax);
        a.push(ax);
        a.pop(gs);
        a.mov(__word_ptr.es[0x10], 0x5555);
        a.mov(__byte_ptr.fs[0x20], 0x66);
        a.mov(ax, 0x3000);
        a.mov(ss, ax);
        a.mov(sp, 0x800);
        a.push(cs);
        a.push(ss);
    }

    private static void FarTransfers(GuestBuilder g)
    {
        g.Assemble(0x1_0000, 16, a =>
        {
            a.mov(bx, 0x77);
            a.retf(2);
        });
        g.Program(a =>
        {
            a.push(0x1111);
            a.call(0x1000, 0);
            a.mov(cx, sp);
            a.push(0x0800);
            a.push(0x0123);
            a.retf();
        });
        g.Assemble(0x8123, 16, a =>
        {
            a.mov(dx, cs);
            a.jmp(0x0812, 0x0103);
        });
        g.Assemble(0x8223, 16, a => a.mov(si, cs));
    }

    private static void Interrupts(GuestBuilder g)
    {
        g.Write32(0x40 * 4, 0x0900_0010);
        g.Assemble(0x9010, 16, a =>
        {
            a.pushf();
            a.mov(bx, 0x99);
            a.pop(cx);
            a.iret();
        });
        g.Program(a =>
        {
            a.sti();
            a.stc();
            a.@int(0x40);
            a.pushf();
            a.cli();
            a.int3();
        });
    }

    private static void PopFlags(Assembler a)
    {
        a.push(0x7ED7);
        a.popf();
        a.pushf();
        a.pushfd();
        a.mov(eax, 0x003F_7CD7);
        a.push(eax);
        a.popfd();
        a.pushfd();
        a.push(0);
        a.popf();
        a.mov(eax, 0);
        a.push(eax);
        a.popfd();
    }

    private static void Frames(Assembler a)
    {
        a.mov(bp, 0x6800);
        a.enter(0x20, 0);
        a.enter(0x10, 1);
        a.enter(0x08, 3);
        a.mov(dx, bp);
        a.leave();
        a.mov(cx, bp);
    }

    private static void PushAll(Assembler a)
    {
        a.mov(eax, 0x1111_1111);
        a.mov(ecx, 0x2222_2222);
        a.mov(ebp, 0x3333_3333);
        a.mov(edi, 0x4444_4444);
        a.pusha();
        a.pushad();
        a.mov(ax, 0);
        a.mov(edi, 0);
        a.popad();
        a.inc(ax);
        a.popa();
    }

    private static void Loops(Assembler a)
    {
        a.mov(cx, 5);
        a.xor(ax, ax);
        Label again = a.CreateLabel();
        a.Label(ref again);
        a.add(ax, cx);
        a.loop(again);
        Label over = a.CreateLabel();
        a.jcxz(over);
        a.mov(ax, 0xBAD);
        a.Label(ref over);
        a.mov(ecx, 0x1_0002);
        Label more = a.CreateLabel();
        a.Label(ref more);
        a.inc(bx);
        a.cmp(bx, 9);
        a.loopne(more);
        a.pushf();
    }

    private static void Pointers(GuestBuilder g)
    {
        g.Put(GuestBuilder.Data, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
        g.Write32(GuestBuilder.Data + 0x10, 0x0A20_1234);
        g.Program(a =>
        {
            a.mov(bx, (int)GuestBuilder.Data);
            a.mov(al, 3);
            a.xlatb();
            a.lea(dx, __[bx + si + 5]);
            a.les(di, __dword_ptr[bx + 0x10]);
            a.lds(si, __dword_ptr[bx + 0x10]);
        });
    }

    private static void ProtectedAndBack(GuestBuilder g)
    {
        SetFlatGdt(g);
        g.Program(a =>
        {
            a.lgdt(__[(int)GuestBuilder.Data]);
            a.mov(eax, cr0);
            a.or(al, 1);
            a.mov(cr0, eax);
            a.db(0xEA, 0x00, 0x90, 0x38, 0x00);
        });
        g.Assemble(0x9000, 16, a =>
        {
            a.mov(bx, cs);
            a.mov(ax, GuestBuilder.KernelData16);
            a.mov(ds, ax);
            a.mov(ss, ax);
            a.str(dx);
            a.mov(eax, cr0);
            a.and(al, unchecked((sbyte)0xFE));
            a.mov(cr0, eax);
            a.db(0xEA, 0x00, 0x01, 0x00, 0x0A);
        });
        g.Assemble(0xA100, 16, a =>
        {
            a.xor(ax, ax);
            a.mov(ds, ax);
            a.mov(ss, ax);
            a.push(cs);
        });
    }

    private static void SetFlatGdt(GuestBuilder g)
    {
        g.SetDescriptor(GuestBuilder.KernelData, GuestBuilder.Segment(0xFFFFF, 0x93, 0xC));
        g.SetDescriptor(GuestBuilder.KernelCode16, GuestBuilder.Segment(0xFFFF, 0x9B, 0));
        g.SetDescriptor(GuestBuilder.KernelData16, GuestBuilder.Segment(0xFFFF, 0x93, 0));
        g.Write16(GuestBuilder.Data, 0xFF);
        g.Write32(GuestBuilder.Data + 2, (uint)GuestBuilder.Gdt);
    }

    private static void BigReal(GuestBuilder g)
    {
        SetFlatGdt(g);
        g.Program(a =>
        {
            a.lgdt(__[(int)GuestBuilder.Data]);
            a.mov(eax, cr0);
            a.inc(ax);
            a.mov(cr0, eax);
            a.mov(bx, GuestBuilder.KernelData);
            a.mov(es, bx);
            a.dec(ax);
            a.mov(cr0, eax);
            a.mov(ebx, 0x0012_3456);
            a.mov(__dword_ptr.es[ebx], 0x0BAD_CAFE);
            a.mov(ecx, __dword_ptr.es[ebx]);
            a.mov(edx, __dword_ptr[ebx]);
        });
    }

    private static void MovedVectors(GuestBuilder g)
    {
        g.Write16(GuestBuilder.Data, 0x3FF);
        g.Write32(GuestBuilder.Data + 2, 0x1_8000);
        g.Write32(0x1_8000 + (0x21 * 4), 0x2000_0330);
        g.Program(a =>
        {
            a.lidt(__[(int)GuestBuilder.Data]);
            a.sidt(__[(int)GuestBuilder.Data + 0x10]);
            a.sgdt(__[(int)GuestBuilder.Data + 0x20]);
            a.@int(0x21);
        });
    }
}
