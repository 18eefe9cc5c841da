using System.Runtime.InteropServices;

namespace Tutti.Host;

/// <summary>
/// Turns SIGTERM, SIGINT, SIGHUP and SIGQUIT into a request to end. The second one ends the process at once, through
/// <see cref="AppDomain.ProcessExit"/>, so that a terminal is still restored.
/// </summary>
public sealed class TerminationSignals : IDisposable
{
    private readonly PosixSignalRegistration[] _registrations;
    private readonly Action<int> _onRequested;
    private int _count;

    /// <param name="onRequested">Gets the first signal's number, on a thread of the pool.</param>
    public TerminationSignals(Action<int> onRequested)
    {
        _onRequested = onRequested;
        _registrations =
        [
            PosixSignalRegistration.Create(PosixSignal.SIGHUP, context => OnSignal(context, 1)),
            PosixSignalRegistration.Create(PosixSignal.SIGINT, context => OnSignal(context, 2)),
            PosixSignalRegistration.Create(PosixSignal.SIGQUIT, context => OnSignal(context, 3)),
            PosixSignalRegistration.Create(PosixSignal.SIGTERM, context => OnSignal(context, 15)),
        ];
    }

    /// <summary>The exit status that shells give to a process that a signal ended.</summary>
    public static int ExitStatus(int signal) => 128 + signal;

    public void Dispose() => Array.ForEach(_registrations, r => r.Dispose());

    private void OnSignal(PosixSignalContext context, int signal)
    {
        context.Cancel = true;
        if (Interlocked.Increment(ref _count) == 1)
        {
            _onRequested(signal);
        }
        else
        {
            Environment.Exit(ExitStatus(signal));
        }
    }
}
