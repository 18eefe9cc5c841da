using System.Runtime.InteropServices;
using Iced.Intel;
using Tutti.Host;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.System;

/// <summary>
/// One vCPU with 4 MiB of RAM, set up for a mode, and a stub for each vector that ends the run: a test looks at the registers
/// and at the frame on the stack there. Ports, APIC and clock are fakes that tests move by hand.
/// </summary>
internal sealed unsafe class TestMachine : IDisposable, ICpuIo, IGuestClock, ILocalApic
{
    public const ulong MemorySize = 4 << 20;
    public const ulong Gdt = 0x1000;
    public const ulong Idt = 0x2000;
    public const ulong Tss = 0x3000;
    public const ulong OtherTss = 0x4000;
    public const ulong Code = 0x8000;
    public const ulong UserCode = 0x9000;
    public const ulong Data = 0xA000;
    public const ulong Stubs = 0x2_0000;
    public const ulong KernelStack = 0x4_0000;
    public const ulong UserStack = 0x5_0000;
    public const ulong InnerStack = 0x6_0000;
    public const ulong IstStack = 0x7_0000;
    public const ulong PageTables = 0x10_0000;
    public const byte ExitPort = 0xF4;
    public const int StubSize = 16;

    public const ushort KernelCode = 0x08;
    public const ushort KernelData = 0x10;
    public const ushort UserCode32 = 0x1B;
    public const ushort UserData = 0x23;
    public const ushort UserCode64 = 0x2B;
    public const ushort KernelCode32 = 0x30;
    public const ushort TssSelector = 0x40;
    public const ushort OtherTssSelector = 0x50;

    /// <summary>First GDT slots that tests may fill.</summary>
    public const ushort FreeSelector = 0x60;

    private readonly HostMapping _ram = new((long)MemorySize, shared: TestedEngine.SharesMemory);
    private readonly IPartition _partition;
    private readonly Queue<int> _interrupts = [];

    public TestMachine(CpuModel? model = null)
    {
        Memory = new GuestMemory(GuestMemoryLayout.Pc(MemorySize), _ram.Address) { HostFile = _ram.File?.Number ?? -1 };
        _partition = TestedEngine.Create().CreatePartition(new PartitionOptions
        {
            Memory = Memory,
            Io = this,
            Clock = this,
            Cpu = model ?? CpuModel.Host,
            CreateLocalApic = (_, _) => this,
        });
        Cpu = (SoftwareProcessor)_partition.Processors[0];
    }

    public GuestMemory Memory { get; }

    public SoftwareProcessor Cpu { get; }

    public ProcessorRegisters Registers { get; } = new();

    public List<(ushort Port, ulong Value, int Size)> PortWrites { get; } = [];

    public Func<ushort, ulong>? PortRead { get; set; }

    public long Nanoseconds { get; set; }

    public CounterClock? Counter { get; set; }

    public DateTimeOffset PowerOnTime { get; set; } = DateTimeOffset.UnixEpoch;

    public ulong ApicBase { get; set; } = 0xFEE0_0900;

    public byte TaskPriority { get; set; }

    public long TscOffset { get; set; }

    public int Initialized { get; private set; }

    public Dictionary<uint, ulong> ApicMsrs { get; } = [];

    public static ulong Segment(uint limit, byte access, byte flags, uint segmentBase = 0) =>
        (limit & 0xFFFF) | ((ulong)(segmentBase & 0xFF_FFFF) << 16) | ((ulong)access << 40)
        | ((ulong)(limit >> 16) << 48) | ((ulong)flags << 52) | ((ulong)(segmentBase >> 24) << 56);

    /// <summary>64-bit kernel code at <see cref="Code"/>, 4-level paging that maps the first 2 MiB page by page for everybody.</summary>
    public static TestMachine Long(CpuModel? model = null)
    {
        var machine = new TestMachine(model);
        machine.BuildTables(isLong: true);
        ulong rights = PageTableEntry.Present | PageTableEntry.Writable | PageTableEntry.User;
        machine.Write(PageTables, PageTables + 0x1000 | rights);
        machine.Write(PageTables + 0x1000, PageTables + 0x2000 | rights);
        machine.Write(PageTables + 0x2000, PageTables + 0x3000 | rights);
        for (ulong page = 0; page < 512; page++)
        {
            machine.Write(PageTables + 0x3000 + (page * 8), (page << 12) | rights);
        }

        ProcessorRegisters r = machine.Registers;
        r.Cr0 = Cr0.ProtectionEnable | Cr0.Paging | Cr0.ExtensionType | Cr0.WriteProtect;
        r.Cr3 = PageTables;
        r.Cr4 = Cr4.PhysicalAddressExtension | Cr4.OsFxsr;
        r.Efer = Efer.LongModeEnable | Efer.LongModeActive | Efer.SyscallEnable | Efer.NoExecuteEnable;
        r.Segments[1] = new SegmentRegister(KernelCode, 0, uint.MaxValue, 0xA09B);
        machine.Finish();
        return machine;
    }

    /// <summary>32-bit kernel code at <see cref="Code"/>, no paging.</summary>
    public static TestMachine Protected()
    {
        var machine = new TestMachine();
        machine.BuildTables(isLong: false);
        machine.Registers.Cr0 = Cr0.ProtectionEnable | Cr0.ExtensionType;
        machine.Registers.Segments[1] = new SegmentRegister(KernelCode, 0, uint.MaxValue, 0xC09B);
        machine.Finish();
        return machine;
    }

    /// <summary>Real mode at 0000:<see cref="Code"/>, with the vector table at 0.</summary>
    public static TestMachine Real()
    {
        var machine = new TestMachine();
        for (uint vector = 0; vector < 256; vector++)
        {
            uint stub = (uint)Stubs + (vector * StubSize);
            machine.Write(vector * 4, (ushort)(stub & 0xF) | ((stub >> 4) << 16));
            machine.Memory.TryWrite(stub, [0xE6, ExitPort, 0xEB, 0xFE]);
        }

        machine.Cpu.GetRegisters(machine.Registers);
        for (int i = 0; i < 6; i++)
        {
            machine.Registers.Segments[i] = new SegmentRegister(0, 0, 0xFFFF, (ushort)(i == 1 ? 0x9B : 0x93));
        }

        machine.Registers.IdtLimit = 0x3FF;
        machine.Registers.Rip = Code;
        machine.Registers.Gpr[4] = 0x7000;
        machine.Apply();
        return machine;
    }

    /// <summary>Assembles to an address.</summary>
    public void Assemble(ulong address, int bitness, Action<Assembler> write)
    {
        var assembler = new Assembler(bitness);
        write(assembler);
        var stream = new MemoryStream();
        assembler.Assemble(new StreamCodeWriter(stream), address);
        Assert.True(Memory.TryWrite(address, stream.ToArray()));
    }

    public void Write<T>(ulong address, T value)
        where T : unmanaged => Assert.True(Memory.TryWrite(address, value));

    public T Read<T>(ulong address)
        where T : unmanaged
    {
        Assert.True(Memory.TryRead(address, out T value));
        return value;
    }

    public void SetGate(int vector, byte access, ushort selector = KernelCode, int ist = 0)
    {
        ulong target = Stubs + ((ulong)vector * StubSize);
        bool isLong = (Registers.Efer & Efer.LongModeActive) != 0;
        Write(Idt + ((ulong)vector * (isLong ? 16UL : 8UL)), (target & 0xFFFF) | ((ulong)selector << 16) | ((ulong)ist << 32) | ((ulong)access << 40) | ((target >> 16) << 48));
    }

    public void SetDescriptor(ushort selector, ulong value) => Write(Gdt + (selector & 0xFFF8u), value);

    /// <summary>Gives the registers to the vCPU.</summary>
    public void Apply() => Cpu.SetRegisters(Registers);

    /// <summary>Runs to a stub and returns its vector; registers are read back.</summary>
    public int RunToStub()
    {
        bool late = false;
        using var limit = new Timer(_ =>
        {
            late = true;
            Cpu.RequestExit();
        });
        limit.Change(TimeSpan.FromSeconds(10), Timeout.InfiniteTimeSpan);
        ProcessorExit exit = Cpu.Run();
        Cpu.GetRegisters(Registers);

        // The HLT behind the exit port may have run; the next run is to begin with code.
        Registers.Activity = ProcessorActivity.Running;
        Assert.False(late, $"The guest runs on, at {Registers.Rip:X}");
        Assert.True(exit.Kind == ProcessorExitKind.Requested, $"{exit.Kind} at {Registers.Rip:X}");
        ulong linear = Registers.Segments[1].Base + Registers.Rip;
        return linear >= Stubs && linear < Stubs + (256 * StubSize) ? (int)((linear - Stubs) / StubSize) : -1;
    }

    /// <summary>Runs until the code itself writes the exit port.</summary>
    public void RunToExit() => Assert.Equal(-1, RunToStub());

    /// <summary>Runs code that goes on until another thread wants the vCPU to leave; registers are read back.</summary>
    public void RunUntilRequested()
    {
        using var request = new Timer(_ => Cpu.RequestExit(), null, 50, 10);
        Assert.Equal(ProcessorExitKind.Requested, Cpu.Run().Kind);
        Cpu.GetRegisters(Registers);
    }

    /// <summary>An item of the frame that RSP points at.</summary>
    public ulong Frame(int index, int size = 8) => size switch
    {
        2 => Read<ushort>(Registers.Segments[2].Base + Registers.Gpr[4] + ((ulong)index * 2)),
        4 => Read<uint>(Registers.Segments[2].Base + Registers.Gpr[4] + ((ulong)index * 4)),
        _ => Read<ulong>(Registers.Gpr[4] + ((ulong)index * 8)),
    };

    /// <summary>Where the entry of a page stands of <see cref="Long"/>.</summary>
    public static ulong PageEntry(ulong linear) => PageTables + 0x3000 + ((linear >> 12) * 8);

    /// <summary>Changes one page's entry of <see cref="Long"/>.</summary>
    public void SetPage(ulong linear, ulong entry) => Write(PageEntry(linear), entry);

    /// <summary>Drops to level 3 at <see cref="UserCode"/>.</summary>
    public void EnterUser()
    {
        bool isLong = (Registers.Efer & Efer.LongModeActive) != 0;
        Registers.Segments[1] = isLong
            ? new SegmentRegister(UserCode64, 0, uint.MaxValue, 0xA0FB)
            : new SegmentRegister(UserCode32, 0, uint.MaxValue, 0xC0FB);
        foreach (int i in (int[])[0, 2, 3])
        {
            Registers.Segments[i] = new SegmentRegister(UserData, 0, uint.MaxValue, 0xC0F3);
        }

        Registers.Rip = UserCode;
        Registers.Gpr[4] = UserStack;
        Apply();
    }

    public void QueueInterrupt(int vector)
    {
        _interrupts.Enqueue(vector);
        Cpu.SignalInterrupt();
    }

    public void Dispose()
    {
        _partition.Dispose();
        _ram.Dispose();
    }

    public void ReadPort(ushort port, Span<byte> data)
    {
        ulong value = PortRead?.Invoke(port) ?? ulong.MaxValue;
        MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>(in value))[..data.Length].CopyTo(data);
    }

    public void WritePort(ushort port, ReadOnlySpan<byte> data)
    {
        ulong value = 0;
        data.CopyTo(MemoryMarshal.AsBytes(new Span<ulong>(ref value)));
        if (port == ExitPort)
        {
            Cpu.RequestExit();
        }
        else
        {
            PortWrites.Add((port, value, data.Length));
        }
    }

    public void ReadMmio(ulong address, Span<byte> data) => data.Fill(0xFF);

    public void WriteMmio(ulong address, ReadOnlySpan<byte> data)
    {
    }

    public IClockTimer CreateTimer(Action onExpired) => throw new NotSupportedException();

    public bool TryWriteApicBase(ulong value)
    {
        ApicBase = value;
        return true;
    }

    public void ReadMmio(uint offset, Span<byte> data) => data.Clear();

    public void WriteMmio(uint offset, ReadOnlySpan<byte> data)
    {
    }

    public bool TryReadMsr(uint msr, out ulong value) => ApicMsrs.TryGetValue(msr, out value);

    public bool TryWriteMsr(uint msr, ulong value)
    {
        ApicMsrs[msr] = value;
        return true;
    }

    public int AcknowledgeInterrupt()
    {
        int vector = _interrupts.TryDequeue(out int queued) ? queued : -1;
        if (_interrupts.Count > 0)
        {
            Cpu.SignalInterrupt();
        }

        return vector;
    }

    public void Initialize() => Initialized++;

    private void BuildTables(bool isLong)
    {
        byte codeFlags = (byte)(isLong ? 0xA : 0xC);
        SetDescriptor(KernelCode, Segment(0xFFFFF, 0x9B, codeFlags));
        SetDescriptor(KernelData, Segment(0xFFFFF, 0x93, 0xC));
        SetDescriptor(UserCode32, Segment(0xFFFFF, 0xFB, 0xC));
        SetDescriptor(UserData, Segment(0xFFFFF, 0xF3, 0xC));
        SetDescriptor(UserCode64, Segment(0xFFFFF, 0xFB, codeFlags));
        SetDescriptor(KernelCode32, Segment(0xFFFFF, 0x9B, 0xC));
        SetDescriptor(TssSelector, Segment(0x20FF, 0x8B, 0, (uint)Tss));
        SetDescriptor(OtherTssSelector, Segment(0xFF, 0x89, 0, (uint)OtherTss));
        Registers.Efer = isLong ? Efer.LongModeActive : 0;
        for (int vector = 0; vector < 256; vector++)
        {
            SetGate(vector, 0x8E);
            Memory.TryWrite(Stubs + ((ulong)vector * StubSize), [0xE6, ExitPort, 0xEB, 0xFE]);
        }

        if (isLong)
        {
            Write(Tss + 4, InnerStack);
            Write(Tss + 36, IstStack);
        }
        else
        {
            Write(Tss + 4, (uint)InnerStack);
            Write(Tss + 8, KernelData);
        }

        // The I/O map begins at 0x68 and permits everything but the last port.
        Write(Tss + 102, (ushort)0x68);
        Memory.TryWrite(Tss + 0x68 + 0x2000, [0xFF]);
    }

    private void Finish()
    {
        ProcessorRegisters r = Registers;
        foreach (int i in (int[])[0, 2, 3, 4, 5])
        {
            r.Segments[i] = new SegmentRegister(KernelData, 0, uint.MaxValue, 0xC093);
        }

        r.Tr = new SegmentRegister(TssSelector, Tss, 0x20FF, 0x8B);
        r.Ldtr = default;
        r.GdtBase = Gdt;
        r.GdtLimit = 0xFFF;
        r.IdtBase = Idt;
        r.IdtLimit = 0xFFF;
        r.Rip = Code;
        r.Gpr[4] = KernelStack;
        r.Dr[7] = 0x400;
        Apply();
    }
}
