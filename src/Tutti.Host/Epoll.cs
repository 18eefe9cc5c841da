using System.Runtime.InteropServices;

namespace Tutti.Host;

/// <summary>One descriptor that is ready.</summary>
/// <param name="Events">For what.</param>
/// <param name="Tag">What it was added with.</param>
public readonly record struct IoReady(IoEvents Events, ulong Tag);

/// <summary>
/// The kernel's list of descriptors that one thread waits for, level-triggered. <see cref="Wait(Span{IoReady}, long)"/> is for one thread at a time, the
/// rest safe from any. Source: epoll(7).
/// </summary>
public sealed unsafe class Epoll : IDisposable
{
    private const int MaxBatch = 64;
    private const long NanosecondsPerSecond = 1_000_000_000;
    private const long NanosecondsPerMillisecond = 1_000_000;
    private static volatile bool s_lacksPwait2;
    private readonly FileDescriptor _epoll = FileDescriptor.Own(LibC.epoll_create1(LibC.EPOLL_CLOEXEC), "epoll_create1");

    /// <summary>Watches a descriptor, which must be removed before it is closed.</summary>
    /// <exception cref="HostException">The kernel can't watch it (a plain file), or has no room.</exception>
    public void Add(SafeHandle handle, IoEvents events, ulong tag) => Control(LibC.EPOLL_CTL_ADD, handle, events, tag);

    /// <summary>Changes what a descriptor is watched for.</summary>
    public void Change(SafeHandle handle, IoEvents events, ulong tag) => Control(LibC.EPOLL_CTL_MOD, handle, events, tag);

    /// <summary>Watches a descriptor no longer.</summary>
    public void Remove(SafeHandle handle) => Control(LibC.EPOLL_CTL_DEL, handle, IoEvents.None, 0);

    /// <summary>Waits until a descriptor is ready.</summary>
    /// <param name="ready">Where those that are go; at most 64 at a time.</param>
    /// <param name="timeoutNanoseconds">How long at most; 0 only looks, -1 is for ever.</param>
    /// <returns>Their number; 0 also when a signal ended the wait.</returns>
    public int Wait(Span<IoReady> ready, long timeoutNanoseconds)
    {
        EpollEvent* events = stackalloc EpollEvent[MaxBatch];
        // SAFETY: the kernel fills at most as many entries as the smaller of the two has.
        int count = Wait(events, Math.Min(ready.Length, MaxBatch), timeoutNanoseconds);
        if (count < 0)
        {
            HostException error = HostException.FromLastError("epoll_wait");
            return error.Errno == LibC.EINTR ? 0 : throw error;
        }

        for (int i = 0; i < count; i++)
        {
            ready[i] = new IoReady((IoEvents)events[i].Events, events[i].Data);
        }

        return count;
    }

    public void Dispose() => _epoll.Dispose();

    private int Wait(EpollEvent* events, int room, long timeout)
    {
        if (timeout > 0 && !s_lacksPwait2)
        {
            TimeSpec time = new() { Seconds = timeout / NanosecondsPerSecond, Nanoseconds = timeout % NanosecondsPerSecond };
            try
            {
                int count = LibC.epoll_pwait2(_epoll.Number, events, room, &time, null);
                if (count >= 0 || Marshal.GetLastPInvokeError() != LibC.ENOSYS)
                {
                    return count;
                }
            }
            catch (EntryPointNotFoundException)
            {
                // An older C library.
            }

            s_lacksPwait2 = true;
        }

        // Rounded up: a timer that ends its wait early would only begin it again.
        long milliseconds = timeout <= 0 ? timeout : Math.Min(int.MaxValue, (timeout + NanosecondsPerMillisecond - 1) / NanosecondsPerMillisecond);
        return LibC.epoll_wait(_epoll.Number, events, room, (int)milliseconds);
    }

    private void Control(int operation, SafeHandle handle, IoEvents events, ulong tag)
    {
        ArgumentNullException.ThrowIfNull(handle);
        bool isHeld = false;
        handle.DangerousAddRef(ref isHeld);
        try
        {
            EpollEvent argument = new() { Events = (uint)events, Data = tag };
            // SAFETY: the kernel reads the local during the call.
            if (LibC.epoll_ctl(_epoll.Number, operation, (int)handle.DangerousGetHandle(), &argument) < 0)
            {
                throw HostException.FromLastError("epoll_ctl");
            }
        }
        finally
        {
            handle.DangerousRelease();
        }
    }
}
