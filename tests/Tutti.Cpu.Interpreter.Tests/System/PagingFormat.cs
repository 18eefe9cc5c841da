using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.System;

/// <summary>One step of a walk: which bits of the linear address index the table, and whether its entries carry rights.</summary>
/// <param name="Shift">Lowest bit of the index.</param>
/// <param name="HasRights">R/W, U/S, accessed and XD exist; they do not in PAE's directory pointers.</param>
/// <param name="Reserved">Bits that must be zero, without bit 63 while EFER.NXE is clear.</param>
internal sealed record PagingLevel(int Shift, bool HasRights, ulong Reserved);

/// <summary>
/// A paging mode with one size of page: the levels from the root to the leaf, and a linear address that shares no table but
/// the root with the code that runs. Source: Intel SDM volume 3, chapter "Paging", with 40 physical address bits.
/// </summary>
internal sealed record PagingFormat(string Name, bool IsLong, bool IsPae, ulong Linear, PagingLevel[] Levels)
{
    private const ulong Tables = TestMachine.PageTables + 0x2_0000;
    private const ulong Above40 = 0x000F_FF00_0000_0000;
    private const ulong Above40Legacy = 0x7FFF_FF00_0000_0000;
    private const ulong High = 0xFFFF_FF80_0000_0000;

    /// <summary>What only 57 bits reach.</summary>
    private const ulong Far = 0xFF12_3480_0000_0000;

    public static readonly PagingFormat[] All =
    [
        new("32-bit, 4 KiB", false, false, 0x8040_A000, [new(22, true, 0), new(12, true, 0)]),
        new("32-bit, 4 MiB", false, false, 0x8040_A000, [new(22, true, 1 << 21)]),
        new("PAE, 4 KiB", false, true, 0x8040_A000, [new(30, false, 0), new(21, true, Above40Legacy), new(12, true, Above40Legacy)]),
        new("PAE, 2 MiB", false, true, 0x8040_A000, [new(30, false, 0), new(21, true, Above40Legacy | 0x1F_E000)]),
        new("4-level, 4 KiB", true, true, High + 0x8040_A000, [new(39, true, Above40 | 0x80), new(30, true, Above40), new(21, true, Above40), new(12, true, Above40)]),
        new("4-level, 2 MiB", true, true, High + 0x8040_A000, [new(39, true, Above40 | 0x80), new(30, true, Above40), new(21, true, Above40 | 0x1F_E000)]),
        new("4-level, 1 GiB", true, true, High + 0x8000_A000, [new(39, true, Above40 | 0x80), new(30, true, Above40 | 0x3FFF_E000)]),
        new("5-level, 4 KiB", true, true, Far + 0x8040_A000, [new(48, true, Above40 | 0x80), new(39, true, Above40 | 0x80), new(30, true, Above40), new(21, true, Above40), new(12, true, Above40)]),
        new("5-level, 1 GiB", true, true, Far + 0x8000_A000, [new(48, true, Above40 | 0x80), new(39, true, Above40 | 0x80), new(30, true, Above40 | 0x3FFF_E000)]),
    ];

    public bool IsLa57 => Levels[0].Shift == 48;

    public int EntrySize => IsPae ? 8 : 4;

    /// <summary>Without rights: where the entry of a level points.</summary>
    public ulong Target(int level) => level < Levels.Length - 1
        ? Tables + ((ulong)(level + 1) * 0x1000)
        : Levels[level].Shift == 12 ? TestMachine.Data : PageTableEntry.PageSize;

    public ulong Slot(int level)
    {
        ulong index = (Linear >> Levels[level].Shift) & (IsPae ? 511UL : 1023UL);
        ulong table = level == 0 ? TestMachine.PageTables : Tables + ((ulong)level * 0x1000);
        return table + ((level == 0 && IsPae && !IsLong ? index & 3 : index) * (ulong)EntrySize);
    }

    /// <summary>A machine in this mode: everything that runs is mapped one to one, for level 3 only its own code.</summary>
    public TestMachine CreateMachine()
    {
        TestMachine machine = IsLong ? TestMachine.Long() : TestMachine.Protected();
        const ulong Rights = PageTableEntry.Present | PageTableEntry.Writable | PageTableEntry.User;
        ulong directory = TestMachine.PageTables;
        if (IsPae)
        {
            directory = TestMachine.PageTables + 0x2000;
            machine.Write(TestMachine.PageTables, TestMachine.PageTables + 0x1000 | (IsLong ? Rights : PageTableEntry.Present));
            machine.Write(TestMachine.PageTables + 0x1000, directory | Rights);
        }

        if (IsLa57)
        {
            // One level more, in between.
            machine.Write(TestMachine.PageTables, TestMachine.PageTables + 0x4000 | Rights);
            machine.Write(TestMachine.PageTables + 0x4000, TestMachine.PageTables + 0x1000 | Rights);
        }

        if (!IsLong)
        {
            WriteEntry(machine, directory, TestMachine.PageTables + 0x3000 | Rights);
            if (IsPae)
            {
                machine.Write(TestMachine.PageTables + 0x1000, TestMachine.PageTables + 0x3000 | Rights);
            }
        }

        for (ulong page = 0; page < 512; page++)
        {
            ulong rights = page << 12 == TestMachine.UserCode ? Rights : PageTableEntry.Present | PageTableEntry.Writable;
            WriteEntry(machine, TestMachine.PageTables + 0x3000 + (page * (ulong)EntrySize), page << 12 | rights);
        }

        ProcessorRegisters r = machine.Registers;
        r.Cr3 = TestMachine.PageTables;
        r.Cr4 = (IsPae ? Cr4.PhysicalAddressExtension : Cr4.PageSizeExtensions) | (IsLa57 ? Cr4.LinearAddress57 : 0);
        r.Cr0 |= Cr0.Paging;
        return machine;
    }

    public void WriteEntry(TestMachine machine, ulong slot, ulong value)
    {
        if (IsPae)
        {
            machine.Write(slot, value);
        }
        else
        {
            machine.Write(slot, (uint)value);
        }
    }

    public ulong ReadEntry(TestMachine machine, int level) =>
        IsPae ? machine.Read<ulong>(Slot(level)) : machine.Read<uint>(Slot(level));

    public override string ToString() => Name;
}
