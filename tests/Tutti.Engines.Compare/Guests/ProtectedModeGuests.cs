using Iced.Intel;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Engines.Compare.Guests;

/// <summary>16- and 32-bit code in protected mode without paging.</summary>
internal static class ProtectedModeGuests
{
    private const ushort Free = GuestBuilder.FreeSelector;

    public static IReadOnlyList<NamedGuest> All { get; } =
    [
        new("protected: arithmetic sets the flags", GuestMode.Protected, g => g.Program(a =>
        {
            a.mov(eax, 0x7FFF_FFFF);
            a.add(eax, 1);
            a.pushfd();
            a.adc(al, al);
            a.pushfd();
            a.rol(eax, 1);
            a.pushfd();
            a.mov(edx, 3);
            a.mul(edx);
        }), Rflags.Sign | Rflags.Zero | Rflags.Adjust | Rflags.Parity),
        new("protected 16: operands and stack are 16 bits wide", GuestMode.Protected16, g => g.Program(a =>
        {
            a.mov(eax, 0x1234_5678);
            a.push(ax);
            a.push(eax);
            a.mov(bx, (int)GuestBuilder.Data);
            a.pop(__word_ptr[bx]);
            a.pushfd();
        })),
        new("protected: a segment load sets the accessed bit", GuestMode.Protected, g =>
        {
            g.SetDescriptor(Free, GuestBuilder.Segment(0x1234, 0x92, 0x4, 0x0012_3000));
            g.Program(a =>
            {
                a.mov(ax, Free);
                a.mov(es, ax);
                a.mov(fs, ax);
                a.mov(__byte_ptr.es[0x1234], 0x5A);
                a.lar(ebx, eax);
                a.lsl(ecx, eax);
                a.xor(eax, eax);
                a.mov(gs, ax);
            });
        }),
        new("protected: expand-down segments end below their limit", GuestMode.Protected, g =>
        {
            g.SetDescriptor(Free, GuestBuilder.Segment(0x0FFF, 0x96, 0x4, 0x0010_0000));
            g.Program(a =>
            {
                a.mov(ax, Free);
                a.mov(es, ax);
                a.mov(__dword_ptr.es[0x1000], 0x1111);
                a.mov(__dword_ptr.es[0x0FFF], 0x2222);
            });
        }),
        new("protected: #GP of a limit", GuestMode.Protected, g => LoadAnd(g, GuestBuilder.Segment(0xFF, 0x93, 0x4, 0xA000), a =>
        {
            a.mov(__dword_ptr.es[0xFC], 1);
            a.mov(__dword_ptr.es[0xFD], 2);
        })),
        new("protected: #GP of a write to a read-only segment", GuestMode.Protected, g => LoadAnd(g, GuestBuilder.Segment(0xFF, 0x91, 0x4, 0xA000), a => a.mov(__byte_ptr.es[0], 1))),
        new("protected: #GP of a selector beyond the table", GuestMode.Protected, g => g.Program(a =>
        {
            a.mov(ax, 0x108);
            a.mov(ds, ax);
        })),
        new("protected: #NP of a segment", GuestMode.Protected, g => LoadAnd(g, GuestBuilder.Segment(0xFFFFF, 0x13, 0xC), _ => { })),
        new("protected: #SS of a stack segment that is not present", GuestMode.Protected, g =>
        {
            g.SetDescriptor(Free, GuestBuilder.Segment(0xFFFFF, 0x13, 0xC));
            g.Program(a =>
            {
                a.mov(ax, Free);
                a.mov(ss, ax);
            });
        }),
        new("protected: #GP of a null stack segment", GuestMode.Protected, g => g.Program(a =>
        {
            a.xor(eax, eax);
            a.mov(ss, ax);
        })),
        new("protected: #GP of execute-only code as data", GuestMode.Protected, g => LoadAnd(g, GuestBuilder.Segment(0xFFFFF, 0x99, 0xC), _ => { })),
        new("protected: readable code as data", GuestMode.Protected, g => LoadAnd(g, GuestBuilder.Segment(0xFFFFF, 0x9A, 0xC), a => a.mov(bl, __byte_ptr.es[(int)GuestBuilder.Code]))),
        new("protected: #GP of a null data segment's use", GuestMode.Protected, g => g.Program(a =>
        {
            a.xor(eax, eax);
            a.mov(es, ax);
            a.mov(bl, __byte_ptr.es[0xA000]);
        })),
        new("protected: local descriptor table", GuestMode.Protected, g =>
        {
            g.SetDescriptor(Free, GuestBuilder.Segment(0x1F, 0x82, 0, (uint)GuestBuilder.Data));
            g.Write64(GuestBuilder.Data + 8, GuestBuilder.Segment(0xFFFF, 0x92, 0x4, 0x8000));
            g.Program(a =>
            {
                a.mov(ax, Free);
                a.lldt(ax);
                a.mov(bx, 0x0C);
                a.mov(es, bx);
                a.sldt(cx);
                a.verr(bx);
                a.pushfd();
                a.verw(ax);
                a.pushfd();
                a.mov(bx, 0x24);
                a.mov(fs, bx);
            });
        }),
        new("protected: LTR marks the TSS busy", GuestMode.Protected, g => g.Program(a =>
        {
            a.mov(ax, GuestBuilder.OtherTssSelector);
            a.ltr(ax);
            a.str(bx);
            a.ltr(ax);
        })),
        new("protected: far calls and far returns", GuestMode.Protected, g =>
        {
            g.Assemble(0x8800, 32, a =>
            {
                a.mov(ebx, cs);
                a.retf(4);
            });
            g.Program(a =>
            {
                a.push(0x4444);
                a.call(GuestBuilder.KernelCode32, 0x8800);
                a.mov(ecx, esp);
                a.db(0x66, 0x9A, 0x00, 0x89, 0x38, 0x00);
            });
            g.Assemble(0x8900, 16, a =>
            {
                a.mov(dx, cs);
                a.mov(si, sp);
            });
        }),
        new("protected: interrupt and trap gates", GuestMode.Protected, g =>
        {
            g.SetGateTarget(0x41, 0x8800, 0x8F);
            g.SetGateTarget(0x42, 0x8840);
            g.Assemble(0x8800, 32, a =>
            {
                a.pushfd();
                a.pop(ebx);
                a.@int(0x42);
                a.iretd();
            });
            g.Assemble(0x8840, 32, a =>
            {
                a.pushfd();
                a.pop(ecx);
                a.iretd();
            });
            g.Program(a =>
            {
                a.sti();
                a.@int(0x41);
                a.pushfd();
            });
        }),
        new("protected: 16-bit gates push words", GuestMode.Protected, g =>
        {
            g.SetGateTarget(0x41, 0x8800, 0x86, GuestBuilder.KernelCode16);
            g.Assemble(0x8800, 16, a => a.mov(bx, sp));
            g.Program(a => a.@int(0x41));
        }),
        new("protected: a call gate leads to inner code with arguments", GuestMode.ProtectedUser, g =>
        {
            g.SetDescriptor(Free, GuestBuilder.GateTo(0x8800, GuestBuilder.KernelCode, 0xEC, 2));
            g.Assemble(0x8800, 32, a =>
            {
                a.mov(ebx, esp);
                a.mov(ecx, cs);
                a.mov(edx, ss);
                a.retf(8);
            });
            g.Program(a =>
            {
                a.push(0x1111);
                a.push(0x2222);
                a.call(Free | 3, 0);
                a.mov(esi, esp);
                a.mov(edi, cs);
            });
        }),
        new("protected: an interrupt changes to the inner stack", GuestMode.ProtectedUser, g => g.Program(a =>
        {
            a.mov(eax, 0x1234);
            a.@int(0x80);
        })),
        new("protected: #GP of a gate that user code may not call", GuestMode.ProtectedUser, g => g.Program(a => a.@int(0x81))),
        new("protected: #GP of a privileged instruction at level 3", GuestMode.ProtectedUser, g => g.Program(a => a.hlt())),
        new("protected: #GP of a port without IOPL", GuestMode.ProtectedUser, g =>
        {
            g.Registers.Rflags &= ~Rflags.Iopl;
            g.Program(a =>
            {
                a.@in(al, 7);
                a.@in(al, 8);
            });
        }),
        new("protected: #GP of a word at the end of the permitted ports", GuestMode.ProtectedUser, g =>
        {
            g.Registers.Rflags &= ~Rflags.Iopl;
            g.Program(a =>
            {
                a.@out(6, ax);
                a.@out(7, ax);
            });
        }),
        new("protected: POPF at level 3 leaves IOPL and IF alone", GuestMode.ProtectedUser, g =>
        {
            g.Registers.Rflags &= ~Rflags.Iopl;
            g.Program(a =>
            {
                a.push(0x7AD7);
                a.popfd();
                a.pushfd();
                a.pop(eax);
                a.@int(0x80);
            });
        }),
        new("protected: IRET to level 3", GuestMode.Protected, g =>
        {
            g.Assemble(GuestBuilder.UserCode, 32, a =>
            {
                a.mov(ecx, cs);
                a.mov(edx, ds);
            });
            g.Program(a =>
            {
                a.push(GuestBuilder.UserData);
                a.push((int)GuestBuilder.UserStack);
                a.push(0x3202);
                a.push(GuestBuilder.UserCode32);
                a.push((int)GuestBuilder.UserCode);
                a.iretd();
            });
        }),
        new("protected: virtual-8086 mode", GuestMode.Protected, Virtual8086),
        new("protected: #DB of a data breakpoint", GuestMode.Protected, g => g.Program(a =>
        {
            a.mov(eax, (int)GuestBuilder.Data);
            a.mov(dr0, eax);
            a.mov(eax, 0x000D_0002);
            a.mov(dr7, eax);
            a.mov(ebx, __dword_ptr[(int)GuestBuilder.Data]);
            a.mov(__byte_ptr[(int)GuestBuilder.Data + 1], 1);
            a.inc(ecx);
        })),
        new("protected: #DB of an instruction breakpoint", GuestMode.Protected, g => g.Program(a =>
        {
            a.mov(eax, (int)GuestBuilder.Code + 0x40);
            a.mov(dr1, eax);
            a.mov(eax, 0x8);
            a.mov(dr7, eax);
            a.jmp(0x8040);
        })),
        new("protected: BOUND, INTO, ARPL", GuestMode.Protected, g =>
        {
            g.Write64(GuestBuilder.Data, 0x0000_0010_0000_0005);
            g.Program(a =>
            {
                a.mov(eax, 0x10);
                a.bound(eax, __qword_ptr[(int)GuestBuilder.Data]);
                a.mov(bx, 0x13);
                a.mov(cx, 0x20);
                a.arpl(cx, bx);
                a.pushfd();
                a.mov(eax, 4);
                a.bound(eax, __qword_ptr[(int)GuestBuilder.Data]);
            });
        }),
        new("protected: a task switch by JMP", GuestMode.Protected, g => TaskSwitch(g, a => a.jmp(GuestBuilder.OtherTssSelector, 0))),
        new("protected: a task switch by CALL and back by IRET", GuestMode.Protected, g => TaskSwitch(g, a =>
        {
            a.call(GuestBuilder.OtherTssSelector, 0);
            a.mov(ebx, 0x600D);
        })),
    ];

    private static void LoadAnd(GuestBuilder g, ulong descriptor, Action<Assembler> then)
    {
        g.SetDescriptor(Free, descriptor);
        g.Program(a =>
        {
            a.mov(ax, Free);
            a.mov(es, ax);
            then(a);
        });
    }

    private static void TaskSwitch(GuestBuilder g, Action<Assembler> leave)
    {
        const ulong T = GuestBuilder.OtherTss;
        g.Write32(T + 32, (uint)GuestBuilder.UserCode);
        g.Write32(T + 36, 0x0002);
        g.Write32(T + 40, 0x1111_1111);
        g.Write32(T + 56, (uint)GuestBuilder.InnerStack);
        foreach ((uint offset, ushort selector) in (ReadOnlySpan<(uint, ushort)>)[(72, GuestBuilder.KernelData), (76, GuestBuilder.KernelCode), (80, GuestBuilder.KernelData), (84, GuestBuilder.KernelData), (88, 0), (92, 0)])
        {
            g.Write32(T + offset, selector);
        }

        g.Assemble(GuestBuilder.UserCode, 32, a =>
        {
            Label stay = a.CreateLabel();
            a.str(cx);
            a.pushfd();
            a.pop(edx);
            a.test(edx, 0x4000);
            a.je(stay);
            a.iretd();
            a.Label(ref stay);
            a.nop();
        });
        g.Program(leave);
    }

    private static void Virtual8086(GuestBuilder g)
    {
        g.Assemble(0x1_1000, 16, a =>
        {
            a.mov(ax, 0x0A00);
            a.mov(ds, ax);
            a.mov(__word_ptr[4], 0x4321);
            a.pushf();
            a.mov(bx, cs);
            a.@int(0x21);
        });
        g.Program(a =>
        {
            foreach (int selector in (int[])[0x0B00, 0x0C00, 0x0D00, 0x0E00, 0x3000])
            {
                a.push(selector);
            }

            a.push(0x0FF0);
            a.push(0x0002_3002);
            a.push(0x1100);
            a.push(0);
            a.iretd();
        });
    }
}
