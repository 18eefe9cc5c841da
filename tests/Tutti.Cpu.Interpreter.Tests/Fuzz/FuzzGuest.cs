using Tutti.Cpu.Interpreter.Tests.Oracle;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.Fuzz;

/// <summary>
/// Fills a small RAM with random code and half-sane tables (so that exceptions find handlers, made of random code too) and
/// gives the registers that start it in a mode.
/// </summary>
internal sealed class FuzzGuest(GuestMemory memory, SeededRandom random)
{
    public const int RamSize = 0x4_0000;
    private const ulong Idt = 0x1000;
    private const ulong Gdt = 0x2000;
    private const ulong Tss = 0x3000;
    private const ulong Pml4 = 0x4000;
    private const ulong Pdpt = 0x5000;
    private const ulong PageDirectory = 0x6000;
    private const ulong PageDirectory32 = 0x7000;
    private const ulong PdptPae = 0x8000;
    private const uint Code = 0x1_0000;
    private const int CodeSize = 0x1_0000;
    private const uint StackTop = 0x3_F000;
    private const ushort GdtSize = 0x100;
    private const ushort Code64 = 0x08;
    private const ushort Data = 0x10;
    private const ushort Code32 = 0x18;
    private const ushort Code16 = 0x20;
    private const ushort Data16 = 0x28;
    private const ushort UserCode64 = 0x33;
    private const ushort UserData = 0x3B;
    private const ushort UserCode32 = 0x43;
    private const ushort TaskState = 0x48;

    private static readonly ulong[] Descriptors =
    [
        0,
        0x00AF_9B00_0000_FFFF, // 64-bit code
        0x00CF_9300_0000_FFFF, // data
        0x00CF_9B00_0000_FFFF, // 32-bit code
        0x0000_9B00_0000_FFFF, // 16-bit code
        0x0000_9300_0000_FFFF, // 16-bit data
        0x00AF_FB00_0000_FFFF, // user 64-bit code
        0x00CF_F300_0000_FFFF, // user data
        0x00CF_FB00_0000_FFFF, // user 32-bit code
    ];

    private readonly byte[] _ram = new byte[RamSize];

    /// <summary>Puts new random contents into RAM and returns where the processor starts.</summary>
    public ProcessorRegisters Prepare(FuzzMode mode)
    {
        for (int i = 0; i < RamSize; i += 8)
        {
            BitConverter.TryWriteBytes(_ram.AsSpan(i), random.Next());
        }

        if (random.Percent(70))
        {
            DilutePrefixes();
        }

        bool isLong = mode is FuzzMode.Compatibility or FuzzMode.LongSupervisor or FuzzMode.LongUser;
        WriteTables(isLong);
        if (mode == FuzzMode.Real)
        {
            for (ulong vector = 0; vector < 256; vector++)
            {
                Put(vector * 4, (uint)random.Below(0x1000) | 0x1000_0000, 4);
            }
        }

        // Written as a device would write it, so that blocks of the run before go away.
        memory.TryWrite(0, _ram);
        ProcessorRegisters registers = new();
        for (int i = 0; i < 16; i++)
        {
            registers.Gpr[i] = random.Percent(70) ? (ulong)random.Below(RamSize) : random.Value();
        }

        registers.Gpr[4] = StackTop - ((ulong)random.Below(64) * 8);
        SetMode(registers, mode, isLong);
        return registers;
    }

    /// <summary>Replaces most bytes that only send the decoder to #UD or that leave at once, so that runs get longer.</summary>
    private void DilutePrefixes()
    {
        for (int i = (int)Code; i < (int)Code + CodeSize; i++)
        {
            if (_ram[i] is 0xC4 or 0xC5 && random.Percent(30))
            {
                // A VEX prefix in every mode, of an opcode map that there is.
                _ram[i + 1] |= 0xC0;
                _ram[i + 1] = _ram[i] == 0xC4 ? (byte)((_ram[i + 1] & 0xE0) | (1 + random.Below(3))) : _ram[i + 1];
            }
            else if (_ram[i] is 0xF0 or 0x62 or 0xC4 or 0xC5 or 0xF4 or 0x9A or 0xEA or 0xCF or 0xC8 or 0xCA or 0xCB && random.Percent(85))
            {
                _ram[i] = (byte)random.Below(0x40);
            }
        }
    }

    private void Put(ulong address, ulong value, int size)
    {
        for (int i = 0; i < size; i++)
        {
            _ram[(int)address + i] = (byte)(value >> (8 * i));
        }
    }

    private void WriteTables(bool isLong)
    {
        for (int i = 0; i < Descriptors.Length; i++)
        {
            Put(Gdt + ((ulong)i * 8), Descriptors[i], 8);
        }

        Put(Gdt + TaskState, 0x0000_8B00_3000_0067, 8);
        Put(Gdt + TaskState + 8, 0, 8);
        for (ulong vector = 0; vector < 256; vector++)
        {
            ulong offset = Code + (ulong)random.Below(CodeSize);
            ulong type = random.Percent(90) ? 0x8EUL | (random.Next() & 0x61) : random.Next() & 0xFF;
            ulong selector = isLong ? Code64 : random.Percent(80) ? Code32 : random.Percent(50) ? Code16 : random.Next() & 0xFFF8;
            ulong low = (offset & 0xFFFF) | (selector << 16) | (isLong ? (random.Next() & 1) << 32 : 0) | (type << 40) | (offset >> 16 << 48);
            Put(Idt + (vector * (isLong ? 16UL : 8)), low, 8);
            if (isLong)
            {
                Put(Idt + (vector * 16) + 8, 0, 8);
            }
        }

        Put(Tss + 4, StackTop, 8);
        if (isLong)
        {
            Put(Tss + 0x24, StackTop - 0x800, 8);
        }
        else
        {
            Put(Tss + 8, Data, 4);
        }

        const ulong All = PageTableEntry.Present | PageTableEntry.Writable | PageTableEntry.User;
        Put(Pml4, Pdpt | All, 8);
        Put(Pdpt, PageDirectory | All, 8);
        Put(PageDirectory, All | PageTableEntry.PageSize, 8);
        Put(PageDirectory32, All | PageTableEntry.PageSize, 4);
        Put(PdptPae, PageDirectory | PageTableEntry.Present, 8);
    }

    private void SetMode(ProcessorRegisters registers, FuzzMode mode, bool isLong)
    {
        registers.GdtBase = Gdt;
        registers.GdtLimit = GdtSize - 1;
        registers.IdtBase = mode == FuzzMode.Real ? 0 : Idt;
        registers.IdtLimit = (ushort)(mode == FuzzMode.Real ? 0x3FF : isLong ? 0xFFF : 0x7FF);
        registers.Tr = new SegmentRegister(TaskState, Tss, 0x67, SegmentAttributes.Present | 0xB);
        registers.Rip = Code + (ulong)random.Below(CodeSize - 64);
        registers.Rflags = Rflags.AlwaysOne | (random.Next() & (Rflags.Arithmetic | Rflags.Direction | Rflags.Interrupt));
        registers.Cr0 = Cr0.ExtensionType | Cr0.NumericError | (mode == FuzzMode.Real ? 0 : Cr0.ProtectionEnable);
        registers.Cr4 = Cr4.OsFxsr | Cr4.OsXmmException | Cr4.OsXsave;
        registers.Xcr0 = XsaveLayout.Supported;
        bool paged = isLong || mode is FuzzMode.Paged32 or FuzzMode.PhysicalAddressExtension;
        registers.Cr0 |= paged ? Cr0.Paging | (random.Percent(50) ? Cr0.WriteProtect : 0) : 0;
        registers.Cr4 |= isLong || mode == FuzzMode.PhysicalAddressExtension ? Cr4.PhysicalAddressExtension : Cr4.PageSizeExtensions;
        registers.Cr3 = isLong ? Pml4 : mode == FuzzMode.PhysicalAddressExtension ? PdptPae : PageDirectory32;
        registers.Efer = isLong ? Efer.LongModeEnable | Efer.LongModeActive | Efer.SyscallEnable | Efer.NoExecuteEnable : 0;
        (ushort code, ushort data) = mode switch
        {
            FuzzMode.Protected16 => (Code16, Data16),
            FuzzMode.Compatibility => (UserCode32, UserData),
            FuzzMode.LongSupervisor => (Code64, Data),
            FuzzMode.LongUser => (UserCode64, UserData),
            _ => (Code32, Data),
        };
        if (mode is FuzzMode.Real or FuzzMode.Virtual8086)
        {
            SetRealSegments(registers, mode);
            return;
        }

        if (mode == FuzzMode.Protected16)
        {
            registers.Rip &= 0xFFFF;
        }

        registers.Segments.AsSpan().Fill(Segment(data));
        registers.Segments[1] = Segment(code);
    }

    private void SetRealSegments(ProcessorRegisters registers, FuzzMode mode)
    {
        ushort attributes = (ushort)(mode == FuzzMode.Real ? 0x93 : 0xF3);
        for (int i = 0; i < 6; i++)
        {
            ushort selector = (ushort)(i == 1 ? (int)Code >> 4 : i == 2 ? 0x3000 : random.Below(RamSize >> 4));
            registers.Segments[i] = new SegmentRegister(selector, (ulong)selector << 4, 0xFFFF, attributes);
        }

        registers.Rip &= 0xFFFF;
        registers.Gpr[4] &= 0xFFFF;
        registers.Rflags |= mode == FuzzMode.Virtual8086 ? Rflags.Virtual8086 | (random.Percent(50) ? Rflags.Iopl : 0) : 0;
    }

    private static SegmentRegister Segment(ushort selector)
    {
        ulong descriptor = Descriptors[selector >> 3];
        uint limit = (uint)(descriptor & 0xFFFF) | (uint)((descriptor >> 32) & 0xF_0000);
        ushort attributes = (ushort)((descriptor >> 40) & 0xF0FF);
        return new SegmentRegister(selector, 0, (attributes & SegmentAttributes.Granularity) != 0 ? (limit << 12) | 0xFFF : limit, attributes);
    }
}
