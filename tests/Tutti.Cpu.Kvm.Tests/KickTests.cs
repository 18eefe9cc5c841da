using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Kvm.Tests;

/// <summary>RequestExit brings a vCPU back, whatever it does.</summary>
public sealed class KickTests
{
    private const int Kicks = 2000;
    private const int Kickers = 4;

    [KvmTheory]
    [InlineData(GuestMode.Real)]
    [InlineData(GuestMode.Long)]
    [InlineData(GuestMode.LongUser)]
    public void A_spinning_vcpu_comes_back(GuestMode mode)
    {
        using SmallGuest guest = new();
        StartToSpin(guest, mode);
        Task<ProcessorExit> run = guest.BeginRun();
        guest.WaitFor("out 80 00");

        guest.Processor.RequestExit();

        Assert.Equal(new ProcessorExit(ProcessorExitKind.Requested), guest.Finish(run));
        Assert.Equal(ProcessorActivity.Running, guest.GetRegisters().Activity);
    }

    [KvmFact]
    public void A_halted_vcpu_comes_back_and_halts_on()
    {
        using SmallGuest guest = new();
        guest.Start(GuestMode.Long, a =>
        {
            a.cli();
            a.hlt();
        });
        for (int i = 0; i < 3; i++)
        {
            Task<ProcessorExit> run = guest.BeginRun();
            guest.WaitUntilAsleep();
            Assert.False(run.IsCompleted);

            guest.Processor.RequestExit();

            Assert.Equal(new ProcessorExit(ProcessorExitKind.Requested), guest.Finish(run));
            Assert.Equal(ProcessorActivity.Halted, guest.GetRegisters().Activity);
            Assert.Equal(SmallGuest.CodeAddress + 2, guest.GetRegisters().Rip);
        }
    }

    [KvmFact]
    public void A_vcpu_that_waits_for_startup_comes_back()
    {
        using SmallGuest guest = new(processors: 2);
        Assert.Equal(ProcessorActivity.WaitForStartup, guest.GetRegisters(1).Activity);
        Task<ProcessorExit> run = guest.BeginRun(1);
        guest.WaitUntilAsleep(1);

        guest.Partition.Processors[1].RequestExit();

        Assert.Equal(new ProcessorExit(ProcessorExitKind.Requested), guest.Finish(run));
    }

    [KvmFact]
    public void A_request_before_the_run_ends_it_before_the_first_instruction_and_only_once()
    {
        using SmallGuest guest = new();
        guest.Start(GuestMode.Long, a => a.@out((byte)SmallGuest.EndPort, al));
        guest.Processor.RequestExit();
        guest.Processor.RequestExit();

        guest.RunToEnd();

        Assert.Empty(guest.Accesses);
        Assert.Equal(SmallGuest.CodeAddress, guest.GetRegisters().Rip);
        guest.RunToEnd();
        Assert.Equal(["out f4 00"], guest.Accesses);
    }

    [KvmFact]
    public void A_request_after_dispose_does_nothing()
    {
        SmallGuest guest = new();
        IVirtualProcessor processor = guest.Processor;
        guest.Dispose();

        processor.RequestExit();
    }

    [KvmFact]
    public void An_access_whose_owner_asks_for_the_exit_is_complete()
    {
        using SmallGuest guest = new();
        guest.OnAccess = _ => guest.Processor.RequestExit();
        guest.Start(GuestMode.Long, a =>
        {
            a.mov(eax, uint.MaxValue);
            a.@in(eax, 0x60);
            a.hlt();
        });

        guest.RunToEnd();

        Assert.Equal(0x42ul, guest.GetRegisters().Gpr[0]);
        Assert.Equal(SmallGuest.CodeAddress + 7, guest.GetRegisters().Rip);
    }

    /// <summary>After every request a run must end; one that was lost would leave the guest spinning for ever.</summary>
    [KvmTheory]
    [InlineData(1, false)]
    [InlineData(1, true)]
    [InlineData(Kickers, false)]
    [InlineData(Kickers, true)]
    public void No_request_is_lost(int kickers, bool halts)
    {
        using SmallGuest guest = new();
        if (halts)
        {
            guest.Start(GuestMode.Long, a => a.hlt());
        }
        else
        {
            StartToSpin(guest, GuestMode.LongUser);
        }

        long returns = 0;
        bool isDone = false;
        ProcessorExit bad = default;
        Thread runner = new(() =>
        {
            while (!Volatile.Read(ref isDone))
            {
                ProcessorExit exit = guest.Processor.Run();
                bad = exit.Kind == ProcessorExitKind.Requested ? bad : exit;
                Interlocked.Increment(ref returns);
            }
        });
        runner.Start();
        int lost = 0;
        Thread[] threads = [.. Enumerable.Range(0, kickers).Select(_ => new Thread(() =>
        {
            for (int i = 0; i < Kicks / kickers && Volatile.Read(ref lost) == 0; i++)
            {
                long before = Interlocked.Read(ref returns);
                guest.Processor.RequestExit();
                if (!SpinWait.SpinUntil(() => Interlocked.Read(ref returns) > before, SmallGuest.Patience))
                {
                    Interlocked.Increment(ref lost);
                }
            }
        }))];
        foreach (Thread thread in threads)
        {
            thread.Start();
        }

        foreach (Thread thread in threads)
        {
            thread.Join();
        }

        Volatile.Write(ref isDone, true);
        guest.Processor.RequestExit();
        Assert.True(runner.Join(SmallGuest.Patience), "the last request was lost");
        Assert.Equal(0, lost);
        Assert.Equal(default, bad);
        Assert.InRange(Interlocked.Read(ref returns), 1, Kicks + 1);
    }

    private static void StartToSpin(SmallGuest guest, GuestMode mode) => guest.Start(mode, a =>
    {
        Iced.Intel.Label here = a.CreateLabel();
        a.xor(eax, eax);
        a.@out(0x80, al);
        a.Label(ref here);
        a.jmp(here);
    });
}
