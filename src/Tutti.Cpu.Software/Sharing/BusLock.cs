namespace Tutti.Cpu.Software;

/// <summary>
/// What LOCK# does for an operand that crosses a page: its two parts lie apart in host memory, where no instruction of the
/// host changes both as one. One vCPU has the bus; while it does, no other one is in guest code.
/// </summary>
internal sealed class BusLock
{
    /// <summary>The vCPU that has the bus, or wants it next.</summary>
    private GuestPresence? _owner;

    /// <summary>The vCPUs of the partition; set once before any of them runs.</summary>
    public GuestPresence[] Processors { get; set; } = [];

    /// <summary>Whether a vCPU may go into guest code.</summary>
    public bool IsFreeFor(GuestPresence processor)
    {
        GuestPresence? owner = Volatile.Read(ref _owner);
        return owner == null || owner == processor;
    }

    /// <summary>Waits until the vCPU is alone in guest code. The caller holds no pointer into guest memory.</summary>
    public void Take(GuestPresence processor)
    {
        if (Processors.Length < 2)
        {
            return;
        }

        while (Interlocked.CompareExchange(ref _owner, processor, null) != null)
        {
            // Out of guest code and in again: the owner waits for that, and going in waits for the owner.
            processor.Leave();
            processor.Reenter();
        }

        foreach (GuestPresence other in Processors)
        {
            if (other == processor || !other.IsInGuest)
            {
                continue;
            }

            other.AskOut();
            var spin = default(SpinWait);
            while (other.IsInGuest)
            {
                // It may itself be waiting for this one's write tags.
                processor.TakeRequests();
                spin.SpinOnce(sleep1Threshold: -1);
            }
        }
    }

    /// <summary>Lets the others go on; nothing happens where the vCPU does not have the bus.</summary>
    public void Release(GuestPresence processor)
    {
        if (_owner == processor)
        {
            Volatile.Write(ref _owner, null);
        }
    }
}
