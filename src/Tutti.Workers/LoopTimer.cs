namespace Tutti.Workers;

/// <summary>A one-shot timer of an <see cref="EventLoop"/>; for the loop's thread only.</summary>
public sealed class LoopTimer
{
    private readonly EventLoop _loop;

    internal LoopTimer(EventLoop loop, Action onExpired)
    {
        _loop = loop;
        OnExpired = onExpired;
    }

    internal Action OnExpired { get; }

    internal long Deadline { get; private set; }

    public bool IsArmed { get; private set; }

    /// <summary>Lets it expire at this time of <see cref="Host.HostTime.Nanoseconds"/>, or at once when that is past; replaces an earlier deadline.</summary>
    public void Arm(long deadlineNanoseconds)
    {
        Deadline = deadlineNanoseconds;
        if (!IsArmed)
        {
            IsArmed = true;
            _loop.Enlist(this);
        }
    }

    /// <summary>Takes the deadline back.</summary>
    public void Cancel()
    {
        if (IsArmed)
        {
            IsArmed = false;
            _loop.Unlist(this);
        }
    }
}
