namespace Tutti.Cpu.Kvm;

/// <summary>How fast a loop of two instructions (DEC, JNZ) ran in ring 0 of a guest, and on the host itself.</summary>
/// <param name="GuestRate">Instructions a second in the guest; where <paramref name="IsTimedOut"/>, at most that many.</param>
/// <param name="NativeRate">Instructions a second on the host.</param>
/// <param name="IsTimedOut">The guest's loop did not end within its time and was broken off.</param>
public sealed record LoopSpeed(double GuestRate, double NativeRate, bool IsTimedOut = false)
{
    /// <summary>
    /// The least share of the native rate that counts as hardware speed. The loop leaves the guest at no time, so that VT-x and
    /// AMD-V reach the whole of it; a busy host may take some away, but emulation costs tens of host instructions for one.
    /// </summary>
    public const double LeastShare = 0.25;

    /// <summary>Whether the processor itself runs ring 0.</summary>
    public bool IsHardware => !IsTimedOut && GuestRate >= NativeRate * LeastShare;
}
