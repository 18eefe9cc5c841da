namespace Tutti.Host;

/// <summary>
/// A wake-up call for one waiting thread, with a timeout in nanoseconds. A signal that nobody waits for is kept, and
/// costs no system call; several kept ones count as one.
/// </summary>
public sealed unsafe class HostEvent : IDisposable
{
    private const int Idle = 0;
    private const int Signaled = 1;
    private const int Waiting = 2;
    private const long NanosecondsPerSecond = 1_000_000_000;
    private readonly FileDescriptor _eventFd = FileDescriptor.Own(LibC.eventfd(0, LibC.EFD_CLOEXEC), "eventfd");
    private int _state;

    /// <summary>Ends the wait under way, or else the next one. Safe from any thread.</summary>
    public void Signal()
    {
        if (Volatile.Read(ref _state) != Signaled && Interlocked.Exchange(ref _state, Signaled) == Waiting)
        {
            ulong one = 1;
            // SAFETY: an eventfd takes exactly the 8 bytes of the local.
            nint written = LibC.write(_eventFd.Number, &one, sizeof(ulong));
            if (written != sizeof(ulong))
            {
                throw HostException.FromLastError("write");
            }
        }
    }

    /// <summary>Waits for a signal and takes it. For one thread at a time.</summary>
    /// <param name="timeoutNanoseconds">How long at most; 0 only looks, -1 is for ever.</param>
    /// <returns>Whether there was a signal.</returns>
    public bool Wait(long timeoutNanoseconds)
    {
        if (Interlocked.CompareExchange(ref _state, Idle, Signaled) == Signaled)
        {
            return true;
        }

        if (timeoutNanoseconds == 0)
        {
            return false;
        }

        if (Interlocked.CompareExchange(ref _state, Waiting, Idle) != Idle)
        {
            Volatile.Write(ref _state, Idle);
            return true;
        }

        Sleep(timeoutNanoseconds);
        if (Interlocked.Exchange(ref _state, Idle) != Signaled)
        {
            return false;
        }

        // Whoever replaced Waiting writes once, perhaps only now: taking that here keeps the next wait from ending early.
        ulong count;
        // SAFETY: an eventfd gives exactly the 8 bytes of the local.
        while (LibC.read(_eventFd.Number, &count, sizeof(ulong)) < 0)
        {
            ThrowUnlessInterrupted("read");
        }

        return true;
    }

    public void Dispose() => _eventFd.Dispose();

    private void Sleep(long timeout)
    {
        long start = HostTime.Nanoseconds;
        PollFd fd = new() { Fd = _eventFd.Number, Events = LibC.POLLIN };
        while (true)
        {
            long left = timeout < 0 ? 0 : Math.Max(0, timeout - (HostTime.Nanoseconds - start));
            TimeSpec time = new() { Seconds = left / NanosecondsPerSecond, Nanoseconds = left % NanosecondsPerSecond };
            // SAFETY: both point to locals that outlive the call.
            if (LibC.ppoll(&fd, 1, timeout < 0 ? null : &time, null) >= 0)
            {
                return;
            }

            ThrowUnlessInterrupted("ppoll");
        }
    }

    private static void ThrowUnlessInterrupted(string call)
    {
        HostException error = HostException.FromLastError(call);
        if (error.Errno != LibC.EINTR)
        {
            throw error;
        }
    }
}
