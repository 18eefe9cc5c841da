using System.Runtime.InteropServices;
using Tutti.Host;
using Tutti.X86;
using static Tutti.Cpu.Kvm.KvmCalls;
using static Tutti.Cpu.Kvm.KvmIoctl;

namespace Tutti.Cpu.Kvm;

/// <summary>A vCPU of the host's kernel, and the loop around KVM_RUN.</summary>
internal sealed unsafe partial class KvmProcessor : IVirtualProcessor, IDisposable
{
    private readonly FileDescriptor _vcpu;
    private readonly int _fd;
    private readonly MappedRange _mapping;
    private readonly KvmRun* _run;
    private readonly ICpuIo _io;
    private readonly KvmProcessorModel _model;
    private readonly Lock _lifetime = new();
    private bool _isDisposed;
    private int _runner;
    private int _isExitRequested;

    internal KvmProcessor(int index, FileDescriptor vm, KvmProcessorModel model, ICpuIo io)
    {
        Index = index;
        _model = model;
        _io = io;
        _vcpu = FileDescriptor.Own(Call(vm, nameof(KVM_CREATE_VCPU), KVM_CREATE_VCPU, (nuint)index), nameof(KVM_CREATE_VCPU));
        try
        {
            _fd = _vcpu.Number;
            _mapping = MappedRange.MapShared(_vcpu, model.VcpuMmapSize);
            // SAFETY: the kernel says how large the shared pages are, never less than the structure.
            _run = (KvmRun*)_mapping.Address;
            model.SetCpuid(_vcpu, index);
            if (OperatingSystem.IsOSPlatformVersionAtLeast("linux", 6, 7))
            {
                // Firmware's word that the TSC counts at the highest frequency. Older kernels refuse it, and fill their log.
                _ = TryWriteMsr(Msr.Hwcr, Msr.HwcrTscFreqSel);
            }
        }
        catch
        {
            _mapping?.Dispose();
            _vcpu.Dispose();
            throw;
        }
    }

    public int Index { get; }

    /// <summary>KVM does not count.</summary>
    public ulong InstructionCount => 0;

    public ProcessorExit Run()
    {
        int thread = ThreadInterruption.CurrentThread;
        // Against RequestExit: either it sees the thread, or the kernel sees the flag.
        _ = Interlocked.Exchange(ref _runner, thread);
        try
        {
            while (true)
            {
                if (ioctl(_fd, KVM_RUN, null) < 0)
                {
                    int errno = Marshal.GetLastPInvokeError();
                    // EAGAIN: a vCPU that waits for STARTUP has been woken.
                    if (errno is not (EINTR or EAGAIN))
                    {
                        return new ProcessorExit(ProcessorExitKind.InternalError, ExitReport.DescribeFailure(errno, _run));
                    }

                    if (TakeExitRequest())
                    {
                        return new ProcessorExit(ProcessorExitKind.Requested);
                    }

                    continue;
                }

                switch (_run->ExitReason)
                {
                    case KvmExitReason.IO:
                        DoPortAccess();
                        break;
                    case KvmExitReason.MMIO:
                        DoMmioAccess();
                        break;
                    case KvmExitReason.X86_RDMSR:
                    case KvmExitReason.X86_WRMSR:
                        // Nobody owns MSRs that KVM hands out: the guest gets #GP.
                        _run->Msr.Error = 1;
                        break;
                    case KvmExitReason.INTR:
                    case KvmExitReason.IRQ_WINDOW_OPEN:
                    case KvmExitReason.SET_TPR:
                    case KvmExitReason.X86_BUS_LOCK:
                        // Told for information; the guest goes on.
                        break;
                    case KvmExitReason.SHUTDOWN:
                        return new ProcessorExit(ProcessorExitKind.TripleFault);
                    default:
                        return new ProcessorExit(ProcessorExitKind.InternalError, ExitReport.Describe(_run));
                }
            }
        }
        finally
        {
            Volatile.Write(ref _runner, 0);
        }
    }

    public void RequestExit()
    {
        // Against Dispose: the shared page and the thread must still be there.
        lock (_lifetime)
        {
            if (_isDisposed)
            {
                return;
            }

            // The request before the flag: whoever clears the flag looks for the request afterwards.
            _ = Interlocked.Exchange(ref _isExitRequested, 1);
            Volatile.Write(ref _run->ImmediateExit, 1);
            Interlocked.MemoryBarrier();
            int runner = Volatile.Read(ref _runner);
            if (runner != 0 && runner != ThreadInterruption.CurrentThread)
            {
                ThreadInterruption.Interrupt(runner);
            }
        }
    }

    public void Dispose()
    {
        lock (_lifetime)
        {
            _isDisposed = true;
            _mapping.Dispose();
            _vcpu.Dispose();
        }
    }

    /// <summary>After an interrupted call: whether somebody wants the vCPU out, rather than any other signal.</summary>
    private bool TakeExitRequest()
    {
        Volatile.Write(ref _run->ImmediateExit, 0);
        return Interlocked.Exchange(ref _isExitRequested, 0) != 0;
    }

    private void DoPortAccess()
    {
        KvmRun.IoExit io = _run->Io;
        // SAFETY: the kernel places the values inside the shared pages; the guest can't write there.
        byte* data = (byte*)_run + io.DataOffset;
        for (uint i = 0; i < io.Count; i++, data += io.Size)
        {
            if (io.Direction == KvmRun.IoExit.KVM_EXIT_IO_OUT)
            {
                _io.WritePort(io.Port, new ReadOnlySpan<byte>(data, io.Size));
            }
            else
            {
                _io.ReadPort(io.Port, new Span<byte>(data, io.Size));
            }
        }
    }

    private void DoMmioAccess()
    {
        // SAFETY: the field has 8 bytes, and the kernel says 1 to 8.
        Span<byte> data = new(&_run->Mmio.Data, (int)Math.Min(_run->Mmio.Len, sizeof(ulong)));
        ulong address = _run->Mmio.PhysAddr;
        bool isWrite = _run->Mmio.IsWrite != 0;
        // What an access leaves in one page can have any length, and devices take naturally sized pieces.
        while (data.Length > 0)
        {
            int piece = data.Length >= 8 ? 8 : data.Length >= 4 ? 4 : data.Length >= 2 ? 2 : 1;
            if (isWrite)
            {
                _io.WriteMmio(address, data[..piece]);
            }
            else
            {
                _io.ReadMmio(address, data[..piece]);
            }

            address += (ulong)piece;
            data = data[piece..];
        }
    }
}
