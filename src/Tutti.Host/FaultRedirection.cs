namespace Tutti.Host;

/// <summary>
/// SIGSEGV and SIGBUS for machine code of our own, which may fault where it reaches memory: a handler, machine code as well, sends the thread on. What
/// is not its own it hands to the handler that was there before, the runtime's. (Linux sends SIGBUS for a stack fault: an address that is not
/// canonical, with RSP or RBP as its base.)
/// </summary>
public static unsafe class FaultRedirection
{
    private static readonly Lock InstallLock = new();
    private static bool _isInstalled;

    /// <summary>Installs the handlers, once; later calls do nothing.</summary>
    /// <param name="emit">Given the address of the handler before it, makes a new one, with the C signature of SA_SIGINFO; it must stay for good.</param>
    /// <exception cref="HostException">The host refuses.</exception>
    public static void Install(Func<nint, nint> emit)
    {
        ArgumentNullException.ThrowIfNull(emit);
        lock (InstallLock)
        {
            if (!_isInstalled)
            {
                Install(LibC.SIGSEGV, emit);
                Install(LibC.SIGBUS, emit);
                _isInstalled = true;
            }
        }
    }

    private static void Install(int signal, Func<nint, nint> emit)
    {
        SigAction action;

        // SAFETY: the struct has the C library's layout (tested).
        if (LibC.sigaction(signal, null, &action) != 0)
        {
            throw HostException.FromLastError("sigaction");
        }

        action.Handler = emit(action.Handler);
        if (LibC.sigaction(signal, &action, null) != 0)
        {
            throw HostException.FromLastError("sigaction");
        }
    }
}
