using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Tutti.Host;
using Tutti.X86;
using static Tutti.Cpu.Kvm.KvmCalls;
using static Tutti.Cpu.Kvm.KvmIoctl;

namespace Tutti.Cpu.Kvm;

/// <summary>
/// A guest whose one vCPU asks a port for a number in ring 0 and 64-bit mode, counts down from it, and asks again. It has
/// no more than that needs: the kernel takes tens of milliseconds to end a VM with interrupt controllers, and this one
/// stands before the start of every guest.
/// </summary>
internal sealed unsafe class GuestLoop : IDisposable
{
    private const int MemorySize = 64 << 10;
    private const int PageTables = 0x1000;

    /// <summary>The loop, behind an instruction of one byte, begins on a 16-byte boundary.</summary>
    private const int CodeAddress = 0x400F;

    private const ushort CodeAttributes = SegmentAttributes.Accessed | SegmentAttributes.WritableOrReadable | SegmentAttributes.Code
        | SegmentAttributes.NonSystem | SegmentAttributes.Present | SegmentAttributes.Long | SegmentAttributes.Granularity;

    private const ushort DataAttributes = SegmentAttributes.Accessed | SegmentAttributes.WritableOrReadable
        | SegmentAttributes.NonSystem | SegmentAttributes.Present | SegmentAttributes.Big | SegmentAttributes.Granularity;

    private readonly HostMapping _mapping = new(MemorySize);
    private readonly Lock _lifetime = new();
    private readonly FileDescriptor _vm;
    private readonly FileDescriptor _vcpu;
    private readonly MappedRange _shared;
    private readonly KvmRun* _run;
    private bool _isDisposed;
    private bool _isTimeOver;

    /// <exception cref="HostException">KVM refuses a call.</exception>
    /// <exception cref="KvmUnavailableException">KVM makes no VM.</exception>
    internal GuestLoop(KvmSystem system)
    {
        try
        {
            // SAFETY: the mapping has that many bytes, and nobody else knows it.
            Load(new Span<byte>((void*)_mapping.Address, MemorySize));
            _vm = system.CreateVm();
            KvmPartition.SetRealModePages(_vm);
            KvmUserspaceMemoryRegion memory = new() { MemorySize = MemorySize, UserspaceAddr = (ulong)_mapping.Address };
            // SAFETY: the mapping is as long as the region, and goes after the VM.
            _ = Call(_vm, nameof(KVM_SET_USER_MEMORY_REGION), KVM_SET_USER_MEMORY_REGION, &memory);
            _vcpu = FileDescriptor.Own(Call(_vm, nameof(KVM_CREATE_VCPU), KVM_CREATE_VCPU), nameof(KVM_CREATE_VCPU));
            _shared = MappedRange.MapShared(_vcpu, system.VcpuMmapSize);
            // SAFETY: the kernel says how large the shared pages are, never less than the structure.
            _run = (KvmRun*)_shared.Address;
            TscKilohertz = KvmProcessorModel.GetTscKilohertz(_vcpu);
            system.PassSupportedCpuid(_vcpu);
            EnterLongMode();
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>kHz of the guest's time-stamp counter; 0 where the host's has no fixed rate.</summary>
    internal uint TscKilohertz { get; }

    /// <summary>IN EAX, DX; DEC RAX; JNZ to the DEC; JMP to the IN.</summary>
    private static ReadOnlySpan<byte> Code => [0xED, 0x48, 0xFF, 0xC8, 0x75, 0xFB, 0xEB, 0xF8];

    /// <summary>Runs what the plan wants, on the calling thread.</summary>
    /// <param name="limit">When the plan is given up.</param>
    /// <returns>How the guest ended when it did not do as it should; null when it did, or the time was over.</returns>
    internal string? Run(LoopPlan plan, TimeSpan limit)
    {
        int thread = ThreadInterruption.CurrentThread;
        using Timer timer = new(_ => Stop(thread), null, limit, Timeout.InfiniteTimeSpan);
        // The first question has no loop before it.
        string? failure = RunToQuestion(out _);
        while (failure == null && plan.Length != 0 && !plan.IsGivenUp)
        {
            Answer(plan.Length);
            failure = RunToQuestion(out long nanoseconds);
            if (_isTimeOver)
            {
                plan.GiveUp(nanoseconds);
            }
            else
            {
                plan.Record(nanoseconds);
            }
        }

        return failure;
    }

    public void Dispose()
    {
        lock (_lifetime)
        {
            _isDisposed = true;
            _shared?.Dispose();
            _vcpu?.Dispose();
            _vm?.Dispose();
            _mapping.Dispose();
        }
    }

    /// <summary>The code, and three tables that map the first 2 MiB to themselves.</summary>
    private static void Load(Span<byte> memory)
    {
        const ulong Entry = PageTableEntry.Present | PageTableEntry.Writable;
        Code.CopyTo(memory[CodeAddress..]);
        BinaryPrimitives.WriteUInt64LittleEndian(memory[PageTables..], (PageTables + 0x1000) | Entry);
        BinaryPrimitives.WriteUInt64LittleEndian(memory[(PageTables + 0x1000)..], (PageTables + 0x2000) | Entry);
        BinaryPrimitives.WriteUInt64LittleEndian(memory[(PageTables + 0x2000)..], Entry | PageTableEntry.PageSize);
    }

    private void EnterLongMode()
    {
        KvmSegment data = new SegmentRegister(16, 0, uint.MaxValue, DataAttributes).ToKvm();
        KvmSregs sregs = default;
        _ = Call(_vcpu, nameof(KVM_GET_SREGS), KVM_GET_SREGS, &sregs);
        sregs.Cs = new SegmentRegister(8, 0, uint.MaxValue, CodeAttributes).ToKvm();
        (sregs.Ds, sregs.Es, sregs.Ss, sregs.Fs, sregs.Gs) = (data, data, data, data, data);
        sregs.Cr0 = Cr0.ProtectionEnable | Cr0.ExtensionType | Cr0.NumericError | Cr0.WriteProtect | Cr0.Paging;
        sregs.Cr3 = PageTables;
        sregs.Cr4 = Cr4.PhysicalAddressExtension;
        sregs.Efer = Efer.LongModeEnable | Efer.LongModeActive;
        _ = Call(_vcpu, nameof(KVM_SET_SREGS), KVM_SET_SREGS, &sregs);
        KvmRegs regs = new() { Rip = CodeAddress, Rflags = Rflags.AlwaysOne };
        _ = Call(_vcpu, nameof(KVM_SET_REGS), KVM_SET_REGS, &regs);
    }

    private void Answer(uint length)
    {
        // SAFETY: after an exit for IN EAX, DX the kernel has placed room for its 4 bytes inside the shared pages.
        *(uint*)((byte*)_run + _run->Io.DataOffset) = length;
    }

    /// <summary>Lets the guest run until it asks, or the time is over. What it did otherwise is the answer.</summary>
    private string? RunToQuestion(out long nanoseconds)
    {
        long start = HostTime.Nanoseconds;
        while (ioctl(_vcpu.Number, KVM_RUN, null) < 0)
        {
            int errno = Marshal.GetLastPInvokeError();
            if (errno is not (EINTR or EAGAIN))
            {
                nanoseconds = 0;
                return ExitReport.DescribeFailure(errno, _run);
            }

            if (Volatile.Read(ref _isTimeOver))
            {
                nanoseconds = HostTime.Nanoseconds - start;
                return null;
            }
        }

        nanoseconds = HostTime.Nanoseconds - start;
        return _run->ExitReason switch
        {
            KvmExitReason.IO when _run->Io is { Direction: not KvmRun.IoExit.KVM_EXIT_IO_OUT, Size: sizeof(uint), Count: 1 } => null,
            KvmExitReason.SHUTDOWN => "its processor shut down (triple fault)",
            _ => ExitReport.Describe(_run),
        };
    }

    /// <summary>Called by the timer: the vCPU leaves guest code, or does not enter it again.</summary>
    private void Stop(int thread)
    {
        lock (_lifetime)
        {
            if (!_isDisposed)
            {
                Volatile.Write(ref _isTimeOver, true);
                Volatile.Write(ref _run->ImmediateExit, 1);
                ThreadInterruption.Interrupt(thread);
            }
        }
    }
}
