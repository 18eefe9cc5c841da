using System.Buffers.Binary;
using Iced.Intel;
using Tutti.Cpu;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Engines.Compare.Guests;

/// <summary>
/// Puts a small guest into RAM: tables, page tables, and for each vector a stub that ends the run, so that the vector shows in RIP
/// and the frame in memory.
/// </summary>
internal sealed class GuestBuilder
{
    public const ulong RamSize = 4 << 20;
    public const ulong Gdt = 0x1000;
    public const ulong Idt = 0x2000;
    public const ulong Tss = 0x4000;
    public const ulong OtherTss = 0x7000;
    public const ulong Code = 0x8000;
    public const ulong UserCode = 0x9000;
    public const ulong Data = 0xA000;
    public const ulong Stubs = 0x2_0000;
    public const ulong KernelStack = 0x4_0000;
    public const ulong UserStack = 0x5_0000;
    public const ulong InnerStack = 0x6_0000;
    public const ulong IstStack = 0x7_0000;
    public const ulong PageTables = 0x10_0000;
    public const int StubSize = 16;

    /// <summary>Physical addresses of nobody's RAM, mapped in long mode too.</summary>
    public const ulong Mmio = 0xD000_0000;

    public const ushort KernelCode = 0x08;
    public const ushort KernelData = 0x10;
    public const ushort KernelCode32 = 0x18;

    // Linux's numbers: a KVM without hardware below it runs user code with the host's own selectors.
    public const ushort UserCode32 = 0x23;
    public const ushort UserData = 0x2B;
    public const ushort UserCode64 = 0x33;
    public const ushort KernelCode16 = 0x38;
    public const ushort TssSelector = 0x40;
    public const ushort OtherTssSelector = 0x50;
    public const ushort KernelData16 = 0x60;

    /// <summary>First GDT slot that guests may fill; there are 16.</summary>
    public const ushort FreeSelector = 0x80;

    private const byte GateOfAll = 0xEE;
    private const byte Gate = 0x8E;
    private const ulong PatAtReset = 0x0007_0406_0007_0406;
    private const ushort TssLimit = 0x2068;

    /// <summary>Code that runs before the guest's own where the guest has to load TR itself.</summary>
    private const ulong Prologue = 0x8E00;

    private readonly GuestMemory _memory;

    /// <param name="memory">RAM, all zeros.</param>
    /// <param name="mode">The mode that the guest begins in.</param>
    public GuestBuilder(GuestMemory memory, GuestMode mode)
    {
        _memory = memory;
        Mode = mode;
        IsLong = mode is GuestMode.Long or GuestMode.User;
        SetCommonRegisters();
        if (mode == GuestMode.Real)
        {
            BuildReal();
        }
        else
        {
            BuildTables();
            BuildProtected();
        }
    }

    public GuestMode Mode { get; }

    public bool IsLong { get; }

    /// <summary>Where the guest begins.</summary>
    public ProcessorRegisters Registers { get; } = new();

    private int Bits => Mode switch
    {
        GuestMode.Real or GuestMode.Protected16 => 16,
        GuestMode.Protected or GuestMode.ProtectedUser => 32,
        _ => 64,
    };

    /// <summary>A code, data or system descriptor.</summary>
    /// <param name="limit">20 bits.</param>
    /// <param name="access">P, DPL, S and type.</param>
    /// <param name="flags">G, D/B, L and AVL.</param>
    /// <param name="segmentBase">32 bits.</param>
    public static ulong Segment(uint limit, byte access, byte flags, uint segmentBase = 0) =>
        (limit & 0xFFFF) | ((ulong)(segmentBase & 0xFF_FFFF) << 16) | ((ulong)access << 40)
        | ((ulong)(limit >> 16) << 48) | ((ulong)flags << 52) | ((ulong)(segmentBase >> 24) << 56);

    /// <summary>A gate, without the upper half of long mode's.</summary>
    public static ulong GateTo(ulong target, ushort selector, byte access, int count = 0) =>
        (target & 0xFFFF) | ((ulong)selector << 16) | ((ulong)count << 32) | ((ulong)access << 40) | ((target >> 16 & 0xFFFF) << 48);

    /// <summary>The guest's own code, at the place and in the mode that it begins with; it ends the run where it falls through.</summary>
    public void Program(Action<Assembler> write) =>
        Assemble(Mode is GuestMode.User or GuestMode.ProtectedUser ? UserCode : Code, Bits, write);

    /// <summary>Code at an address, with the end of the run behind it.</summary>
    public void Assemble(ulong address, int bits, Action<Assembler> write)
    {
        var assembler = new Assembler(bits);
        write(assembler);
        End(assembler, Mode == GuestMode.User && address >> 12 == UserCode >> 12);
        var stream = new MemoryStream();
        assembler.Assemble(new StreamCodeWriter(stream), address);
        Put(address, stream.ToArray());
    }

    /// <summary>Ends the run: by a write to the exit port, or in 64-bit user code by #UD, whose stub does that.</summary>
    private static void End(Assembler a, bool isUser)
    {
        if (isUser)
        {
            a.ud2();
        }
        else
        {
            a.db(0xE6, IoLog.ExitPort, 0xEB, 0xFE);
        }
    }

    public void Put(ulong address, ReadOnlySpan<byte> bytes)
    {
        if (!_memory.TryWrite(address, bytes))
        {
            throw new ArgumentOutOfRangeException(nameof(address));
        }
    }

    public void Write64(ulong address, ulong value)
    {
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        Put(address, bytes);
    }

    public void Write32(ulong address, uint value)
    {
        Span<byte> bytes = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, value);
        Put(address, bytes);
    }

    public void Write16(ulong address, ushort value) => Put(address, [(byte)value, (byte)(value >> 8)]);

    public void SetDescriptor(ushort selector, ulong value) => Write64(Gdt + (selector & 0xFFF8u), value);

    /// <summary>A gate of the IDT to the vector's stub.</summary>
    public void SetGate(int vector, byte access = Gate, ushort selector = KernelCode, int ist = 0) =>
        SetGateTarget(vector, StubOf(vector), access, selector, ist);

    public void SetGateTarget(int vector, ulong target, byte access = Gate, ushort selector = KernelCode, int ist = 0) =>
        Write64(Idt + ((ulong)vector * (IsLong ? 16UL : 8UL)), GateTo(target, selector, access, ist));

    public static ulong StubOf(int vector) => Stubs + ((ulong)vector * StubSize);

    /// <summary>The entry of a page below 2 MiB in long mode's page tables.</summary>
    public static ulong PageEntry(ulong linear) => PageTables + 0x3000 + ((linear >> 12) * 8);

    public void SetPage(ulong linear, ulong entry) => Write64(PageEntry(linear), entry);

    private void SetCommonRegisters()
    {
        ProcessorRegisters r = Registers;
        r.Cr0 = Cr0.ExtensionType | Cr0.NumericError;
        r.Cr4 = Cr4.OsFxsr | Cr4.OsXmmException;
        r.Rip = Code;
        r.Gpr[4] = KernelStack;
        r.Dr[6] = Dr6.AlwaysOne;
        r.Dr[7] = Dr7.AlwaysOne;
        BinaryPrimitives.WriteUInt16LittleEndian(r.FxState, 0x37F);
        BinaryPrimitives.WriteUInt32LittleEndian(r.FxState.AsSpan(24), 0x1F80);
        BinaryPrimitives.WriteUInt32LittleEndian(r.FxState.AsSpan(28), 0xFFFF);
        foreach (uint msr in (ReadOnlySpan<uint>)[Msr.Star, Msr.Lstar, Msr.Cstar, Msr.Sfmask, Msr.KernelGsBase, Msr.SysenterCs, Msr.SysenterEsp, Msr.SysenterEip])
        {
            r.Msrs[msr] = 0;
        }

        r.Msrs[Msr.Pat] = PatAtReset;
    }

    private void PutStubs()
    {
        for (int vector = 0; vector < 256; vector++)
        {
            Put(StubOf(vector), [0xE6, IoLog.ExitPort, 0xEB, 0xFE]);
        }
    }

    private void BuildReal()
    {
        PutStubs();
        for (uint vector = 0; vector < 256; vector++)
        {
            Write32(vector * 4, (uint)(StubOf((int)vector) >> 4) << 16);
        }

        ProcessorRegisters r = Registers;
        for (int i = 0; i < 6; i++)
        {
            r.Segments[i] = new SegmentRegister(0, 0, 0xFFFF, (ushort)(i == 1 ? 0x9B : 0x93));
        }

        r.Tr = new SegmentRegister(0, 0, 0xFFFF, 0x8B);
        r.Ldtr = new SegmentRegister(0, 0, 0xFFFF, 0x82);
        r.IdtLimit = 0x3FF;
        r.GdtBase = Gdt;
        r.GdtLimit = 0xFF;
        r.Gpr[4] = 0x7000;
    }

    private void BuildTables()
    {
        byte codeFlags = (byte)(IsLong ? 0xA : 0xC);
        SetDescriptor(KernelCode, Segment(0xFFFFF, 0x9B, codeFlags));
        SetDescriptor(KernelData, Segment(0xFFFFF, 0x93, 0xC));
        SetDescriptor(UserCode32, Segment(0xFFFFF, 0xFB, 0xC));
        SetDescriptor(UserData, Segment(0xFFFFF, 0xF3, 0xC));
        SetDescriptor(UserCode64, Segment(0xFFFFF, 0xFB, codeFlags));
        SetDescriptor(KernelCode32, Segment(0xFFFFF, 0x9B, 0xC));
        SetDescriptor(KernelCode16, Segment(0xFFFF, 0x9B, 0));
        SetDescriptor(KernelData16, Segment(0xFFFF, 0x93, 0));
        SetDescriptor(TssSelector, Segment(TssLimit, 0x8B, 0, (uint)Tss));
        SetDescriptor(OtherTssSelector, Segment(0x67, 0x89, 0, (uint)OtherTss));
        PutStubs();
        for (int vector = 0; vector < 256; vector++)
        {
            SetGate(vector, vector is 3 or 4 or 0x80 ? GateOfAll : Gate);
        }

        if (IsLong)
        {
            Write64(Tss + 4, InnerStack);
            Write64(Tss + 36, IstStack);
            BuildPageTables();
        }
        else
        {
            Write32(Tss + 4, (uint)InnerStack);
            Write32(Tss + 8, KernelData);
        }

        // The I/O map allows no port to user code without IOPL but those of its first byte.
        Write16(Tss + 102, 0x68);
        byte[] map = new byte[TssLimit + 1 - 0x68];
        map.AsSpan().Fill(0xFF);
        map[0] = 0;
        Put(Tss + 0x68, map);
    }

    /// <summary>
    /// Lets a 32-bit guest load TR itself: LTR at level 0, then on to the guest's own code at its level. Comes after everything else.
    /// See <see cref="HostEvidence.IsTranslated"/>.
    /// </summary>
    public void LoadTaskRegisterFirst()
    {
        if (Mode is not (GuestMode.Protected or GuestMode.ProtectedUser))
        {
            return;
        }

        ProcessorRegisters r = Registers;
        ushort code = r.Segments[1].Selector;
        ulong flags = r.Rflags;
        SetDescriptor(TssSelector, Segment(TssLimit, 0x89, 0, (uint)Tss));
        Assemble(Prologue, 32, a =>
        {
            a.push(AssemblerRegisters.eax);
            a.mov(AssemblerRegisters.ax, TssSelector);
            a.ltr(AssemblerRegisters.ax);
            a.pop(AssemblerRegisters.eax);
            if (Mode == GuestMode.ProtectedUser)
            {
                a.push(UserData);
                a.push((int)UserStack);
                a.push((int)flags);
                a.push(code);
                a.push((int)UserCode);
                a.iretd();
            }
            else
            {
                a.jmp(Code);
            }
        });
        r.Rip = Prologue;
        if (Mode == GuestMode.ProtectedUser)
        {
            r.Gpr[4] = KernelStack;
            r.Rflags = Rflags.AlwaysOne;
            r.Segments[1] = new SegmentRegister(KernelCode, 0, uint.MaxValue, 0xC09B);
            r.Segments[2] = new SegmentRegister(KernelData, 0, uint.MaxValue, 0xC093);
        }
    }

    private void BuildPageTables()
    {
        const ulong Rights = PageTableEntry.Present | PageTableEntry.Writable | PageTableEntry.User;
        Write64(PageTables, (PageTables + 0x1000) | Rights);
        Write64(PageTables + 0x1000, (PageTables + 0x2000) | Rights);
        Write64(PageTables + 0x2000, (PageTables + 0x3000) | Rights);
        for (ulong page = 0; page < 512; page++)
        {
            Write64(PageTables + 0x3000 + (page * 8), (page << 12) | Rights);
        }

        Write64(PageTables + 0x1000 + (8 * (Mmio >> 30)), (PageTables + 0x4000) | Rights);
        Write64(PageTables + 0x4000 + (8 * ((Mmio >> 21) & 511)), Mmio | Rights | PageTableEntry.PageSize);
    }

    private void BuildProtected()
    {
        ProcessorRegisters r = Registers;
        bool isUser = Mode is GuestMode.User or GuestMode.ProtectedUser;
        r.Cr0 |= Cr0.ProtectionEnable;
        if (IsLong)
        {
            r.Cr0 |= Cr0.Paging | Cr0.WriteProtect;
            r.Cr3 = PageTables;
            r.Cr4 |= Cr4.PhysicalAddressExtension;
            r.Efer = Efer.LongModeEnable | Efer.LongModeActive | Efer.SyscallEnable | Efer.NoExecuteEnable;
        }

        r.Segments[1] = Mode switch
        {
            GuestMode.Long => new SegmentRegister(KernelCode, 0, uint.MaxValue, 0xA09B),
            GuestMode.User => new SegmentRegister(UserCode64, 0, uint.MaxValue, 0xA0FB),
            GuestMode.ProtectedUser => new SegmentRegister(UserCode32, 0, uint.MaxValue, 0xC0FB),
            GuestMode.Protected16 => new SegmentRegister(KernelCode16, 0, 0xFFFF, 0x009B),
            _ => new SegmentRegister(KernelCode, 0, uint.MaxValue, 0xC09B),
        };
        foreach (int i in (ReadOnlySpan<int>)[0, 2, 3, 4, 5])
        {
            r.Segments[i] = isUser ? new SegmentRegister(UserData, 0, uint.MaxValue, 0xC0F3)
                : Mode == GuestMode.Protected16 ? new SegmentRegister(KernelData16, 0, 0xFFFF, 0x0093)
                : new SegmentRegister(KernelData, 0, uint.MaxValue, 0xC093);
        }

        if (isUser)
        {
            r.Rip = UserCode;
            r.Gpr[4] = UserStack;

            // As operating systems run user code; IOPL 3 is what the end of 32-bit user code needs.
            r.Rflags |= Mode == GuestMode.User ? Rflags.Interrupt : Rflags.Iopl;
        }
        else if (Mode == GuestMode.Protected16)
        {
            r.Gpr[4] = 0xF000;
        }

        r.Tr = new SegmentRegister(TssSelector, Tss, TssLimit, 0x8B);
        r.Ldtr = new SegmentRegister(0, 0, 0xFFFF, 0x82);
        r.GdtBase = Gdt;
        r.GdtLimit = 0xFF;
        r.IdtBase = Idt;
        r.IdtLimit = (ushort)(IsLong ? 0xFFF : 0x7FF);
    }
}
