namespace Tutti.Cpu.Software;

internal enum TaskSwitchCause
{
    Jump,

    /// <summary>CALL, an interrupt or an exception: the new task is nested in the old one.</summary>
    Call,

    Return,
}
