using System.Runtime.InteropServices;
using Tutti.Host;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Kvm.Tests;

/// <summary>Guests that can't go on, hosts that can't run them, and a KVM that goes away: one clear line each.</summary>
public sealed unsafe partial class FailureTests
{
    private const int O_RDWR = 2;

    /// <summary>Not from real mode: KVM's emulator of it looks at no limit of the interrupt table.</summary>
    [KvmTheory]
    [InlineData(GuestMode.Protected32)]
    [InlineData(GuestMode.Long)]
    public void A_fault_that_nobody_can_take_is_a_triple_fault(GuestMode mode)
    {
        using SmallGuest guest = new();
        guest.Start(mode, a => a.ud2());
        ProcessorRegisters registers = guest.GetRegisters();
        registers.IdtLimit = 0;
        guest.Processor.SetRegisters(registers);

        Assert.Equal(new ProcessorExit(ProcessorExitKind.TripleFault), guest.Run());
    }

    [KvmFact]
    public void Code_where_no_memory_is_ends_with_a_message()
    {
        using SmallGuest guest = new();
        guest.Start(GuestMode.Long, a =>
        {
            a.mov(eax, 0xD000_0000);
            a.jmp(rax);
        });

        ProcessorExit exit = guest.Run();

        Assert.Equal(ProcessorExitKind.InternalError, exit.Kind);
        Assert.StartsWith("KVM_EXIT_INTERNAL_ERROR: ", exit.Message);
        AssertOneLine(exit.Message!);
    }

    [KvmFact]
    public void A_state_that_no_processor_can_have_is_refused()
    {
        using SmallGuest guest = new();
        ProcessorRegisters registers = guest.GetRegisters();
        registers.Cr0 = Cr0.Paging;

        HostException error = Assert.Throws<HostException>(() => guest.Processor.SetRegisters(registers));

        Assert.StartsWith("KVM_SET_SREGS: ", error.Message);
        AssertOneLine(error.Message);
    }

    [KvmFact]
    public void A_kvm_that_goes_away_ends_a_guest_at_its_next_exit()
    {
        using SmallGuest guest = new();
        guest.Start(GuestMode.Long, a =>
        {
            Iced.Intel.Label again = a.CreateLabel();
            a.Label(ref again);
            a.@out(0x80, al);
            a.jmp(again);
        });
        int accesses = 0;
        guest.OnAccess = access =>
        {
            if (access == "out 80 00" && ++accesses == 3)
            {
                ReplaceByNothing("anon_inode:kvm-vcpu:0");
            }
        };

        ProcessorExit exit = guest.Run();

        Assert.Equal(ProcessorExitKind.InternalError, exit.Kind);
        Assert.Equal("KVM_RUN failed: Inappropriate ioctl for device (errno 25)", exit.Message);
        Assert.Equal(3, accesses);
        Assert.StartsWith("KVM_GET_REGS: ", Assert.Throws<HostException>(() => guest.GetRegisters()).Message);
    }

    [KvmFact]
    public void A_kvm_that_goes_away_ends_a_spinning_guest_when_it_is_asked_to()
    {
        using SmallGuest guest = new();
        guest.Start(GuestMode.Long, a =>
        {
            Iced.Intel.Label again = a.CreateLabel();
            a.@out(0x80, al);
            a.Label(ref again);
            a.jmp(again);
        });
        Task<ProcessorExit> run = guest.BeginRun();
        guest.WaitFor("out 80 00");

        ReplaceByNothing("anon_inode:kvm-vcpu:0");
        guest.Processor.RequestExit();

        Assert.NotEqual(ProcessorExitKind.TripleFault, guest.Finish(run).Kind);
        ProcessorExit exit = guest.Run();
        Assert.Equal(ProcessorExitKind.InternalError, exit.Kind);
        Assert.StartsWith("KVM_RUN failed: ", exit.Message);
    }

    public static TheoryData<int, string, string> Unavailable => new()
    {
        { 2, "open /dev/kvm", "there is no /dev/kvm; " },
        { 13, "open /dev/kvm", "no permission for /dev/kvm; " },
        { 1, "open /dev/kvm", "no permission for /dev/kvm; " },
        { 6, "open /dev/kvm", "/dev/kvm stands for no device; " },
        { 19, "open /dev/kvm", "/dev/kvm stands for no device; " },
        { 16, "KVM_CREATE_VM", "the processor's virtualization is in use by another hypervisor; " },
        { 22, "KVM_CREATE_VM", "KVM refuses: KVM_CREATE_VM: Invalid argument (errno 22); " },
        { 12, "KVM_SET_USER_MEMORY_REGION", "the host has no memory left for this VM (KVM_SET_USER_MEMORY_REGION: Cannot allocate memory (errno 12)); give it less with --memory" },
        { 12, "KVM_CREATE_VM", "the host has no memory left for this VM (KVM_CREATE_VM: " },
        { 24, "KVM_CREATE_VCPU", "no file descriptor is left for this VM (KVM_CREATE_VCPU: " },
        { 23, "open /dev/kvm", "no file descriptor is left for this VM (open /dev/kvm: " },
        { 17, "KVM_CREATE_VCPU", "KVM refuses: KVM_CREATE_VCPU: File exists (errno 17); " },
        { 2, "KVM_SET_GSI_ROUTING", "KVM refuses: KVM_SET_GSI_ROUTING: No such file or directory (errno 2); " },
        { 16, "KVM_SET_TSS_ADDR", "KVM refuses: KVM_SET_TSS_ADDR: Device or resource busy (errno 16); " },
    };

    [Theory]
    [MemberData(nameof(Unavailable))]
    public void Each_refusal_of_the_host_is_one_line_with_a_remedy(int errno, string call, string start)
    {
        KvmUnavailableException error = KvmUnavailableException.From(new HostException(call, errno));

        Assert.StartsWith(start, error.Message);
        Assert.Equal($"{error.Problem}; {error.Remedy}", error.Message);
        Assert.EndsWith("or use --engine software", error.Remedy);
        AssertOneLine(error.Message);
    }

    [KvmFact]
    public void More_vcpus_than_the_host_runs_are_refused_with_the_limit()
    {
        int limit = new KvmEngine().MaxProcessors;

        KvmUnavailableException error = Assert.Throws<KvmUnavailableException>(() => new SmallGuest(limit + 1));

        Assert.Equal($"the host's KVM runs at most {limit} vCPUs in a VM, not {limit + 1}; ask for fewer with --cpus", error.Message);
        Assert.Throws<ArgumentOutOfRangeException>(() => new SmallGuest(0));
    }

    public static TheoryData<uint, string> Reasons => new()
    {
        { 0, "KVM_EXIT_UNKNOWN: the processor left the guest for reason 0x1122334455667788, which KVM does not know" },
        { 1, "KVM_EXIT_EXCEPTION: exception 1432778632, error code 0x11223344" },
        { 9, "KVM_EXIT_FAIL_ENTRY: the processor did not enter the guest, reason 0x1122334455667788, on host CPU 3" },
        { 4, "KVM_EXIT_DEBUG: nothing in a PC of Tutti leads to it" },
        { 5, "KVM_EXIT_HLT: nothing in a PC of Tutti leads to it" },
        { 39, "KVM_EXIT_MEMORY_FAULT: no memory for guest address 0x3, 0x0 bytes, flags 0x1122334455667788" },
        { 24, "KVM_EXIT_SYSTEM_EVENT: event 1432778632 (data 3 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0)" },
        { 12345, "KVM exit 12345, which Tutti does not know: nothing in a PC of Tutti leads to it" },
    };

    [Theory]
    [MemberData(nameof(Reasons))]
    public void Reports_tell_the_reason(uint reason, string text)
    {
        KvmRun run = default;
        run.ExitReason = (KvmExitReason)reason;
        run.HardwareExitReason = 0x1122_3344_5566_7788;
        run.FailEntry.Cpu = 3;
        Assert.Equal(text, ExitReport.Describe(&run));
    }

    [Theory]
    [InlineData(1u, 0u, "KVM could not emulate an instruction")]
    [InlineData(1u, 4u, "KVM could not emulate an instruction, instruction 0f0b (data 1 b0f02 0 7)")]
    [InlineData(2u, 1u, "exceptions came together that KVM can't deliver (data 1)")]
    [InlineData(3u, 2u, "the processor left the guest while it delivered an event (data 1 b0f02)")]
    [InlineData(4u, 0u, "the processor left the guest for a reason that KVM does not expect")]
    [InlineData(77u, uint.MaxValue, "suberror 77 (data 1 b0f02 0 7 0 0 0 0 0 0 0 0 0 0 0 0)")]
    public void Reports_of_internal_errors_tell_the_instruction_and_the_data(uint suberror, uint count, string text)
    {
        KvmRun run = default;
        run.ExitReason = KvmExitReason.INTERNAL_ERROR;
        run.Internal.Suberror = suberror;
        run.Internal.Ndata = count;
        run.Internal.Data[0] = 1;
        run.Internal.Data[1] = 0x0B_0F02;
        run.Internal.Data[3] = 7;
        Assert.Equal("KVM_EXIT_INTERNAL_ERROR: " + text, ExitReport.Describe(&run));
    }

    /// <summary>The kernel's length of an instruction is believed up to what an instruction can have.</summary>
    [Fact]
    public void Reports_show_no_more_than_an_instruction()
    {
        KvmRun run = default;
        run.ExitReason = KvmExitReason.INTERNAL_ERROR;
        run.Internal.Suberror = 1;
        run.Internal.Ndata = 3;
        run.Internal.Data[0] = 1;
        run.Internal.Data[1] = ulong.MaxValue;
        Assert.Contains(", instruction ffffffffffffff0000000000000000 (", ExitReport.Describe(&run));
    }

    [Fact]
    public void Reports_of_failed_calls_tell_the_error_and_where()
    {
        KvmRun run = default;
        Assert.Equal("KVM_RUN failed: Bad address (errno 14)", ExitReport.DescribeFailure(14, &run));
        run.ExitReason = KvmExitReason.MEMORY_FAULT;
        run.MemoryFault.Gpa = 0x1234;
        Assert.Equal("KVM_RUN failed: Bad address (errno 14), at guest address 0x1234", ExitReport.DescribeFailure(14, &run));
    }

    private static void AssertOneLine(string text) => Assert.DoesNotContain(text, character => char.IsControl(character));

    /// <summary>Puts /dev/null in place of this process's descriptor of a kind; the VM's own is its only one.</summary>
    private static void ReplaceByNothing(string link)
    {
        string path = Assert.Single(Directory.GetFiles("/proc/self/fd"), path => Target(path) == link);
        int nothing = open("/dev/null", O_RDWR);
        Assert.True(nothing >= 0);
        int number = int.Parse(Path.GetFileName(path), System.Globalization.CultureInfo.InvariantCulture);
        Assert.Equal(number, dup2(nothing, number));
        Assert.Equal(0, close(nothing));
    }

    private static string? Target(string path)
    {
        try
        {
            return new FileInfo(path).LinkTarget;
        }
        catch (IOException)
        {
            // The descriptor of the enumeration itself is gone.
            return null;
        }
    }

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int open(string path, int flags);

    [LibraryImport("libc")]
    private static partial int dup2(int from, int to);

    [LibraryImport("libc")]
    private static partial int close(int fd);
}
