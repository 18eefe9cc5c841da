using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Kvm.Tests;

/// <summary>MSRs as the guest reaches them, the paravirtual clock among them, and time that stands still.</summary>
public sealed class MsrTests
{
    private const ulong ClockPage = 0x3_1000;
    private const ulong TscAddress = SmallGuest.DataAddress;
    private const int PauseMilliseconds = 1000;
    private const int Slack = 50;

    [KvmFact]
    public void Known_msrs_are_read_and_written()
    {
        using SmallGuest guest = new();
        guest.Start(GuestMode.Long, a =>
        {
            a.mov(ecx, Msr.Lstar);
            a.rdmsr();
            a.mov(esi, eax);
            a.mov(edi, edx);
            a.mov(ecx, Msr.KernelGsBase);
            a.mov(eax, 0x1111_2222);
            a.mov(edx, 0x3333);
            a.wrmsr();
            a.@out((byte)SmallGuest.EndPort, al);
        });
        ProcessorRegisters registers = guest.GetRegisters();
        registers.Msrs[Msr.Lstar] = 0x1234_5678_9ABC;
        guest.Processor.SetRegisters(registers);

        guest.RunToEnd();

        registers = guest.GetRegisters();
        Assert.Equal((0x5678_9ABCul, 0x1234ul), (registers.Gpr[6], registers.Gpr[7]));
        Assert.Equal(0x3333_1111_2222ul, registers.Msrs[Msr.KernelGsBase]);
    }

    [KvmTheory(KvmAbility.UnknownMsrFaults)]
    [InlineData(false)]
    [InlineData(true)]
    public void Unknown_msrs_give_a_general_protection_fault(bool isWrite)
    {
        using SmallGuest guest = new();
        guest.SetHandler(GuestMode.Long, ExceptionVector.GeneralProtection, a =>
        {
            a.mov(rsi, __qword_ptr[rsp + 8]);
            a.@out((byte)SmallGuest.EndPort, al);
        });
        guest.Start(GuestMode.Long, a =>
        {
            a.mov(ecx, 0x1234_5678);
            if (isWrite)
            {
                a.wrmsr();
            }
            else
            {
                a.rdmsr();
            }

            a.@out(0x80, al);
        });

        guest.RunToEnd();

        Assert.Equal(SmallGuest.CodeAddress + 5, guest.GetRegisters().Gpr[6]);
        Assert.DoesNotContain(guest.Accesses, a => a.StartsWith("out 80", StringComparison.Ordinal));
    }

    [KvmFact]
    public void The_paravirtual_clock_shows_the_time_since_the_vm_was_made()
    {
        long start = Environment.TickCount64;
        using SmallGuest guest = new();
        StartClock(guest);

        ulong first = ReadClock(guest);
        ulong second = ReadClock(guest);

        Assert.Equal(0u, guest.Read<uint>(ClockPage) & 1);
        Assert.NotEqual(0u, guest.Read<uint>(ClockPage + 24));
        Assert.InRange(second, first, ulong.MaxValue);
        Assert.InRange(second, 1ul, (ulong)(Environment.TickCount64 - start + Slack) * 1_000_000);
    }

    [KvmTheory]
    [InlineData(true)]
    [InlineData(false)]
    public void The_paravirtual_clock_stands_still_while_time_is_paused(bool isPaused)
    {
        using SmallGuest guest = new();
        StartClock(guest);
        CheckTime(guest, isPaused, () => ReadClock(guest) / 1e6);
    }

    [KvmTheory(KvmAbility.TscOffset)]
    [InlineData(true)]
    [InlineData(false)]
    public void The_time_stamp_counter_stands_still_while_time_is_paused(bool isPaused)
    {
        double ticks = KvmProbe.Run().TscKilohertz!.Value;
        using SmallGuest guest = new();
        StartClock(guest);
        CheckTime(guest, isPaused, () =>
        {
            guest.RunToEnd();
            return guest.Read<ulong>(TscAddress) / ticks;
        });
    }

    [KvmFact(KvmAbility.TscOffset)]
    public void Counters_of_all_vcpus_agree_after_a_pause()
    {
        using SmallGuest guest = new(processors: 2);
        long before = Difference(guest);
        for (int i = 0; i < 5; i++)
        {
            guest.Partition.PauseTime();
            long pause = Environment.TickCount64;
            SpinWait.SpinUntil(() => Environment.TickCount64 - pause >= 20);
            guest.Partition.ResumeTime();
        }

        Assert.Equal(before, Difference(guest));

        static long Difference(SmallGuest guest) =>
            ((KvmProcessor)guest.Partition.Processors[1]).TscOffset - ((KvmProcessor)guest.Partition.Processors[0]).TscOffset;
    }

    /// <summary>
    /// Between two readings the guest has seen no more than the time that it could run in. Each reading takes some time of
    /// its own, so this is a bound and not an equation; without a pause the same bound does not hold.
    /// </summary>
    private static void CheckTime(SmallGuest guest, bool isPaused, Func<double> readMilliseconds)
    {
        long begin = Environment.TickCount64;
        double first = readMilliseconds();
        if (isPaused)
        {
            guest.Partition.PauseTime();
            guest.Partition.PauseTime();
        }

        long pause = Environment.TickCount64;
        SpinWait.SpinUntil(() => Environment.TickCount64 - pause >= PauseMilliseconds);
        pause = Environment.TickCount64 - pause;
        if (isPaused)
        {
            guest.Partition.ResumeTime();
            guest.Partition.ResumeTime();
        }

        double passed = readMilliseconds() - first;
        double ran = Environment.TickCount64 - begin - pause + Slack;
        Assert.InRange(passed, isPaused ? 0 : PauseMilliseconds - Slack, isPaused ? ran : pause + ran);
    }

    private static void StartClock(SmallGuest guest) => guest.Start(GuestMode.Long, a =>
    {
        Iced.Intel.Label again = a.CreateLabel();
        a.mov(ecx, Msr.KvmSystemTime);
        a.mov(eax, (uint)ClockPage | 1);
        a.xor(edx, edx);
        a.wrmsr();
        a.Label(ref again);
        a.rdtsc();
        a.mov(__dword_ptr[TscAddress], eax);
        a.mov(__dword_ptr[TscAddress + 4], edx);
        a.@out((byte)SmallGuest.EndPort, al);
        a.jmp(again);
    });

    /// <summary>
    /// Runs the guest to its next reading, and gives the time in nanoseconds that the clock's page makes of it. Layout and
    /// formula: Linux Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW.
    /// </summary>
    private static ulong ReadClock(SmallGuest guest)
    {
        guest.RunToEnd();
        ulong ticks = guest.Read<ulong>(TscAddress) - guest.Read<ulong>(ClockPage + 8);
        int shift = guest.Read<sbyte>(ClockPage + 28);
        ticks = shift >= 0 ? ticks << shift : ticks >> -shift;
        return guest.Read<ulong>(ClockPage + 16) + (ulong)(((UInt128)ticks * guest.Read<uint>(ClockPage + 24)) >> 32);
    }
}
