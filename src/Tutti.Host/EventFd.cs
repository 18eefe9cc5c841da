namespace Tutti.Host;

/// <summary>
/// A counter that the kernel and this process signal to each other: an eventfd. Unlike <see cref="HostEvent"/> it can be
/// handed to the kernel (KVM's doorbells and interrupts), so every signal is a system call. Source: eventfd(2).
/// </summary>
/// <remarks>Each call holds the descriptor open, since devices signal from threads that know nothing of its end.</remarks>
public sealed unsafe class EventFd : IDisposable
{
    private const double NanosecondsPerMillisecond = 1e6;
    private const long NanosecondsPerSecond = 1_000_000_000;

    /// <exception cref="HostException">The process has no descriptor left.</exception>
    public EventFd() => Descriptor = FileDescriptor.Own(LibC.eventfd(0, LibC.EFD_CLOEXEC | LibC.EFD_NONBLOCK), "eventfd");

    public FileDescriptor Descriptor { get; }

    /// <summary>Adds one to the counter. Safe from any thread.</summary>
    /// <exception cref="ObjectDisposedException">The counter is gone.</exception>
    public void Signal()
    {
        using Hold hold = new(Descriptor);
        ulong one = 1;
        // SAFETY: an eventfd takes exactly the 8 bytes of the local. A full counter (EAGAIN) is signalled already.
        if (LibC.write(Descriptor.Number, &one, sizeof(ulong)) != sizeof(ulong))
        {
            HostException error = HostException.FromLastError("write");
            if (error.Errno != LibC.EAGAIN)
            {
                throw error;
            }
        }
    }

    /// <summary>Takes the counter back to 0; 0 when nobody has signalled. Does not wait.</summary>
    /// <exception cref="ObjectDisposedException">The counter is gone.</exception>
    public ulong Take()
    {
        using Hold hold = new(Descriptor);
        ulong count;
        // SAFETY: an eventfd gives exactly the 8 bytes of the local.
        while (LibC.read(Descriptor.Number, &count, sizeof(ulong)) < 0)
        {
            HostException error = HostException.FromLastError("read");
            if (error.Errno == LibC.EAGAIN)
            {
                return 0;
            }

            if (error.Errno != LibC.EINTR)
            {
                throw error;
            }
        }

        return count;
    }

    /// <summary>Waits until the counter is above 0, without taking it.</summary>
    /// <param name="timeout">How long at most; zero or less only looks.</param>
    /// <returns>Whether it is.</returns>
    /// <exception cref="ObjectDisposedException">The counter is gone.</exception>
    public bool Wait(TimeSpan timeout)
    {
        using Hold hold = new(Descriptor);
        long end = HostTime.Nanoseconds + (long)(timeout.TotalMilliseconds * NanosecondsPerMillisecond);
        PollFd fd = new() { Fd = Descriptor.Number, Events = LibC.POLLIN };
        while (true)
        {
            long left = Math.Max(0, end - HostTime.Nanoseconds);
            TimeSpec time = new() { Seconds = left / NanosecondsPerSecond, Nanoseconds = left % NanosecondsPerSecond };
            // SAFETY: both point to locals that outlive the call.
            int count = LibC.ppoll(&fd, 1, &time, null);
            if (count >= 0)
            {
                return count > 0;
            }

            HostException error = HostException.FromLastError("ppoll");
            if (error.Errno != LibC.EINTR)
            {
                throw error;
            }
        }
    }

    public void Dispose() => Descriptor.Dispose();

    /// <summary>Keeps the number from being closed, and given to another file, during a call.</summary>
    private readonly ref struct Hold
    {
        private readonly FileDescriptor _descriptor;

        internal Hold(FileDescriptor descriptor)
        {
            bool isHeld = false;
            descriptor.DangerousAddRef(ref isHeld);
            _descriptor = descriptor;
        }

        public void Dispose() => _descriptor.DangerousRelease();
    }
}
