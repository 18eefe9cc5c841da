namespace Tutti.Cpu.Software;

/// <summary>
/// Whether a vCPU's thread is in guest code, where others that want something of it must wait until it has looked, or outside, where
/// they need not.
/// </summary>
internal sealed class GuestPresence
{
    private readonly BusLock _bus;
    private readonly AttentionWord _attention;
    private readonly CodeWatch _code;
    private readonly bool _isShared;
    private int _isInGuest;

    /// <param name="bus">The partition's.</param>
    /// <param name="attention">The vCPU's.</param>
    /// <param name="code">The vCPU's: what others ask of it is done when it comes back.</param>
    /// <param name="isShared">The partition has other vCPUs.</param>
    public GuestPresence(BusLock bus, AttentionWord attention, CodeWatch code, bool isShared)
    {
        _bus = bus;
        _attention = attention;
        _code = code;
        _isShared = isShared;
        code.Presence = this;
    }

    /// <summary>Whether the vCPU's thread is between taking requests from others and the next time it does so.</summary>
    public bool IsInGuest => Volatile.Read(ref _isInGuest) != 0;

    /// <summary>
    /// Before a call out of the engine that may wait for another vCPU or for the user (devices, the local APIC): others that
    /// want this vCPU's write tags need not wait with it. No pointer into guest memory is held over the call.
    /// </summary>
    public void Leave()
    {
        if (_isShared)
        {
            Exit();
        }
    }

    /// <summary>After the call: does first what others have asked for meanwhile.</summary>
    public void Reenter()
    {
        if (_isShared)
        {
            Enter();
            if ((_attention.Value & Attention.CodeWritten) != 0)
            {
                TakeRequests();
            }
        }
    }

    /// <summary>Does what others have asked for.</summary>
    public void TakeRequests() => _code.TakePendingInvalidations(false);

    /// <summary>Another vCPU wants this one out of guest code for a moment. From any thread.</summary>
    public void AskOut() => _attention.Signal(Attention.BusLocked);

    // A full fence, here and below: whoever asks for something first sets an attention bit and then looks here; this side sets the
    // mark first and then looks for attention.
    public void Enter()
    {
        Interlocked.Exchange(ref _isInGuest, 1);
        var spin = default(SpinWait);
        while (!_bus.IsFreeFor(this))
        {
            Interlocked.Exchange(ref _isInGuest, 0);
            spin.SpinOnce(sleep1Threshold: -1);
            Interlocked.Exchange(ref _isInGuest, 1);
        }
    }

    public void Exit() => Interlocked.Exchange(ref _isInGuest, 0);
}
