using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Cpu.Kvm.Tests;

/// <summary>Descriptor tables and page tables of small guests, and the registers that use them.</summary>
internal static class GuestTables
{
    internal const ulong Stack = 0x8000;
    internal const ulong Idt = 0x1_1000;
    private const ulong Gdt = 0x1_0000;
    private const ulong Tss = 0x1_2000;
    private const ulong Pml4 = 0x2_0000;
    private const ulong Pdpt = 0x2_1000;
    private const ulong PageDirectories = 0x2_2000;
    private const ulong PageDirectory32 = 0x2_6000;
    private const ulong PdptPae = 0x2_7000;
    private const ulong LargePage = 2 << 20;
    private const ulong LargePage32 = 4 << 20;
    private const ushort Code64 = 0x08;
    private const ushort Data = 0x10;
    private const ushort Code32 = 0x18;
    private const ushort Code16 = 0x20;
    private const ushort Data16 = 0x28;
    private const ushort TaskState = 0x30;
    private const ushort UserData = 0x43;
    private const ushort UserCode64 = 0x4B;

    /// <summary>The I/O permission bitmap lies behind the 104 bytes of the segment, and allows every port.</summary>
    private const ushort PermissionBitmap = 0x68;

    private const ushort TssLimit = PermissionBitmap + 0x2000;
    private const ulong All = PageTableEntry.Present | PageTableEntry.Writable | PageTableEntry.User;

    private static readonly ulong[] Descriptors =
    [
        0,
        0x00AF_9B00_0000_FFFF,
        0x00CF_9300_0000_FFFF,
        0x00CF_9B00_0000_FFFF,
        0x0000_9B00_0000_FFFF,
        0x0000_9300_0000_FFFF,
        0x0000_8B01_2000_2068,
        0,
        0x00CF_F300_0000_FFFF,
        0x00AF_FB00_0000_FFFF,
    ];

    internal static int Bits(GuestMode mode) => mode switch
    {
        GuestMode.Real or GuestMode.Protected16 => 16,
        GuestMode.Long or GuestMode.LongUser => 64,
        _ => 32,
    };

    /// <summary>Maps the first 4 GiB one to one in every format; the first 2 MiB of RAM hold the tables.</summary>
    internal static void Write(GuestMemory memory)
    {
        for (int i = 0; i < Descriptors.Length; i++)
        {
            Put(memory, Gdt + ((ulong)i * 8), Descriptors[i]);
        }

        Put(memory, Tss + 4, Stack - 0x1000);
        Assert.True(memory.TryWrite(Tss + PermissionBitmap - 2, PermissionBitmap));
        Assert.True(memory.TryWrite(Tss + TssLimit, byte.MaxValue));
        Put(memory, Pml4, Pdpt | All);
        for (ulong i = 0; i < 4; i++)
        {
            Put(memory, Pdpt + (i * 8), (PageDirectories + (i * 0x1000)) | All);
            Put(memory, PdptPae + (i * 8), (PageDirectories + (i * 0x1000)) | PageTableEntry.Present);
        }

        for (ulong i = 0; i < 2048; i++)
        {
            Put(memory, PageDirectories + (i * 8), (i * LargePage) | All | PageTableEntry.PageSize);
        }

        for (ulong i = 0; i < 1024; i++)
        {
            Assert.True(memory.TryWrite(PageDirectory32 + (i * 4), (uint)((i * LargePage32) | All | PageTableEntry.PageSize)));
        }
    }

    /// <summary>Lets the first 1 GiB of virtual addresses from 4 GiB on lead to physical 4 GiB and on, in long mode.</summary>
    internal static void MapHighMemory(GuestMemory memory)
    {
        const ulong HighDirectory = 0x2_8000;
        Put(memory, Pdpt + (4 * 8), HighDirectory | All);
        for (ulong i = 0; i < 512; i++)
        {
            Put(memory, HighDirectory + (i * 8), (GuestMemoryLayout.HighMemoryStart + (i * LargePage)) | All | PageTableEntry.PageSize);
        }
    }

    /// <summary>Lets an interrupt or exception lead to code.</summary>
    internal static void SetHandler(GuestMemory memory, GuestMode mode, int vector, ulong address)
    {
        switch (Bits(mode))
        {
            case 16:
                Assert.Equal(GuestMode.Real, mode);
                Assert.True(memory.TryWrite((ulong)vector * 4, (uint)address));
                break;
            case 32:
                Put(memory, Idt + ((ulong)vector * 8), (address & 0xFFFF) | ((ulong)Code32 << 16) | (0x8EUL << 40) | (address >> 16 << 48));
                break;
            default:
                Put(memory, Idt + ((ulong)vector * 16), (address & 0xFFFF) | ((ulong)Code64 << 16) | (0x8EUL << 40) | ((address >> 16) & 0xFFFF) << 48);
                Put(memory, Idt + ((ulong)vector * 16) + 8, address >> 32);
                break;
        }
    }

    /// <summary>Sets everything that makes up the mode; the other registers are as after a reset.</summary>
    internal static void Enter(ProcessorRegisters registers, GuestMode mode, ulong rip)
    {
        registers.Rip = rip;
        registers.Rflags = Rflags.AlwaysOne | (mode == GuestMode.LongUser ? Rflags.Iopl : 0);
        registers.Gpr[4] = Stack;
        registers.GdtBase = Gdt;
        registers.GdtLimit = (ushort)((Descriptors.Length * 8) - 1);
        registers.IdtBase = mode == GuestMode.Real ? 0 : Idt;
        registers.IdtLimit = mode == GuestMode.Real ? (ushort)0x3FF : (ushort)0xFFF;
        registers.Tr = new SegmentRegister(TaskState, Tss, TssLimit, SegmentAttributes.Present | SystemDescriptorType.BusyTss);
        registers.Ldtr = default;
        registers.Activity = ProcessorActivity.Running;
        SetSegments(registers, mode);
        bool isPaged = mode >= GuestMode.Paged32;
        registers.Cr0 = Cr0.ExtensionType | Cr0.NumericError
            | (mode != GuestMode.Real ? Cr0.ProtectionEnable : 0) | (isPaged ? Cr0.Paging : 0);
        (registers.Cr3, registers.Cr4) = mode switch
        {
            GuestMode.Paged32 => (PageDirectory32, Cr4.PageSizeExtensions),
            GuestMode.Pae32 => (PdptPae, Cr4.PhysicalAddressExtension),
            GuestMode.Long or GuestMode.LongUser => (Pml4, Cr4.PhysicalAddressExtension | Cr4.OsFxsr),
            _ => (0UL, 0UL),
        };
        registers.Efer = Bits(mode) == 64 ? Efer.LongModeEnable | Efer.LongModeActive | Efer.SyscallEnable : 0;
    }

    private static void SetSegments(ProcessorRegisters registers, GuestMode mode)
    {
        (ushort code, ushort data) = mode switch
        {
            GuestMode.Real => ((ushort)0, (ushort)0),
            GuestMode.Protected16 => (Code16, Data16),
            GuestMode.Long => (Code64, Data),
            GuestMode.LongUser => (UserCode64, UserData),
            _ => (Code32, Data),
        };
        registers.Segments.AsSpan().Fill(mode == GuestMode.Real ? new SegmentRegister(0, 0, 0xFFFF, 0x93) : Segment(data));
        registers.Segments[1] = mode == GuestMode.Real ? new SegmentRegister(0, 0, 0xFFFF, 0x9B) : Segment(code);
    }

    private static SegmentRegister Segment(ushort selector)
    {
        Descriptor descriptor = new(Descriptors[selector >> 3]);
        return new SegmentRegister(selector, descriptor.Base, descriptor.Limit, descriptor.Attributes);
    }

    private static void Put(GuestMemory memory, ulong address, ulong value) => Assert.True(memory.TryWrite(address, value));
}
