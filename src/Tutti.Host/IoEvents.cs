namespace Tutti.Host;

/// <summary>What a descriptor is ready for; the numbers are epoll's (epoll_ctl(2)).</summary>
[Flags]
public enum IoEvents
{
    None = 0,
    Readable = 0x1,
    Writable = 0x4,

    /// <summary>Always watched.</summary>
    Error = 0x8,

    /// <summary>Both directions have ended; always watched.</summary>
    HangUp = 0x10,

    /// <summary>The peer has ended its direction.</summary>
    ReadHangUp = 0x2000,

    /// <summary>Told once per change, not for as long as it lasts: who waits must read or write until the kernel has no more.</summary>
    EdgeTriggered = unchecked((int)0x80000000),
}
