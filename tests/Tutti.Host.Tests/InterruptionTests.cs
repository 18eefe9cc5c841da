using System.IO.Pipes;
using System.Runtime.InteropServices;

namespace Tutti.Host.Tests;

/// <summary>Eventfds, device files, and the signal that breaks system calls off.</summary>
public sealed unsafe class InterruptionTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    /// <summary>A wrong size lets the kernel's answer overrun the stack.</summary>
    [Fact]
    public void SigActionIsTheCLibrarysStructure()
    {
        Assert.Equal(152, sizeof(SigAction));
        Assert.Equal(0, (int)Marshal.OffsetOf<SigAction>(nameof(SigAction.Handler)));
        Assert.Equal(8, (int)Marshal.OffsetOf<SigAction>(nameof(SigAction.Mask)));
        Assert.Equal(136, (int)Marshal.OffsetOf<SigAction>(nameof(SigAction.Flags)));
        Assert.Equal(144, (int)Marshal.OffsetOf<SigAction>(nameof(SigAction.Restorer)));
        Assert.Equal(128, sizeof(SigAction.SignalSet));
    }

    [Fact]
    public void InterruptedCallReturnsEintr()
    {
        ThreadInterruption.Prepare();
        ThreadInterruption.Prepare();
        using EventFd never = new();
        int thread = 0;
        int errno = 0;
        Thread waiter = new(() =>
        {
            PollFd fd = new() { Fd = never.Descriptor.Number, Events = LibC.POLLIN };
            Volatile.Write(ref thread, ThreadInterruption.CurrentThread);
            // SAFETY: the structure is a local that outlives the call.
            Assert.Equal(-1, LibC.ppoll(&fd, 1, null, null));
            errno = Marshal.GetLastPInvokeError();
        });
        waiter.Start();
        Assert.True(SpinWait.SpinUntil(() => Volatile.Read(ref thread) != 0, Patience));

        // Again and again: the first one may come before the call.
        Assert.True(SpinWait.SpinUntil(
            () =>
            {
                ThreadInterruption.Interrupt(thread);
                return waiter.Join(1);
            },
            Patience));

        Assert.Equal(LibC.EINTR, errno);
    }

    [Fact]
    public void InterruptionLeavesOtherWaitsAndEndedThreadsAlone()
    {
        ThreadInterruption.Prepare();
        using AnonymousPipeServerStream writer = new(PipeDirection.Out);
        using HostStream reader = new((int)writer.ClientSafePipeHandle.DangerousGetHandle());
        int thread = 0;
        int read = -1;
        Thread waiter = new(() =>
        {
            Volatile.Write(ref thread, ThreadInterruption.CurrentThread);
            read = reader.Read(new byte[1]);
        });
        waiter.Start();
        Assert.True(SpinWait.SpinUntil(() => Volatile.Read(ref thread) != 0, Patience));
        for (int i = 0; i < 100; i++)
        {
            ThreadInterruption.Interrupt(thread);
        }

        Assert.False(waiter.Join(20));
        writer.Write("x"u8);
        Assert.True(waiter.Join(Patience));
        Assert.Equal(1, read);
        ThreadInterruption.Interrupt(thread);
    }

    [Fact]
    public void NumberOfTheThreadIsTheKernels()
    {
        int number = ThreadInterruption.CurrentThread;
        Assert.Equal(number, ThreadInterruption.CurrentThread);
        Assert.True(Directory.Exists($"/proc/self/task/{number}"));
        int other = 0;
        Thread thread = new(() => other = ThreadInterruption.CurrentThread);
        thread.Start();
        thread.Join();
        Assert.NotEqual(number, other);
    }

    [Fact]
    public void EventFdCountsSignalsUntilTheyAreTaken()
    {
        using EventFd counter = new();
        Assert.Equal(0ul, counter.Take());
        Assert.False(counter.Wait(TimeSpan.Zero));
        counter.Signal();
        counter.Signal();
        Assert.True(counter.Wait(TimeSpan.Zero));
        Assert.True(counter.Wait(Patience));
        Assert.Equal(2ul, counter.Take());
        Assert.Equal(0ul, counter.Take());
    }

    [Fact]
    public void SignalWakesAWaitingThread()
    {
        using EventFd counter = new();
        bool woken = false;
        Thread waiter = new(() => woken = counter.Wait(Patience));
        waiter.Start();
        counter.Signal();
        Assert.True(waiter.Join(Patience));
        Assert.True(woken);
    }

    [Fact]
    public void FullCounterIsSignalledAlready()
    {
        using EventFd counter = new();
        ulong most = ulong.MaxValue - 1;
        // SAFETY: an eventfd takes exactly the 8 bytes of the local.
        Assert.Equal(sizeof(ulong), LibC.write(counter.Descriptor.Number, &most, sizeof(ulong)));
        counter.Signal();
        Assert.Equal(most, counter.Take());
    }

    /// <summary>By then the number may be another file's.</summary>
    [Fact]
    public void ClosedEventFdIsNeverUsed()
    {
        EventFd counter = new();
        counter.Dispose();
        Assert.Throws<ObjectDisposedException>(counter.Signal);
        Assert.Throws<ObjectDisposedException>(() => counter.Take());
        Assert.Throws<ObjectDisposedException>(() => counter.Wait(TimeSpan.Zero));
    }

    [Fact]
    public void DeviceFileIsOpenedForBothWays()
    {
        using FileDescriptor nothing = DeviceFile.Open("/dev/null");
        byte one = 1;
        // SAFETY: the byte is a local that outlives the calls.
        Assert.Equal(1, LibC.write(nothing.Number, &one, 1));
        Assert.Equal(0, LibC.read(nothing.Number, &one, 1));
        Assert.Contains("O_CLOEXEC", Flags(nothing), StringComparison.Ordinal);
    }

    [Fact]
    public void DeviceThatIsNotThereIsNamed()
    {
        HostException error = Assert.Throws<HostException>(() => DeviceFile.Open("/dev/tutti-is-not-there"));
        Assert.Equal(("open /dev/tutti-is-not-there", 2), (error.Call, error.Errno));
        Assert.Equal("open /dev/tutti-is-not-there: No such file or directory (errno 2)", error.Message);
    }

    [Fact]
    public void MoreMemoryThanAddressesIsRefusedInOneLine()
    {
        List<HostMapping> mappings = [];
        try
        {
            HostException error = Assert.Throws<HostException>(() =>
            {
                for (int i = 0; i < 8; i++)
                {
                    mappings.Add(new HostMapping(1L << 46));
                }
            });
            Assert.EndsWith("Cannot allocate memory (errno 12)", error.Message);
            Assert.DoesNotContain(error.Message, character => char.IsControl(character));
        }
        finally
        {
            mappings.ForEach(mapping => mapping.Dispose());
        }
    }

    private static string Flags(FileDescriptor descriptor)
    {
        string line = File.ReadLines($"/proc/self/fdinfo/{descriptor.Number}").Single(l => l.StartsWith("flags:", StringComparison.Ordinal));
        return (Convert.ToInt32(line[6..].Trim(), 8) & LibC.O_CLOEXEC) != 0 ? "O_CLOEXEC" : line;
    }
}
