namespace Tutti.Host;

/// <summary>
/// Breaks the system call off in which a thread waits: the call returns with EINTR. Done by a signal whose handler does
/// nothing; it is machine code of our own, since the runtime's threads can't run managed code at any moment.
/// </summary>
public static unsafe class ThreadInterruption
{
    /// <summary>A real-time signal away from the lowest ones, which C libraries and the .NET runtime use.</summary>
    private const int Signal = 44;

    private static readonly Lock InstallLock = new();
    private static ExecutableMapping? _handler;

    [ThreadStatic]
    private static int _currentThread;

    /// <summary>The kernel's number of the calling thread, above 0.</summary>
    public static int CurrentThread => _currentThread != 0 ? _currentThread : _currentThread = LibC.gettid();

    /// <summary>Installs the handler; before it, <see cref="Interrupt"/> would end the process. Later calls do nothing.</summary>
    /// <exception cref="HostException">The host refuses, or forbids executable memory.</exception>
    public static void Prepare()
    {
        lock (InstallLock)
        {
            if (_handler != null)
            {
                return;
            }

            ExecutableMapping handler = new(1);
            // SAFETY: the mapping is a page; the bytes are ENDBR64 and RET, a function that returns at once.
            ((ReadOnlySpan<byte>)[0xF3, 0x0F, 0x1E, 0xFA, 0xC3]).CopyTo(new Span<byte>((void*)handler.WriteAddress, 5));
            SigAction action = new() { Handler = handler.ExecuteAddress, Flags = LibC.SA_RESTART };
            // SAFETY: the struct has the C library's layout (tested), and the handler is never unmapped.
            if (LibC.sigaction(Signal, &action, null) != 0)
            {
                HostException error = HostException.FromLastError("sigaction");
                handler.Dispose();
                throw error;
            }

            _handler = handler;
        }
    }

    /// <summary>Interrupts a thread of this process; nothing happens when it has ended, or is in no call that can be interrupted.</summary>
    /// <param name="thread">What <see cref="CurrentThread"/> was there.</param>
    public static void Interrupt(int thread)
    {
        if (_handler == null)
        {
            throw new InvalidOperationException("The signal has no handler yet.");
        }

        _ = LibC.tgkill(LibC.getpid(), thread, Signal);
    }
}
