namespace Tutti.Cpu.Software;

/// <summary>What an access wants; the rights are those of the current privilege level unless it is a system access.</summary>
[Flags]
public enum Access
{
    Read = 0,
    Write = 1,
    Fetch = 2,

    /// <summary>The processor's own access to a descriptor table or TSS: supervisor rights at any CPL.</summary>
    System = 4,

    /// <summary>Only checks rights (and sets accessed and dirty bits as the access would); moves no data.</summary>
    Probe = 8,
}
