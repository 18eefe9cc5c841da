using System.Buffers.Binary;
using Tutti.Host;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Cpu.Kvm;

/// <summary>
/// A guest whose one vCPU asks a port for a number in ring 0 and 64-bit mode, counts down from it, and asks again. The time
/// between two questions is that of the loop.
/// </summary>
internal sealed class GuestLoop : ICpuIo, IDisposable
{
    private const ulong MemorySize = 64 << 10;
    private const ulong PageTables = 0x1000;

    /// <summary>The loop, behind an instruction of one byte, begins on a 16-byte boundary.</summary>
    private const ulong CodeAddress = 0x400F;

    private const ushort CodeAttributes = SegmentAttributes.Accessed | SegmentAttributes.WritableOrReadable | SegmentAttributes.Code
        | SegmentAttributes.NonSystem | SegmentAttributes.Present | SegmentAttributes.Long | SegmentAttributes.Granularity;

    /// <summary>Until then the loops must be done, or the KVM of this host does not run them.</summary>
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(1);

    private readonly LoopPlan _plan;
    private readonly HostMapping _mapping = new((long)MemorySize);
    private readonly FileDescriptor _vm;
    private readonly KvmProcessor _processor;
    private long _answered;
    private bool _isStarted;

    /// <exception cref="HostException">KVM refuses a call.</exception>
    /// <exception cref="KvmUnavailableException">KVM makes no VM.</exception>
    internal GuestLoop(KvmSystem system, LoopPlan plan)
    {
        _plan = plan;
        try
        {
            GuestMemory memory = new([new GuestMemoryRegion(0, MemorySize)], _mapping.Address);
            // No whole partition: the kernel takes tens of milliseconds to end one that has interrupt controllers.
            _vm = system.CreateVm();
            KvmPartition.SetMemory(_vm, memory);
            PartitionOptions options = new() { Memory = memory, Io = this, Clock = new NoClock(), Cpu = CpuModel.Host };
            _processor = new KvmProcessor(0, _vm, new KvmProcessorModel(system, options), this);
            Load(memory);
            EnterLongMode();
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>kHz of the guest's time-stamp counter; 0 where the host's has no fixed rate.</summary>
    internal uint TscKilohertz => _processor.TscKilohertz;

    /// <summary>IN EAX, DX; DEC RAX; JNZ to the DEC; JMP to the IN.</summary>
    private static ReadOnlySpan<byte> Code => [0xED, 0x48, 0xFF, 0xC8, 0x75, 0xFB, 0xEB, 0xF8];

    /// <summary>Runs what the plan wants. False when the time was over first; an end of any other kind is in the message.</summary>
    internal bool TryRun(out string? failure)
    {
        _answered = HostTime.Nanoseconds;
        ProcessorExit exit;
        using (new Timer(_ => _processor.RequestExit(), null, Limit, Timeout.InfiniteTimeSpan))
        {
            exit = _processor.Run();
        }

        if (_plan.Length != 0)
        {
            _plan.GiveUp(HostTime.Nanoseconds - _answered);
        }

        failure = exit.Kind switch
        {
            ProcessorExitKind.Requested => null,
            ProcessorExitKind.TripleFault => "the guest's processor shut down (triple fault)",
            _ => exit.Message ?? exit.Kind.ToString(),
        };
        return !_plan.IsGivenUp;
    }

    public void ReadPort(ushort port, Span<byte> data)
    {
        long now = HostTime.Nanoseconds;
        if (_isStarted)
        {
            _plan.Record(now - _answered);
        }

        _isStarted = true;
        if (_plan.Length == 0)
        {
            _processor.RequestExit();
        }

        data.Clear();
        if (data.Length == sizeof(uint))
        {
            BinaryPrimitives.WriteUInt32LittleEndian(data, Math.Max(_plan.Length, 1));
        }

        _answered = HostTime.Nanoseconds;
    }

    public void WritePort(ushort port, ReadOnlySpan<byte> data)
    {
        // The code has no OUT.
    }

    public void ReadMmio(ulong address, Span<byte> data) => data.Fill(0xFF);

    public void WriteMmio(ulong address, ReadOnlySpan<byte> data)
    {
        // Nor does it write.
    }

    public void Dispose()
    {
        _processor?.Dispose();
        _vm?.Dispose();
        _mapping.Dispose();
    }

    /// <summary>The code, and three tables that map the first 2 MiB to themselves.</summary>
    private static void Load(GuestMemory memory)
    {
        const ulong Entry = PageTableEntry.Present | PageTableEntry.Writable;
        bool isLoaded = memory.TryWrite(CodeAddress, Code)
            && memory.TryWrite(PageTables, PageTables + 0x1000 | Entry)
            && memory.TryWrite(PageTables + 0x1000, PageTables + 0x2000 | Entry)
            && memory.TryWrite(PageTables + 0x2000, Entry | PageTableEntry.PageSize);
        if (!isLoaded)
        {
            throw new InvalidOperationException("The loop does not fit into its memory.");
        }
    }

    private void EnterLongMode()
    {
        ProcessorRegisters registers = new();
        _processor.GetRegisters(registers);
        registers.Rip = CodeAddress;
        registers.Rflags = Rflags.AlwaysOne;
        registers.Cr0 = Cr0.ProtectionEnable | Cr0.ExtensionType | Cr0.NumericError | Cr0.WriteProtect | Cr0.Paging;
        registers.Cr3 = PageTables;
        registers.Cr4 = Cr4.PhysicalAddressExtension;
        registers.Efer = Efer.LongModeEnable | Efer.LongModeActive;
        for (int i = 0; i < registers.Segments.Length; i++)
        {
            ushort data = CodeAttributes & ~(SegmentAttributes.Code | SegmentAttributes.Long) | SegmentAttributes.Big;
            registers.Segments[i] = new SegmentRegister((ushort)(i == 1 ? 8 : 16), 0, uint.MaxValue, i == 1 ? CodeAttributes : data);
        }

        _processor.SetRegisters(registers);
    }

    /// <summary>KVM keeps time itself; nobody asks.</summary>
    private sealed class NoClock : IGuestClock
    {
        public long Nanoseconds => 0;

        public DateTimeOffset PowerOnTime => DateTimeOffset.UnixEpoch;

        public IClockTimer CreateTimer(Action onExpired) => throw new NotSupportedException("KVM keeps time itself.");
    }
}
