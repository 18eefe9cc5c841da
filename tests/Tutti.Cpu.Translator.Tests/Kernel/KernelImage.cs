using System.Buffers.Binary;
using Tutti.Cpu.Interpreter.Tests.Oracle;
using Tutti.X86;
using static Tutti.Cpu.Translator.Tests.Kernel.KernelLayout;

namespace Tutti.Cpu.Translator.Tests.Kernel;

/// <summary>RAM and registers that a random kernel program begins with: random page tables, rights and modes around fixed tables and handlers.</summary>
internal sealed class KernelImage
{
    private const ulong Table = PageTableEntry.Present | PageTableEntry.Writable | PageTableEntry.Accessed | PageTableEntry.User;
    private const ulong Plain = PageTableEntry.Present | PageTableEntry.Writable | PageTableEntry.Accessed | PageTableEntry.Dirty;
    private const int BusyTss = 0x8B;

    /// <summary>
    /// Pages that both address spaces have are global. They are accessed and dirty from the start: in which of the two tables that would be noted
    /// is up to the TLB.
    /// </summary>
    public const ulong SharedMarks = PageTableEntry.Global | PageTableEntry.Accessed | PageTableEntry.Dirty;

    private readonly SeededRandom _random;

    public KernelImage(ulong seed)
    {
        _random = new SeededRandom(seed);
        SwapsGs = _random.Percent(50);
        HasInterrupts = _random.Percent(50);
        UsesStackTable = _random.Percent(70);
        KernelHandlers.Write(Ram, SwapsGs);
        WriteDescriptors();
        WriteFixedPages();
        WriteUserSpace(UserPdptA, UserDirectoryA, UserTableA);
        WriteUserSpace(UserPdptB, UserDirectoryB, UserTableB);
        for (int page = FirstSharedPage; page < ArenaPages; page++)
        {
            ulong entry = DataEntry(_random, isUser: true) | SharedMarks;
            Put(UserTableA + (ulong)((16 + page) * 8), entry);
            Put(UserTableB + (ulong)((16 + page) * 8), entry);
        }

        FillFrames();
        SetRegisters();
    }

    public byte[] Ram { get; } = new byte[RamSize];

    public ProcessorRegisters Registers { get; } = new();

    /// <summary>Whether the program may stop for an interrupt.</summary>
    public bool HasInterrupts { get; }

    /// <summary>Whether SYSCALL's entry swaps GS.</summary>
    public bool SwapsGs { get; }

    /// <summary>Whether exceptions have stacks of their own, so that RSP may point anywhere.</summary>
    public bool UsesStackTable { get; }

    public void Put(ulong physical, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(Ram.AsSpan((int)physical), value);

    /// <summary>A random entry of a page of data.</summary>
    public static ulong DataEntry(SeededRandom random, bool isUser)
    {
        if (random.Percent(10))
        {
            return random.Next() & ~PageTableEntry.Present;
        }

        int kind = random.Below(100);
        ulong frame = kind < 97 ? Frames + ((ulong)random.Below(DataFrames) * PageSize)
            : RamSize + ((ulong)random.Below(16) * PageSize);
        ulong entry = frame | PageTableEntry.Present | Some(random);
        entry |= random.Percent(isUser ? 85 : 5) ? PageTableEntry.User : 0;
        entry |= random.Percent(50) ? (ulong)random.Below(4) << PageTableEntry.KeyShift : 0;
        return entry | (!isUser && random.Percent(50) ? PageTableEntry.Global : 0);
    }

    /// <summary>A random entry of a page of functions.</summary>
    public static ulong FunctionEntry(SeededRandom random, bool isUser)
    {
        if (random.Percent(4))
        {
            return 0;
        }

        ulong entry = (FunctionFrames + ((ulong)random.Below(FunctionFrameCount) * PageSize)) | PageTableEntry.Present | (Some(random) & ~PageTableEntry.NoExecute);
        entry |= random.Percent(5) ? PageTableEntry.NoExecute : 0;
        entry |= random.Percent(isUser ? 92 : 8) ? PageTableEntry.User : 0;
        return entry | (!isUser && random.Percent(50) ? PageTableEntry.Global : 0);
    }

    private static ulong Some(SeededRandom random) =>
        (random.Percent(75) ? PageTableEntry.Writable : 0)
        | (random.Percent(50) ? PageTableEntry.Accessed | (random.Next() & PageTableEntry.Dirty) : 0)
        | (random.Percent(40) ? PageTableEntry.NoExecute : 0)
        | (random.Next() & PageTableEntry.WriteThrough);

    private static ulong Segment(byte access, byte flags) => 0xF_0000_0000_FFFF | ((ulong)access << 40) | ((ulong)flags << 52);

    private void WriteDescriptors()
    {
        Put(Gdt + 0x08, Segment(0x9B, 0xA));
        Put(Gdt + 0x10, Segment(0x93, 0xC));
        Put(Gdt + 0x18, Segment(0xFB, 0xC));
        Put(Gdt + 0x20, Segment(0xF3, 0xC));
        Put(Gdt + 0x28, Segment(0xFB, 0xA));
        ulong tss = Base + Tss;
        Put(Gdt + TssSelector, 0x67UL | ((tss & 0xFF_FFFF) << 16) | ((ulong)BusyTss << 40) | ((tss >> 24 & 0xFF) << 56));
        Put(Gdt + TssSelector + 8, tss >> 32);
        Put(Tss + 4, KernelRsp);
        ulong[] stacks = [Base + FaultStack, Base + DebugStack, Base + InterruptStack, Base + DoubleFaultStack, Base + NmiStack];
        for (int i = 0; i < stacks.Length; i++)
        {
            Put(Tss + 36 + ((ulong)i * 8), stacks[i]);
        }

        Ram[(int)Tss + 102] = 0x68;
        for (int vector = 0; vector < 256; vector++)
        {
            bool isInterrupt = vector is >= FirstInterrupt and < FirstInterrupt + InterruptVectors;
            int ist = vector switch
            {
                ExceptionVector.Nmi => 5,
                ExceptionVector.DoubleFault => 4,
                ExceptionVector.Debug => 2,
                _ => isInterrupt ? 3 : UsesStackTable ? 1 : 0,
            };
            bool isForUser = vector is ExceptionVector.Breakpoint or ExceptionVector.Overflow || (vector >= FirstFlagVector && _random.Percent(90));
            ulong target = Base + Handlers + (ulong)(vector * KernelHandlers.StubSize);
            ulong access = isForUser && !isInterrupt ? 0xEEUL : 0x8E;
            Put(Idt + (ulong)(vector * 16), (target & 0xFFFF) | ((ulong)KernelCodeSelector << 16) | ((ulong)ist << 32) | (access << 40) | ((target >> 16 & 0xFFFF) << 48));
            Put(Idt + (ulong)(vector * 16) + 8, target >> 32);
        }

        ulong[] changes =
        [
            Rflags.Carry, Rflags.Interrupt, Rflags.AlignmentCheck, Rflags.Direction | Rflags.Overflow, Rflags.Trap, Rflags.Arithmetic,
            Rflags.Iopl, Rflags.Identification | Rflags.Resume,
        ];
        for (int i = 0; i < FlagVectors; i++)
        {
            Put(FlagChanges - Base + (ulong)((FirstFlagVector + i) * 8), changes[i]);
        }
    }

    private void WriteFixedPages()
    {
        foreach (ulong entry in (ulong[])[0, 511 * 8])
        {
            Put(Pml5A + entry, Pml4A | Table);
            Put(Pml5B + entry, Pml4B | Table);
        }

        Put(Pml4A + (511 * 8), HighPdpt | Table);
        Put(Pml4B + (511 * 8), HighPdpt | Table);
        Put(HighPdpt + (510 * 8), HighDirectory | Table);
        Put(HighDirectory, FixedTable | Table);
        Put(HighDirectory + 8, KernelTable | Table);
        ulong global = _random.Next() & PageTableEntry.Global;
        Put(HighDirectory + 16, Frames | Plain | PageTableEntry.PageSize | global | (_random.Percent(30) ? PageTableEntry.NoExecute : 0));
        for (ulong page = 1; page < FixedSize / PageSize; page++)
        {
            Put(FixedTable + (page * 8), (page * PageSize) | Plain | PageTableEntry.Global);
        }

        for (ulong page = 0; page < 4; page++)
        {
            Put(KernelTable + (page * 8), (KernelCodeFrames + (page * PageSize)) | Plain | PageTableEntry.Global);
            Put(KernelTable + ((8 + page) * 8), (KernelCodeFrames + (page * PageSize)) | Plain | (_random.Next() & PageTableEntry.Global));
            Put(KernelTable + ((64 + page) * 8), FunctionEntry(_random, isUser: false));
        }

        for (ulong page = 0; page < ArenaPages; page++)
        {
            Put(KernelTable + ((16 + page) * 8), DataEntry(_random, isUser: false));
        }

        Put(LogNext - Base, Base + Log);
        Put(EventsLeft - Base, MaxEvents);
    }

    private void WriteUserSpace(ulong pdpt, ulong directory, ulong table)
    {
        Put((pdpt == UserPdptA ? Pml4A : Pml4B) + 0, pdpt | Table);
        Put(pdpt, directory | Table);
        Put(directory + 16, table | Table);
        Put(directory + 48, Frames | Plain | PageTableEntry.PageSize | (_random.Percent(80) ? PageTableEntry.User : 0) | (_random.Percent(30) ? PageTableEntry.NoExecute : 0));
        ulong writable = _random.Percent(70) ? PageTableEntry.Writable : 0;
        for (ulong page = 0; page < 4; page++)
        {
            Put(table + (page * 8), (UserCodeFrames + (page * PageSize)) | PageTableEntry.Present | PageTableEntry.User | writable);
            Put(table + ((64 + page) * 8), FunctionEntry(_random, isUser: true));
        }

        for (ulong page = 0; page < ArenaPages; page++)
        {
            Put(table + ((16 + page) * 8), DataEntry(_random, isUser: true));
        }

        for (ulong page = 0; page < 2; page++)
        {
            Put(table + ((48 + page) * 8), (UserStackFrames + (page * PageSize)) | Plain | PageTableEntry.User | PageTableEntry.NoExecute);
        }
    }

    private void FillFrames()
    {
        for (ulong at = Frames; at < Frames + (DataFrames * PageSize); at += 8)
        {
            Put(at, _random.Percent(40) ? 0 : _random.Value());
        }

        for (ulong frame = 0; frame < FunctionFrameCount; frame++)
        {
            FunctionPage.Write(Ram.AsSpan((int)(FunctionFrames + (frame * PageSize)), PageSize), (uint)(frame + 1) * 0x0101_0101);
        }
    }

    private void SetRegisters()
    {
        ProcessorRegisters r = Registers;
        for (int i = 0; i < 16; i++)
        {
            r.Gpr[i] = _random.Value();
        }

        r.Gpr[4] = KernelRsp;
        r.Rip = KernelCode;
        r.Rflags = Rflags.AlwaysOne | Rflags.Interrupt | (_random.Next() & Rflags.Arithmetic);
        r.Cr0 = Cr0.ProtectionEnable | Cr0.Paging | Cr0.ExtensionType | Cr0.NumericError | Cr0.MonitorCoprocessor
            | (_random.Percent(70) ? Cr0.WriteProtect : 0) | (_random.Next() & Cr0.AlignmentMask) | (_random.Percent(10) ? Cr0.TaskSwitched : 0);
        bool la57 = _random.Percent(30);
        r.Cr3 = la57 ? Pml5A : Pml4A;
        r.Cr4 = Cr4.PhysicalAddressExtension | Cr4.OsFxsr | Cr4.OsXmmException | Cr4.OsXsave | (_random.Next() & Cr4.FsGsBase)
            | (_random.Next() & (Cr4.SupervisorModeAccessPrevention | Cr4.SupervisorModeExecutionPrevention | Cr4.DebuggingExtensions))
            | (_random.Percent(80) ? Cr4.PageGlobalEnable : 0) | (la57 ? Cr4.LinearAddress57 : 0)
            | (_random.Percent(40) ? Cr4.ProtectionKeyEnable : 0) | (_random.Percent(20) ? Cr4.UserModeInstructionPrevention : 0);
        r.Xcr0 = XsaveLayout.X87 | XsaveLayout.Sse | (HostCalls.HasAvx ? XsaveLayout.Supported : 0);
        r.Efer = Efer.LongModeEnable | Efer.LongModeActive | (_random.Percent(97) ? Efer.SyscallEnable : 0) | Efer.NoExecuteEnable;
        r.Segments.AsSpan().Fill(new SegmentRegister(KernelData, 0, uint.MaxValue, 0xC093));
        if (HasInterrupts)
        {
            // The IRET of an interrupt would take them from user mode.
            r.Segments[0] = r.Segments[3] = new SegmentRegister(UserData, 0, uint.MaxValue, 0xC0F3);
        }

        r.Segments[1] = new SegmentRegister(KernelCodeSelector, 0, uint.MaxValue, 0xA09B);
        r.Segments[4] = new SegmentRegister(0, UserArena + ((ulong)_random.Below(ArenaPages) * PageSize), 0, 0);
        r.Segments[5] = new SegmentRegister(0, KernelArena + ((ulong)_random.Below(ArenaPages) * PageSize), 0, 0);
        r.Tr = new SegmentRegister(TssSelector, Base + Tss, 0x67, BusyTss);
        r.GdtBase = Base + Gdt;
        r.GdtLimit = 0x4F;
        r.IdtBase = Base + Idt;
        r.IdtLimit = 0xFFF;
        r.Dr[6] = Dr6.AlwaysOne;
        r.Dr[7] = Dr7.AlwaysOne;
        BinaryPrimitives.WriteUInt16LittleEndian(r.FxState, 0x37F);
        BinaryPrimitives.WriteUInt32LittleEndian(r.FxState.AsSpan(24), 0x1F80);
        for (int i = 160; i < 416; i += 8)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(r.FxState.AsSpan(i), _random.VectorValue());
        }

        const ulong Usual = Rflags.Trap | Rflags.Interrupt | Rflags.Direction | Rflags.AlignmentCheck | Rflags.NestedTask;
        r.Msrs[Msr.Star] = ((ulong)KernelCodeSelector << 32) | ((ulong)UserCode32 << 48);
        r.Msrs[Msr.Lstar] = Base + KernelHandlers.SyscallEntry;
        r.Msrs[Msr.Sfmask] = _random.Percent(65) ? Usual | (_random.Next() & Rflags.Arithmetic) : _random.Next() & Rflags.Defined;
        r.Msrs[Msr.KernelGsBase] = UserArena + ((ulong)_random.Below(ArenaPages * PageSize));
    }
}
