using Tutti.Host;
using Tutti.Memory;
using static Tutti.Cpu.Kvm.KvmCalls;
using static Tutti.Cpu.Kvm.KvmIoctl;

namespace Tutti.Cpu.Kvm;

/// <summary>A VM of the host's kernel: memory slots, interrupt controllers, timer, clock, and vCPUs.</summary>
public sealed unsafe class KvmPartition : IPartition
{
    /// <summary>
    /// Intel processors that can't run real mode need a task segment (three pages) and a page table in the guest's space.
    /// They lie where a PC's firmware ROM is: no RAM is there.
    /// </summary>
    private const ulong TssAddress = 0xFFFB_D000;

    private const ulong IdentityMapAddress = TssAddress - 0x1000;

    private readonly FileDescriptor _vm;
    private readonly KvmProcessor[] _processors = [];
    private readonly KvmInterruptControllers _interrupts;
    private readonly KvmTime _time;

    internal KvmPartition(KvmSystem system, PartitionOptions options)
    {
        _vm = system.CreateVm();
        try
        {
            SetRealModePages(_vm);
            SetMemory(_vm, options.Memory);
            _interrupts = new KvmInterruptControllers(_vm);
            Doorbells = new KvmDoorbells(_vm);
            KvmProcessorModel model = new(system, options);
            _processors = new KvmProcessor[options.ProcessorCount];
            for (int i = 0; i < _processors.Length; i++)
            {
                _processors[i] = new KvmProcessor(i, _vm, model, options.Io);
            }

            _time = new KvmTime(_vm, _processors);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public IReadOnlyList<IVirtualProcessor> Processors => _processors;

    IInterruptControllers IPartition.InterruptControllers => _interrupts;

    IEventDoorbells IPartition.EventDoorbells => Doorbells;

    /// <summary>Interrupt lines, messages, and routes from eventfds to them.</summary>
    public KvmInterruptControllers InterruptControllers => _interrupts;

    /// <summary>Writes of the guest that signal an eventfd instead of leaving guest code.</summary>
    public KvmDoorbells Doorbells { get; }

    public void PauseTime() => _time.Pause();

    public void ResumeTime() => _time.Resume();

    public void Dispose()
    {
        foreach (KvmProcessor? processor in _processors)
        {
            processor?.Dispose();
        }

        _vm.Dispose();
    }

    /// <summary>What a new VM needs before it has a vCPU.</summary>
    internal static void SetRealModePages(FileDescriptor vm)
    {
        ulong identityMap = IdentityMapAddress;
        _ = Call(vm, nameof(KVM_SET_IDENTITY_MAP_ADDR), KVM_SET_IDENTITY_MAP_ADDR, &identityMap);
        _ = Call(vm, nameof(KVM_SET_TSS_ADDR), KVM_SET_TSS_ADDR, (nuint)TssAddress);
    }

    private static void SetMemory(FileDescriptor vm, GuestMemory memory)
    {
        ulong host = (ulong)memory.HostAddress;
        uint slot = 0;
        foreach (GuestMemoryRegion region in memory.Regions)
        {
            KvmUserspaceMemoryRegion argument = new()
            {
                Slot = slot++,
                GuestPhysAddr = region.Start,
                MemorySize = region.Size,
                UserspaceAddr = host,
            };
            // SAFETY: the regions lie in the guest's host mapping one behind the other, and its owner keeps it longer than us.
            _ = Call(vm, nameof(KVM_SET_USER_MEMORY_REGION), KVM_SET_USER_MEMORY_REGION, &argument);
            host += region.Size;
        }
    }
}
