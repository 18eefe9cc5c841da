namespace Tutti.Machine;

/// <summary>Why a machine is no longer running.</summary>
public enum MachineExitKind
{
    /// <summary>The guest switched the power off.</summary>
    PoweredOff,

    /// <summary>The guest asked for a reset and the machine was made not to reset.</summary>
    Reset,

    /// <summary>A fault while delivering a double fault.</summary>
    TripleFault,

    /// <summary>The guest's kernel said that it panicked.</summary>
    GuestPanic,

    /// <summary>The time given to the run is over.</summary>
    TimedOut,

    /// <summary>Somebody called <see cref="VirtualMachine.Stop"/>.</summary>
    Stopped,

    /// <summary>The engine, or the machine around it, cannot go on.</summary>
    InternalError,
}

/// <summary>The end of a machine's run.</summary>
/// <param name="Kind">What ended it.</param>
/// <param name="Message">One line for people; null when the kind says all.</param>
/// <param name="Registers">The processor's state in several lines of text, for triple faults and internal errors.</param>
/// <param name="PanicSeen">Whether the guest's console showed a kernel panic at any time.</param>
public sealed record MachineExit(
    MachineExitKind Kind, string? Message = null, string? Registers = null, bool PanicSeen = false)
{
    /// <summary>Whether the guest ended the run, by its own will or not, so that all of its last output counts.</summary>
    public bool IsByGuest => Kind is MachineExitKind.PoweredOff or MachineExitKind.GuestPanic or MachineExitKind.Reset;
}
