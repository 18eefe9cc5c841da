namespace Tutti.Engines.Compare.Guests;

/// <summary>Mode that a guest begins in.</summary>
internal enum GuestMode
{
    /// <summary>Real mode at 0000:8000 with the vector table at 0.</summary>
    Real,

    /// <summary>32-bit code at level 0 without paging.</summary>
    Protected,

    /// <summary>16-bit code at level 0 in protected mode.</summary>
    Protected16,

    /// <summary>64-bit code at level 0.</summary>
    Long,

    /// <summary>64-bit code at level 3, with interrupts on and IOPL 0.</summary>
    User,

    /// <summary>32-bit code at level 3 without paging, IOPL 3.</summary>
    ProtectedUser,
}

/// <summary>A small guest with a name.</summary>
/// <param name="Name">What it shows.</param>
/// <param name="Mode">The mode it begins in.</param>
/// <param name="Build">Puts its code, tables and registers in place.</param>
/// <param name="UndefinedFlags">RFLAGS bits that the manuals leave undefined at its end.</param>
internal sealed record NamedGuest(string Name, GuestMode Mode, Action<GuestBuilder> Build, ulong UndefinedFlags = 0)
{
    /// <summary>Every guest.</summary>
    public static IReadOnlyList<NamedGuest> All { get; } =
    [
        .. RealModeGuests.All, .. ProtectedModeGuests.All, .. LongModeGuests.All, .. UserModeGuests.All, .. FaultGuests.All,
        .. PagingGuests.All, .. TransferGuests.All, .. DeviceGuests.All, .. NumericGuests.All,
    ];
}
