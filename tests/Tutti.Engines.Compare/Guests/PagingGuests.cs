using Iced.Intel;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Engines.Compare.Guests;

/// <summary>Page tables: accessed and dirty bits, rights, large pages, and the formats of 32-bit mode.</summary>
internal static class PagingGuests
{
    private const ulong Page = 0x1C_0000;
    private const ulong Present = PageTableEntry.Present;
    private const ulong Rights = PageTableEntry.Present | PageTableEntry.Writable | PageTableEntry.User;

    public static IReadOnlyList<NamedGuest> All { get; } =
    [
        new("paging: a read sets A, a write D", GuestMode.Long, g => g.Program(a =>
        {
            a.mov(rax, __qword_ptr[(int)Page]);
            a.mov(__qword_ptr[(int)Page + 0x1000], rax);
            a.mov(rcx, __qword_ptr[(int)Page + 0x2000]);
            a.mov(__qword_ptr[(int)Page + 0x2000], rcx);
            a.@lock.add(__dword_ptr[(int)Page + 0x3000], 0);
        })),
        new("paging: a write that faults does not set D", GuestMode.Long, g =>
        {
            g.SetPage(Page, Page | Present);
            g.Program(a => a.mov(__qword_ptr[(int)Page], rax));
        }),
        new("paging: INVLPG lets a changed entry be seen", GuestMode.Long, g =>
        {
            g.Write64(Page, 0x1111);
            g.Write64(Page + 0x1000, 0x2222);
            g.Program(a =>
            {
                a.mov(rax, __qword_ptr[(int)Page]);
                a.mov(edx, (int)(Page + 0x1000 + Rights));
                a.mov(__qword_ptr[(int)GuestBuilder.PageEntry(Page)], rdx);
                a.invlpg(__byte_ptr[(int)Page]);
                a.mov(rbx, __qword_ptr[(int)Page]);
            });
        }),
        new("paging: a write of CR3 lets a changed entry be seen", GuestMode.Long, g =>
        {
            g.Write64(Page, 0x1111);
            g.Write64(Page + 0x1000, 0x2222);
            g.Program(a =>
            {
                a.mov(rax, __qword_ptr[(int)Page]);
                a.mov(edx, (int)(Page + 0x1000 + Rights));
                a.mov(__qword_ptr[(int)GuestBuilder.PageEntry(Page)], rdx);
                a.mov(rcx, cr3);
                a.mov(cr3, rcx);
                a.mov(rbx, __qword_ptr[(int)Page]);
            });
        }),
        new("paging: user code and a supervisor page", GuestMode.User, g =>
        {
            g.SetPage(Page, Page | Present | PageTableEntry.Writable);
            g.Program(a => a.mov(rax, __qword_ptr[(int)Page + 8]));
        }),
        new("paging: user code writes a read-only page", GuestMode.User, g =>
        {
            g.SetPage(Page, Page | Present | PageTableEntry.User);
            g.Program(a => a.mov(__byte_ptr[(int)Page + 8], al));
        }),
        new("paging: user code fetches from a no-execute page", GuestMode.User, g =>
        {
            g.SetPage(Page, Page | Rights | PageTableEntry.NoExecute);
            g.Program(a =>
            {
                a.mov(eax, (int)Page);
                a.jmp(rax);
            });
        }),
        new("paging: user code reads an absent page", GuestMode.User, g =>
        {
            g.SetPage(Page, 0);
            g.Program(a => a.add(eax, __dword_ptr[(int)Page + 0xFFC]));
        }),
        new("paging: without CR0.WP level 0 writes read-only pages", GuestMode.Long, g =>
        {
            g.Registers.Cr0 &= ~Cr0.WriteProtect;
            g.SetPage(Page, Page | Present);
            g.Program(a => a.mov(__qword_ptr[(int)Page], rsp));
        }),
        new("paging: SMEP forbids level 0 to run user pages", GuestMode.Long, g =>
        {
            g.Registers.Cr4 |= Cr4.SupervisorModeExecutionPrevention;
            foreach (ulong page in (ulong[])[GuestBuilder.Code, GuestBuilder.Stubs])
            {
                g.SetPage(page, page | Present | PageTableEntry.Writable);
            }

            g.Program(a =>
            {
                a.mov(eax, (int)Page);
                a.jmp(rax);
            });
        }),
        new("paging: SMAP forbids level 0 to read user pages", GuestMode.Long, g =>
        {
            g.Registers.Cr4 |= Cr4.SupervisorModeAccessPrevention;
            foreach (ulong page in (ulong[])[GuestBuilder.Gdt, GuestBuilder.Idt, GuestBuilder.Tss, GuestBuilder.KernelStack - 0x1000])
            {
                g.SetPage(page, page | Present | PageTableEntry.Writable);
            }

            g.Program(a =>
            {
                a.stac();
                a.mov(rax, __qword_ptr[(int)Page]);
                a.clac();
                a.mov(rax, __qword_ptr[(int)Page]);
            });
        }),
        new("paging: a 2 MiB page and its dirty bit", GuestMode.Long, g =>
        {
            g.Write64(GuestBuilder.PageTables + 0x2000 + 8, 0x20_0000 | Rights | PageTableEntry.PageSize);
            g.Program(a =>
            {
                a.mov(rax, __qword_ptr[0x20_0000]);
                a.mov(__qword_ptr[0x2A_BCD8], rsp);
            });
        }),
        new("paging: a 1 GiB page", GuestMode.Long, g =>
        {
            g.Write64(GuestBuilder.PageTables + 0x1000 + 8, Rights | PageTableEntry.PageSize);
            g.Program(a => a.mov(__qword_ptr[0x4020_0010], rsp));
        }),
        new("paging: rights of all levels are joined", GuestMode.User, g =>
        {
            g.Write64(GuestBuilder.PageTables + 0x2000 + 8, (GuestBuilder.PageTables + 0x5000) | Present | PageTableEntry.User);
            g.Write64(GuestBuilder.PageTables + 0x5000, 0x20_0000 | Rights);
            g.Program(a =>
            {
                a.mov(rax, __qword_ptr[0x20_0000]);
                a.mov(__qword_ptr[0x20_0000], rax);
            });
        }),
        new("paging: 32-bit tables, A and D", GuestMode.Protected, g =>
        {
            Legacy(g);
            g.Program(a =>
            {
                EnableLegacy(a, 0);
                a.mov(eax, __dword_ptr[(int)Page]);
                a.mov(__dword_ptr[(int)Page + 0x1000], esp);
            });
        }),
        new("paging: 32-bit tables, #PF", GuestMode.Protected, g =>
        {
            Legacy(g);
            g.Write32(GuestBuilder.PageTables + 0x1000 + (uint)(Page >> 12 << 2), 0);
            g.Program(a =>
            {
                EnableLegacy(a, 0);
                a.mov(__dword_ptr[(int)Page + 0x10], esp);
            });
        }),
        new("paging: 4 MiB pages", GuestMode.Protected, g =>
        {
            Legacy(g);
            g.Write32(GuestBuilder.PageTables + 4, (uint)(Rights | PageTableEntry.PageSize));
            g.Program(a =>
            {
                EnableLegacy(a, (int)Cr4.PageSizeExtensions);
                a.mov(__dword_ptr[0x40_0000 + (int)Page], esp);
            });
        }),
        new("paging: PAE tables", GuestMode.Protected, g =>
        {
            g.Write64(GuestBuilder.PageTables, (GuestBuilder.PageTables + 0x1000) | Present);
            g.Write64(GuestBuilder.PageTables + 0x1000, Rights | PageTableEntry.PageSize);
            g.Write64(GuestBuilder.PageTables + 0x1008, 0x20_0000 | Rights | PageTableEntry.PageSize);
            g.Program(a =>
            {
                EnableLegacy(a, (int)Cr4.PhysicalAddressExtension);
                a.mov(eax, __dword_ptr[0x20_0000]);
                a.mov(__dword_ptr[(int)Page], esp);
                a.mov(eax, __dword_ptr[0x40_0000]);
            });
        }),
        new("paging: shutdown or #GP of a PDPTE with reserved bits", GuestMode.Protected, g =>
        {
            g.Write64(GuestBuilder.PageTables, (GuestBuilder.PageTables + 0x1000) | Rights);
            g.Write64(GuestBuilder.PageTables + 0x1000, Rights | PageTableEntry.PageSize);
            g.Program(a => EnableLegacy(a, (int)Cr4.PhysicalAddressExtension));
        }),
    ];

    private static void Legacy(GuestBuilder g)
    {
        g.Write32(GuestBuilder.PageTables, (uint)((GuestBuilder.PageTables + 0x1000) | Rights));
        for (uint page = 0; page < 512; page++)
        {
            g.Write32(GuestBuilder.PageTables + 0x1000 + (page * 4), (page << 12) | (uint)Rights);
        }
    }

    private static void EnableLegacy(Assembler a, int cr4Bits)
    {
        if (cr4Bits != 0)
        {
            a.mov(eax, cr4);
            a.or(eax, cr4Bits);
            a.mov(cr4, eax);
        }

        a.mov(eax, (int)GuestBuilder.PageTables);
        a.mov(cr3, eax);
        a.mov(eax, cr0);
        a.or(eax, unchecked((int)Cr0.Paging));
        a.mov(cr0, eax);
    }
}
