using Tutti.Host;
using Xunit.Abstractions;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Kvm.Tests;

/// <summary>VMs that end leave nothing behind in the process.</summary>
public sealed class LeakTests(ITestOutputHelper output)
{
    private const int Vms = 1000;

    /// <summary>What the runtime may come to need meanwhile (compiled code, pool threads, heap), far below one for each VM.</summary>
    private const int Slack = 100;

    [KvmFact]
    public void A_thousand_vms_leave_no_descriptor_mapping_or_thread()
    {
        for (int i = 0; i < 50; i++)
        {
            RunOne();
        }

        (int descriptors, int mappings, int threads) = Count();
        long start = Environment.TickCount64;
        for (int i = 0; i < Vms; i++)
        {
            RunOne();
        }

        output.WriteLine($"{Vms} VMs of 2 vCPUs: {Environment.TickCount64 - start} ms");
        (int descriptorsAfter, int mappingsAfter, int threadsAfter) = Count();
        Assert.InRange(descriptorsAfter, 0, descriptors + 5);
        Assert.InRange(mappingsAfter, 0, mappings + Slack);
        Assert.InRange(threadsAfter, 0, threads + 10);
        Assert.DoesNotContain(Directory.GetFiles("/proc/self/fd"), path => IsKvm(path));
        Assert.DoesNotContain("kvm-vcpu", File.ReadAllText("/proc/self/maps"));
    }

    [KvmFact]
    public void A_vm_that_can_not_be_made_leaves_nothing()
    {
        (int descriptors, int mappings, _) = Count();
        for (int i = 0; i < 20; i++)
        {
            Assert.Throws<KvmUnavailableException>(() => new SmallGuest(new KvmEngine().MaxProcessors + 1, memorySize: 1 << 20));
        }

        // The memory of the guests that were never made is the garbage collector's.
        GC.Collect();
        GC.WaitForPendingFinalizers();
        (int descriptorsAfter, int mappingsAfter, _) = Count();
        Assert.InRange(descriptorsAfter, 0, descriptors + 3);
        Assert.InRange(mappingsAfter, 0, mappings + 30);
    }

    /// <summary>A VM whose vCPUs run on a thread each: one talks and ends, the other spins until it is asked to end.</summary>
    private static void RunOne()
    {
        using SmallGuest guest = new(processors: 2);
        using EventFd bell = new();
        guest.Partition.Doorbells.Attach(new Doorbell(0x510, 1, IsPort: true), bell);
        guest.Partition.InterruptControllers.Attach(guest.Partition.InterruptControllers.AddMessageRoute(InterruptTests.LocalApic, 0x31), bell);
        guest.Start(
            GuestMode.Long,
            a =>
            {
                Iced.Intel.Label again = a.CreateLabel();
                a.Label(ref again);
                a.pause();
                a.jmp(again);
            },
            1);
        guest.Start(GuestMode.Long, a =>
        {
            a.@out(0x80, al);
            a.@out((byte)SmallGuest.EndPort, al);
        });
        ProcessorExit[] exits = new ProcessorExit[2];
        Thread[] threads = [.. guest.Partition.Processors.Select(p => new Thread(() => exits[p.Index] = p.Index == 0 ? guest.Run() : p.Run(), 128 << 10))];
        foreach (Thread thread in threads)
        {
            thread.Start();
        }

        Assert.True(threads[0].Join(SmallGuest.Patience));
        guest.Partition.Processors[1].RequestExit();
        Assert.True(threads[1].Join(SmallGuest.Patience));
        Assert.All(exits, exit => Assert.Equal(ProcessorExitKind.Requested, exit.Kind));
    }

    private static (int Descriptors, int Mappings, int Threads) Count() => (
        Directory.GetFiles("/proc/self/fd").Length,
        File.ReadLines("/proc/self/maps").Count(),
        Directory.GetDirectories("/proc/self/task").Length);

    private static bool IsKvm(string path)
    {
        try
        {
            return new FileInfo(path).LinkTarget is { } target && (target == "/dev/kvm" || target.StartsWith("anon_inode:kvm-", StringComparison.Ordinal));
        }
        catch (IOException)
        {
            // The descriptor of the enumeration itself is gone.
            return false;
        }
    }
}
