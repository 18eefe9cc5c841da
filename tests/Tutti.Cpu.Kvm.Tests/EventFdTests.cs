using Iced.Intel;
using Tutti.Host;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Kvm.Tests;

/// <summary>Eventfds tied to interrupts and to doorbells.</summary>
public sealed class EventFdTests
{
    private const int Vector = 0x31;
    private const int OtherVector = 0x32;
    private const uint LevelTriggered = 1 << 15;
    private const ushort BellPort = 0x510;
    private const uint BellAddress = 0xD000_0010;

    [KvmFact]
    public void An_eventfd_raises_a_line_until_it_is_detached()
    {
        using SmallGuest guest = new();
        using EventFd source = new();
        guest.Partition.InterruptControllers.Attach(7, source);
        InterruptTests.Count(guest, Vector);
        guest.Start(GuestMode.Long, a =>
        {
            InterruptTests.EnableLocalApic(a);
            InterruptTests.Redirect(a, 7, Vector);
            InterruptTests.HaltTwice(a);
        });
        Task<ProcessorExit> run = guest.BeginRun();
        guest.WaitFor("out 80 01");

        source.Signal();
        guest.WaitFor("out 80 02");
        guest.Partition.InterruptControllers.Detach(7, source);
        source.Signal();
        guest.WaitUntilAsleep();
        Assert.False(run.IsCompleted);
        Assert.Equal(1ul, source.Take());
        InterruptTests.Pulse(guest, 7);

        Assert.Equal(ProcessorExitKind.Requested, guest.Finish(run).Kind);
        Assert.Equal(2, guest.Accesses.Count(a => a == "out 81 31"));
    }

    [KvmFact]
    public void A_level_line_is_held_until_the_guest_ends_the_interrupt()
    {
        using SmallGuest guest = new();
        using EventFd source = new();
        using EventFd resample = new();
        guest.Partition.InterruptControllers.Attach(10, source, resample);
        InterruptTests.Count(guest, Vector);
        guest.Start(GuestMode.Long, a =>
        {
            InterruptTests.EnableLocalApic(a);
            InterruptTests.Redirect(a, 10, Vector | LevelTriggered);
            InterruptTests.HaltTwice(a);
        });
        Task<ProcessorExit> run = guest.BeginRun();
        guest.WaitFor("out 80 01");

        Assert.Equal(0ul, resample.Take());
        source.Signal();
        Assert.True(resample.Wait(SmallGuest.Patience), "no resample");
        guest.WaitFor("out 80 02");
        Assert.Equal(1ul, resample.Take());
        source.Signal();

        Assert.Equal(ProcessorExitKind.Requested, guest.Finish(run).Kind);
        Assert.True(resample.Wait(SmallGuest.Patience), "no second resample");
        Assert.Equal(2, guest.Accesses.Count(a => a == "out 81 31"));
        guest.Partition.InterruptControllers.Detach(10, source);
    }

    [KvmFact]
    public void A_message_route_says_what_it_was_last_told()
    {
        using SmallGuest guest = new();
        using EventFd source = new();
        KvmInterruptControllers controllers = guest.Partition.InterruptControllers;
        int first = controllers.AddMessageRoute(InterruptTests.LocalApic, Vector);
        int second = controllers.AddMessageRoute(InterruptTests.LocalApic, OtherVector);
        Assert.Equal([24, 25], [first, second]);
        controllers.Attach(first, source);
        InterruptTests.Count(guest, Vector);
        InterruptTests.Count(guest, OtherVector);
        guest.Start(GuestMode.Long, a =>
        {
            InterruptTests.EnableLocalApic(a);
            InterruptTests.HaltTwice(a);
        });
        Task<ProcessorExit> run = guest.BeginRun();
        guest.WaitFor("out 80 01");

        source.Signal();
        guest.WaitFor("out 80 02");
        controllers.ChangeMessageRoute(first, InterruptTests.LocalApic, OtherVector);
        source.Signal();

        Assert.Equal(ProcessorExitKind.Requested, guest.Finish(run).Kind);
        Assert.Equal(["out 80 01", "out 81 31", "out 80 02", "out 81 32", "out f4 02"], guest.Accesses);
    }

    [KvmFact]
    public void Numbers_of_message_routes_are_given_again()
    {
        using SmallGuest guest = new();
        KvmInterruptControllers controllers = guest.Partition.InterruptControllers;
        int first = controllers.AddMessageRoute(InterruptTests.LocalApic, Vector);
        _ = controllers.AddMessageRoute(InterruptTests.LocalApic, Vector);
        controllers.RemoveMessageRoute(first);

        Assert.Equal(first, controllers.AddMessageRoute(InterruptTests.LocalApic, Vector));
        controllers.RemoveMessageRoute(first);
        Assert.Throws<ArgumentException>(() => controllers.RemoveMessageRoute(first));
        Assert.Throws<ArgumentException>(() => controllers.ChangeMessageRoute(first, 0, 0));
        Assert.Throws<ArgumentException>(() => controllers.RemoveMessageRoute(4));
    }

    [KvmFact]
    public void A_message_of_the_seam_interrupts_as_it_was_last_set_and_gives_its_number_back()
    {
        using SmallGuest guest = new();
        IInterruptControllers controllers = guest.Partition.InterruptControllers;
        IInterruptMessage message = controllers.CreateMessage()!;
        message.Set(InterruptTests.LocalApic, Vector);
        InterruptTests.Count(guest, Vector);
        InterruptTests.Count(guest, OtherVector);
        guest.Start(GuestMode.Long, a =>
        {
            InterruptTests.EnableLocalApic(a);
            InterruptTests.HaltTwice(a);
        });
        Task<ProcessorExit> run = guest.BeginRun();
        guest.WaitFor("out 80 01");

        message.Signal();
        guest.WaitFor("out 80 02");
        message.Set(InterruptTests.LocalApic, OtherVector);
        message.Signal();

        Assert.Equal(ProcessorExitKind.Requested, guest.Finish(run).Kind);
        Assert.Equal(["out 80 01", "out 81 31", "out 80 02", "out 81 32", "out f4 02"], guest.Accesses);
        message.Dispose();
        message.Signal();
        Assert.Equal(24, guest.Partition.InterruptControllers.AddMessageRoute(InterruptTests.LocalApic, Vector));
    }

    [KvmFact]
    public void A_message_outlives_its_partition_without_harm()
    {
        IInterruptMessage message;
        using (SmallGuest guest = new())
        {
            message = ((IInterruptControllers)guest.Partition.InterruptControllers).CreateMessage()!;
            message.Set(InterruptTests.LocalApic, Vector);
        }

        message.Signal();
        message.Set(InterruptTests.LocalApic, OtherVector);
        message.Dispose();
    }

    [KvmFact]
    public void A_doorbell_of_the_seam_takes_words_and_doublewords_until_it_is_detached()
    {
        using SmallGuest guest = new();
        using EventFd bell = new();
        IEventDoorbells doorbells = ((IPartition)guest.Partition).EventDoorbells!;
        Assert.True(doorbells.TryAttach(BellAddress, bell.Descriptor));
        Assert.False(doorbells.TryAttach(BellAddress, bell.Descriptor));
        Assert.True(doorbells.TryAttach(BellAddress + 4, bell.Descriptor));
        doorbells.Detach(BellAddress + 4, bell.Descriptor);
        doorbells.Detach(BellAddress + 4, bell.Descriptor);
        guest.Start(GuestMode.Long, a =>
        {
            Write(a, isPort: false, 5, 4);
            Write(a, isPort: false, 5, 2);
            a.mov(__word_ptr[ebx + 4], ax);
            a.@out((byte)SmallGuest.EndPort, al);
        });

        guest.RunToEnd();

        Assert.Equal(["write d0000014 0500", "out f4 05"], guest.Accesses);
        Assert.Equal(2ul, bell.Take());
    }

    /// <summary>The writes that a doorbell takes are never seen by the owner of the port, and the guest goes on behind them.</summary>
    [KvmTheory]
    [InlineData(null, "510 05,510 0500,510 05000000", 0ul)]
    [InlineData(0, "", 3ul)]
    [InlineData(2, "510 05,510 05000000", 1ul)]
    public void A_port_doorbell_takes_writes_of_its_width(int? length, string others, ulong rings)
    {
        using SmallGuest guest = new();
        using EventFd bell = new();
        Doorbell doorbell = new(BellPort, length ?? 0, IsPort: true);
        guest.Partition.Doorbells.Attach(doorbell, bell);
        if (length == null)
        {
            guest.Partition.Doorbells.Detach(doorbell, bell);
        }

        guest.Start(GuestMode.Long, a =>
        {
            a.mov(dx, BellPort);
            a.mov(eax, 5);
            a.@out(dx, al);
            a.@out(dx, ax);
            a.@out(dx, eax);
            a.@in(al, dx);
            a.@out((byte)SmallGuest.EndPort, al);
        });

        guest.RunToEnd();

        Assert.Equal([.. others.Split(',', StringSplitOptions.RemoveEmptyEntries).Select(o => "out " + o), "in 510/1", "out f4 42"], guest.Accesses);
        Assert.Equal(rings, bell.Take());
    }

    [KvmTheory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_doorbell_with_a_match_takes_that_value_alone(bool isPort)
    {
        using SmallGuest guest = new();
        using EventFd five = new();
        using EventFd six = new();
        ulong address = isPort ? BellPort : BellAddress;
        guest.Partition.Doorbells.Attach(new Doorbell(address, 2, isPort, 5), five);
        guest.Partition.Doorbells.Attach(new Doorbell(address, 2, isPort, 6), six);
        guest.Start(GuestMode.Long, a =>
        {
            foreach (int value in (int[])[5, 6, 7, 6])
            {
                Write(a, isPort, value, 2);
            }

            a.@out((byte)SmallGuest.EndPort, al);
        });

        guest.RunToEnd();

        Assert.Equal([isPort ? "out 510 0700" : "write d0000010 0700", "out f4 06"], guest.Accesses);
        Assert.Equal(1ul, five.Take());
        Assert.Equal(2ul, six.Take());
    }

    [KvmFact]
    public void A_memory_doorbell_takes_writes_of_its_width()
    {
        using SmallGuest guest = new();
        using EventFd bell = new();
        guest.Partition.Doorbells.Attach(new Doorbell(BellAddress, 4), bell);
        guest.Start(GuestMode.Long, a =>
        {
            Write(a, isPort: false, 5, 4);
            Write(a, isPort: false, 5, 2);
            Write(a, isPort: false, 6, 4);
            a.mov(eax, __dword_ptr[ebx]);
            a.@out((byte)SmallGuest.EndPort, al);
        });

        guest.RunToEnd();

        Assert.Equal(["write d0000010 0500", "read d0000010/4", "out f4 42"], guest.Accesses);
        Assert.Equal(2ul, bell.Take());
    }

    [KvmFact]
    public void A_doorbell_wakes_its_thread_while_the_guest_runs_on()
    {
        using SmallGuest guest = new();
        using EventFd bell = new();
        guest.Partition.Doorbells.Attach(new Doorbell(BellPort, 1, IsPort: true), bell);
        guest.Start(GuestMode.Long, a =>
        {
            Label here = a.CreateLabel();
            Write(a, isPort: true, 5, 1);
            a.Label(ref here);
            a.jmp(here);
        });
        Task<ProcessorExit> run = guest.BeginRun();

        Assert.True(bell.Wait(SmallGuest.Patience), "the bell did not ring");

        Assert.False(run.IsCompleted);
        guest.Processor.RequestExit();
        _ = guest.Finish(run);
        Assert.Empty(guest.Accesses);
    }

    [KvmFact]
    public void Doorbells_that_exclude_each_other_or_are_not_there_are_refused()
    {
        using SmallGuest guest = new();
        using EventFd bell = new();
        Doorbell doorbell = new(BellPort, 2, IsPort: true);
        Assert.Throws<HostException>(() => guest.Partition.Doorbells.Detach(doorbell, bell));
        guest.Partition.Doorbells.Attach(doorbell, bell);
        Assert.Throws<HostException>(() => guest.Partition.Doorbells.Attach(doorbell, bell));
        Assert.Throws<HostException>(() => guest.Partition.Doorbells.Attach(doorbell with { Length = 3 }, bell));
        guest.Partition.Doorbells.Detach(doorbell, bell);
        guest.Partition.Doorbells.Attach(doorbell, bell);
    }

    private static void Write(Assembler a, bool isPort, int value, int width)
    {
        a.mov(eax, value);
        if (isPort)
        {
            a.mov(dx, BellPort);
            if (width == 1)
            {
                a.@out(dx, al);
            }
            else
            {
                a.@out(dx, ax);
            }

            return;
        }

        a.mov(ebx, BellAddress);
        if (width == 2)
        {
            a.mov(__word_ptr[ebx], ax);
        }
        else
        {
            a.mov(__dword_ptr[ebx], eax);
        }
    }
}
