using Tutti.Machine;

namespace Tutti.Cli;

/// <summary>What the process tells its parent. Documented in <c>tutti --help</c>.</summary>
internal static class ExitStatus
{
    internal const int Success = 0;
    internal const int InternalError = 1;
    internal const int UserError = 2;
    internal const int GuestPanic = 3;
    internal const int TripleFault = 4;
    internal const int GuestReset = 5;

    /// <summary>What timeout(1) gives.</summary>
    internal const int TimedOut = 124;

    internal const int Interrupted = 130;

    internal const string Help =
        """
        Exit status:
          0    the guest switched itself off, or you left it with Ctrl-A x
          1    an error inside Tutti
          2    wrong use, or a file or image that cannot be used; one line says why
          3    the guest's kernel panicked
          4    the guest's processor shut down (triple fault)
          5    the guest reset itself and --no-reboot was given
          124  the time of --timeout was over
          128+n  signal n ended the run: 129 SIGHUP, 130 SIGINT, 131 SIGQUIT, 143 SIGTERM
        """;

    internal static int Of(MachineExitKind kind) => kind switch
    {
        MachineExitKind.PoweredOff or MachineExitKind.Stopped => Success,
        MachineExitKind.GuestPanic => GuestPanic,
        MachineExitKind.TripleFault => TripleFault,
        MachineExitKind.Reset => GuestReset,
        MachineExitKind.TimedOut => TimedOut,
        _ => InternalError,
    };
}
