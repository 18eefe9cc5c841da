using System.Buffers.Binary;
using Tutti.Cpu;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Boot;

/// <summary>The processor state, page tables and descriptor table that a kernel's entry asks for.</summary>
internal static class EntryState
{
    private const ushort CodeSelector = 0x10; // __BOOT_CS
    private const ushort DataSelector = 0x18; // __BOOT_DS
    private const ushort TaskSelector = 0x20;
    private const uint TssLimit = 0x67;
    private const ushort FlatAttributes = SegmentAttributes.Present | SegmentAttributes.NonSystem | SegmentAttributes.WritableOrReadable
        | SegmentAttributes.Accessed | SegmentAttributes.Granularity;

    private const ushort DataAttributes = FlatAttributes | SegmentAttributes.Big;
    private const ushort Code32Attributes = FlatAttributes | SegmentAttributes.Code | SegmentAttributes.Big;
    private const ushort Code64Attributes = FlatAttributes | SegmentAttributes.Code | SegmentAttributes.Long;

    /// <summary>Type 0xB: a busy 32-bit, in long mode a busy 64-bit, task state segment.</summary>
    private const ushort TaskAttributes = SegmentAttributes.Present | 0xB;

    /// <summary>64-bit mode with the first 4 GiB mapped one to one, RSI = boot_params.</summary>
    public static ProcessorRegisters Linux64(GuestMemory memory, ulong entry)
    {
        WriteIdentityPageTables(memory);
        ProcessorRegisters registers = Flat(memory, Code64Attributes);
        registers.Cr0 = Cr0.ProtectionEnable | Cr0.ExtensionType | Cr0.Paging;
        registers.Cr3 = BootLayout.PageTables;
        registers.Cr4 = Cr4.PhysicalAddressExtension;
        registers.Efer = Efer.LongModeEnable | Efer.LongModeActive;
        registers.Rip = entry;
        registers.Gpr[6] = BootLayout.BootParams; // RSI
        return registers;
    }

    /// <summary>32-bit protected mode without paging, ESI = boot_params; EBX, EBP and EDI are zero, as the protocol asks.</summary>
    public static ProcessorRegisters Linux32(GuestMemory memory, uint entry)
    {
        ProcessorRegisters registers = Flat32(memory, entry);
        registers.Gpr[6] = BootLayout.BootParams; // RSI
        return registers;
    }

    /// <summary>32-bit protected mode without paging, EBX = hvm_start_info. Source: Xen, docs/misc/pvh.pandoc.</summary>
    public static ProcessorRegisters Pvh32(GuestMemory memory, uint entry)
    {
        ProcessorRegisters registers = Flat32(memory, entry);
        registers.Gpr[3] = BootLayout.StartInfo; // RBX
        return registers;
    }

    private static ProcessorRegisters Flat32(GuestMemory memory, uint entry)
    {
        ProcessorRegisters registers = Flat(memory, Code32Attributes);
        registers.Cr0 = Cr0.ProtectionEnable | Cr0.ExtensionType;
        registers.Rip = entry;
        return registers;
    }

    private static ProcessorRegisters Flat(GuestMemory memory, ushort codeAttributes)
    {
        SegmentRegister data = new(DataSelector, 0, 0xFFFF_FFFF, DataAttributes);
        ProcessorRegisters registers = new()
        {
            Rflags = Rflags.AlwaysOne,
            GdtBase = BootLayout.Gdt,
            GdtLimit = TaskSelector + 15,
            Tr = new SegmentRegister(TaskSelector, BootLayout.Tss, TssLimit, TaskAttributes),
            Ldtr = default,
        };
        registers.Segments.AsSpan().Fill(data);
        registers.Segments[1] = new SegmentRegister(CodeSelector, 0, 0xFFFF_FFFF, codeAttributes);

        // Power-up values, Intel SDM volume 3, "Processor State After Reset"; FPU as after FNINIT.
        registers.Dr[6] = 0xFFFF_0FF0;
        registers.Dr[7] = 0x400;
        BinaryPrimitives.WriteUInt16LittleEndian(registers.FxState, 0x37F); // FCW
        BinaryPrimitives.WriteUInt32LittleEndian(registers.FxState.AsSpan(24), 0x1F80); // MXCSR

        WriteGdt(memory, registers);
        return registers;
    }

    private static void WriteGdt(GuestMemory memory, ProcessorRegisters registers)
    {
        byte[] table = new byte[TaskSelector + 16]; // the task segment's descriptor takes 16 bytes in long mode
        BinaryPrimitives.WriteUInt64LittleEndian(table.AsSpan(CodeSelector), Descriptor(registers.Segments[1]));
        BinaryPrimitives.WriteUInt64LittleEndian(table.AsSpan(DataSelector), Descriptor(registers.Segments[3]));
        BinaryPrimitives.WriteUInt64LittleEndian(table.AsSpan(TaskSelector), Descriptor(registers.Tr));
        GuestWriter.Write(memory, BootLayout.Gdt, table);
        GuestWriter.Clear(memory, BootLayout.Tss, TssLimit + 1);
    }

    /// <summary>Packs a segment into its descriptor. Source: Intel SDM volume 3, "Segment Descriptors".</summary>
    private static ulong Descriptor(SegmentRegister segment)
    {
        ulong limit = (segment.Attributes & SegmentAttributes.Granularity) != 0 ? segment.Limit >> 12 : segment.Limit;
        return (limit & 0xFFFF)
            | ((segment.Base & 0xFF_FFFF) << 16)
            | ((ulong)(segment.Attributes & 0xF0FF) << 40)
            | ((limit >> 16) << 48)
            | ((segment.Base >> 24) << 56);
    }

    /// <summary>Maps 0 to 4 GiB one to one with 2 MiB pages, which every x86-64 processor has; 1 GiB pages not all do.</summary>
    private static void WriteIdentityPageTables(GuestMemory memory)
    {
        const int Directories = 4;
        const int Entries = 512;
        const ulong LargePage = 2 << 20;
        ulong[] table = new ulong[(2 + Directories) * Entries];
        const ulong Link = PageTableEntry.Present | PageTableEntry.Writable;
        table[0] = (BootLayout.PageTables + 0x1000) | Link;
        for (int i = 0; i < Directories; i++)
        {
            table[Entries + i] = (BootLayout.PageTables + 0x2000 + ((ulong)i * 0x1000)) | Link;
        }

        for (int i = 0; i < Directories * Entries; i++)
        {
            table[(2 * Entries) + i] = ((ulong)i * LargePage) | Link | PageTableEntry.PageSize;
        }

        byte[] bytes = new byte[table.Length * 8];
        for (int i = 0; i < table.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(i * 8), table[i]);
        }

        GuestWriter.Write(memory, BootLayout.PageTables, bytes);
    }
}
