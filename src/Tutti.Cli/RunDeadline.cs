using Tutti.Host;

namespace Tutti.Cli;

/// <summary>
/// When the time of <c>--timeout</c> is over. It counts from the program's start: fetching an image, waiting for another tutti, looking for a kernel on
/// a disk and the guest's run are all in it.
/// </summary>
internal sealed class RunDeadline : IDisposable
{
    internal const string Message = "the time of --timeout is over";

    /// <summary>How long what was told of the end may take to stop, before the process ends without it.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(3);

    private readonly long _end = long.MaxValue;
    private readonly CancellationTokenSource _over = new();
    private readonly Timer? _timer;
    private readonly Timer? _lastResort;

    /// <param name="timeout">From the program's start on; null for ever.</param>
    internal RunDeadline(TimeSpan? timeout)
    {
        if (timeout is not { } time)
        {
            return;
        }

        double nanoseconds = time.TotalMilliseconds * 1e6;
        _end = nanoseconds < long.MaxValue / 2 ? ProcessStart + (long)nanoseconds : long.MaxValue / 2;
        _timer = new Timer(_ => _over.Cancel(), null, Milliseconds(TimeSpan.Zero), Timeout.Infinite);
        _lastResort = new Timer(_ => GiveUp(), null, Milliseconds(Patience), Timeout.Infinite);
    }

    /// <summary>When the program began, in <see cref="HostTime.Nanoseconds"/>.</summary>
    internal static long ProcessStart { get; } = HostTime.Nanoseconds;

    /// <summary>Cancelled when the time is over.</summary>
    internal CancellationToken Token => _over.Token;

    /// <summary>What is left; null for ever.</summary>
    internal TimeSpan? Left => _timer == null ? null : TimeSpan.FromMilliseconds(Math.Max(0, _end - HostTime.Nanoseconds) / 1e6);

    /// <summary>From now on the machine keeps the time itself, and whatever ends with it has the time that it needs.</summary>
    internal void LeaveToMachine() => _lastResort?.Change(Timeout.Infinite, Timeout.Infinite);

    public void Dispose()
    {
        _timer?.Dispose();
        _lastResort?.Dispose();
        _over.Dispose();
    }

    private long Milliseconds(TimeSpan more) =>
        // A timer takes 49 days at most: longer ones nobody waits for.
        (long)Math.Min((Math.Max(0, _end - HostTime.Nanoseconds) / 1e6) + more.TotalMilliseconds + 1, uint.MaxValue - 1);

    /// <summary>Something waits that cannot be told to stop: a pipe that nobody writes to, storage that does not answer.</summary>
    private static void GiveUp()
    {
        Notices.Write(Message);
        Environment.Exit(ExitStatus.TimedOut);
    }
}
