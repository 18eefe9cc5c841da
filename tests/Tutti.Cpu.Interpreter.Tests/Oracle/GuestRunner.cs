using System.Diagnostics;
using Tutti.Host;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.Oracle;

/// <summary>
/// Runs tested code in the interpreter: user mode of 64-bit or compatibility mode, with page tables that put pages scattered over guest RAM at
/// the arena's addresses. State is set and read in place, so that a case costs little more than its instruction.
/// </summary>
internal sealed unsafe class GuestRunner : IDisposable
{
    private const int RamSize = 1 << 20;
    private const ulong Pml4 = 0x1000;
    private const ulong Pdpt = 0x2000;
    private const ulong PageDirectory = 0x3000;
    private const ulong PageTable = 0x4000;
    private const ulong LowPageTable = 0x5000;
    private const ulong CodePhysical = 0x2_A000;
    private const int UserCode = SegmentAttributes.Present | (3 << SegmentAttributes.DplShift) | SegmentAttributes.NonSystem
        | SegmentAttributes.Code | SegmentAttributes.WritableOrReadable | SegmentAttributes.Accessed | SegmentAttributes.Granularity;

    /// <summary>Returns to the run loop before a case counts as hanging; a repeated string instruction needs a few.</summary>
    private const int MaxRounds = 20_000;

    /// <summary>When a case counts as hanging in translated code; it is asked to come out once a second.</summary>
    private static readonly TimeSpan Hang = TimeSpan.FromSeconds(5);

    private readonly Timer _look;

    private readonly HostMapping _mapping = new(RamSize, shared: TestedEngine.SharesMemory);
    private readonly Dictionary<ulong, ulong> _physical = new()
    {
        [ArenaLayout.Code] = CodePhysical,
        [ArenaLayout.Code + ArenaLayout.PageSize] = CodePhysical + 0x3000,
        [ArenaLayout.Data] = 0x2_2000,
        [ArenaLayout.Data + ArenaLayout.PageSize] = 0x2_5000,
        [ArenaLayout.ReadOnly] = 0x2_4000,
        [ArenaLayout.Stack] = 0x2_8000,
        [ArenaLayout.Stack + ArenaLayout.PageSize] = 0x2_7000,
    };

    private readonly GuestMemory _memory;
    private int _bits;
    private readonly IPartition _partition;

    public GuestRunner()
    {
        _memory = new GuestMemory(GuestMemoryLayout.Pc(RamSize), _mapping.Address) { HostFile = _mapping.File?.Number ?? -1 };
        if (ArenaLayout.HasLowData)
        {
            _physical[ArenaLayout.LowData] = 0x2_F000;
            _physical[ArenaLayout.LowData + ArenaLayout.PageSize] = 0x2_C000;
        }

        BuildPageTables();
        var platform = new GuestPlatform();
        _partition = TestedEngine.Create().CreatePartition(new PartitionOptions
        {
            Memory = _memory,
            Io = platform,
            Clock = platform,
            Cpu = CpuModel.Host,
            CreateLocalApic = (_, _) => platform,
        });
        Processor = (SoftwareProcessor)_partition.Processors[0];
        SetSystemState();
        _look = new Timer(_ => Processor.RequestExit(), null, 1000, 1000);
        SetCodeSize(64);
        Page(ArenaLayout.ReadOnly).Fill(0x5A);
    }

    public SoftwareProcessor Processor { get; }

    public CpuState* State => Processor.State;

    /// <summary>Told of RIP wherever a request for attention has brought control out of a case.</summary>
    public Action<ulong>? Interrupted { get; set; }

    /// <summary>Bytes of a page of the arena as the guest has them.</summary>
    public Span<byte> Page(ulong linear) =>
        _memory.TryGetSpan(_physical[linear], ArenaLayout.PageSize, out Span<byte> span) ? span : throw new ArgumentOutOfRangeException(nameof(linear));

    /// <summary>Goes to 64-bit mode or to 32-bit compatibility mode, with the selectors that Linux gives a process.</summary>
    public void SetCodeSize(int bits)
    {
        if (bits == _bits)
        {
            return;
        }

        _bits = bits;
        CpuState* state = State;
        bool isLong = bits == 64;
        state->Cs = new Segment
        {
            Selector = isLong ? Trampoline.LongCode : Trampoline.LegacyCode,
            Limit = uint.MaxValue,
            Attributes = (ushort)(UserCode | (isLong ? SegmentAttributes.Long : SegmentAttributes.Big)),
        };
        state->Ds = isLong ? default : state->Ss;
        state->Es = state->Ds;
        Processor.Mode.Update();
        Processor.Tlb.Flush();
    }

    /// <summary>Replaces tested code, as a guest that writes its own code would.</summary>
    public void WriteCode(ulong linear, ReadOnlySpan<byte> code)
    {
        for (int i = 0; i < code.Length; i++)
        {
            ulong address = linear + (ulong)i;
            _memory.TryWrite(_physical[address & ~0xFFFUL] + (address & 0xFFF), code.Slice(i, 1));
        }
    }

    /// <summary>Runs until control reaches a UD2 or a fault stops it; false when neither happens.</summary>
    public bool Run()
    {
        CpuState* state = State;
        state->FaultVector = -1;
        long start = Stopwatch.GetTimestamp();
        for (int round = 0; Interrupted != null || round < MaxRounds; round++)
        {
            if ((state->Attention & Attention.FlushCode) != 0)
            {
                Interlocked.And(ref state->Attention, ~Attention.FlushCode);
                Processor.Watch.TakePendingInvalidations(flush: true);
            }

            if ((state->Attention & Attention.ExitRequest) != 0)
            {
                Interlocked.And(ref state->Attention, ~Attention.ExitRequest);
                Interrupted?.Invoke(state->Rip);
                if (Stopwatch.GetElapsedTime(start) > Hang)
                {
                    return false;
                }
            }

            if (Processor.Tier is { CanRun: true } tier)
            {
                tier.Run();
            }
            else
            {
                Interpret();
            }

            if (state->FaultVector != -1)
            {
                return true;
            }
        }

        return false;
    }

    private void Interpret()
    {
        Op* op = BlockInterpreter.From(Processor.State).Code.Find();
        while (op != null)
        {
            op = op->Handler(State, op);
        }
    }

    public void Dispose()
    {
        _look.Dispose();
        _partition.Dispose();
        _mapping.Dispose();
    }

    private void BuildPageTables()
    {
        const ulong Table = PageTableEntry.Present | PageTableEntry.Writable | PageTableEntry.User;
        _memory.TryWrite(Pml4 + (8 * ((ArenaLayout.Base >> 39) & 511)), Pdpt | Table);
        _memory.TryWrite(Pdpt + (8 * ((ArenaLayout.Base >> 30) & 511)), PageDirectory | Table);
        _memory.TryWrite(PageDirectory + (8 * ((ArenaLayout.Base >> 21) & 511)), PageTable | Table);
        _memory.TryWrite(PageDirectory, LowPageTable | Table);
        foreach ((ulong linear, ulong physical) in _physical)
        {
            bool isCode = linear >= ArenaLayout.Code && linear < ArenaLayout.Code + (2 * ArenaLayout.PageSize);
            ulong rights = isCode ? 0 : PageTableEntry.NoExecute;
            rights |= isCode || linear == ArenaLayout.ReadOnly ? 0 : PageTableEntry.Writable;
            ulong table = linear < ArenaLayout.Base ? LowPageTable : PageTable;
            _memory.TryWrite(table + (8 * ((linear >> 12) & 511)), physical | rights | PageTableEntry.Present | PageTableEntry.User);
        }
    }

    private void SetSystemState()
    {
        const ushort UserData = SegmentAttributes.Present | (3 << SegmentAttributes.DplShift) | SegmentAttributes.NonSystem
            | SegmentAttributes.WritableOrReadable | SegmentAttributes.Accessed | SegmentAttributes.Big | SegmentAttributes.Granularity;
        CpuState* state = State;
        state->Cr0 = Cr0.ProtectionEnable | Cr0.Paging | Cr0.WriteProtect | Cr0.NumericError | Cr0.ExtensionType | Cr0.MonitorCoprocessor;
        state->Cr3 = Pml4;
        state->Cr4 = Cr4.PhysicalAddressExtension | Cr4.OsFxsr | Cr4.OsXmmException | Cr4.OsXsave;
        state->Xcr0 = HostCalls.HasAvx ? XsaveLayout.Supported : XsaveLayout.X87 | XsaveLayout.Sse;
        state->Efer = Efer.LongModeEnable | Efer.LongModeActive | Efer.NoExecuteEnable | Efer.SyscallEnable;
        state->Cpl = 3;
        state->Flags = Rflags.AlwaysOne | Rflags.Interrupt;
        state->FlagKind = FlagKind.Eager;

        state->Ss = new Segment { Selector = Trampoline.UserData, Limit = uint.MaxValue, Attributes = UserData };
        state->Fs = default;
        state->Gs = default;

        // As long as Linux makes it, and not there: no selector of tested code is to be found.
        state->Gdtr.Limit = 0x7F;

        // Without vectors, so that a trap ends in a #GP that names it.
        state->Idtr.Limit = 0;

        // Too short to tell of an I/O permission bitmap.
        state->Tr = new Segment { Selector = 0x40, Limit = 0x65, Attributes = SegmentAttributes.Present | 0xB };
        Interlocked.And(ref state->Attention, 0);
    }
}
