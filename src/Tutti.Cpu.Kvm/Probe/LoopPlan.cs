namespace Tutti.Cpu.Kvm;

/// <summary>
/// Which loops to measure in a guest until it is certain whether they run at hardware speed. Exits from the guest cost time
/// too, on some hosts as much as a million iterations; so short loops come first, and longer ones only while those could
/// still be fast. Knows no host: it is told times and answers lengths.
/// </summary>
/// <param name="nativeNanoseconds">What one iteration takes on the host.</param>
internal sealed class LoopPlan(double nativeNanoseconds)
{
    internal const int InstructionsPerIteration = 2;

    /// <summary>Loops of one iteration: what they take is the cost of an exit. The first one only brings pages and caches in.</summary>
    private const int ExitMeasurements = 4;

    private const uint FirstLength = 256;
    private const uint Growth = 8;

    /// <summary>Times that a loop which seems slow is measured, as the host may be busy with something else: so many, or as many as the time allows.</summary>
    private const int MaxAttempts = 5;

    private const int LeastAttempts = 3;

    /// <summary>Nanoseconds that a loop must take, for a rate that is more than noise.</summary>
    private const long LeastTime = 100_000;

    /// <summary>A time of so many exits can't be told from that of one, on a busy host.</summary>
    private const int ExitNoise = 8;

    /// <summary>Nanoseconds after which there are no further attempts at one loop.</summary>
    private const long AttemptsBudget = 5_000_000;

    /// <summary>Nanoseconds for everything: where exits are so dear, the last rate counts.</summary>
    private const long Budget = 300_000_000;

    private long _exitCost = long.MaxValue;
    private long _best = long.MaxValue;
    private long _total;
    private long _attemptsTotal;
    private int _measurements;
    private int _attempts;

    /// <summary>Iterations of the loop to measure next; 0 when all is known.</summary>
    internal uint Length { get; private set; } = 1;

    /// <summary>Guest instructions a second, by the last loop.</summary>
    internal double GuestRate { get; private set; }

    internal bool IsGivenUp { get; private set; }

    /// <summary>Ends the plan with a loop that was broken off after so many nanoseconds.</summary>
    internal void GiveUp(long nanoseconds)
    {
        GuestRate = Length * (InstructionsPerIteration * 1e9) / Math.Max(nanoseconds, 1);
        IsGivenUp = true;
        Length = 0;
    }

    /// <summary>Takes what the loop took, in nanoseconds, with the exit at its end.</summary>
    internal void Record(long nanoseconds)
    {
        _total += nanoseconds;
        if (_measurements++ < ExitMeasurements)
        {
            _exitCost = _measurements == 1 ? long.MaxValue : Math.Min(_exitCost, nanoseconds);
            Length = _measurements < ExitMeasurements ? 1 : FirstLength;
            return;
        }

        _best = Math.Min(_best, nanoseconds);
        _attempts++;
        _attemptsTotal += nanoseconds;
        double loop = Math.Max(_best - _exitCost, 1);
        double allowed = Length * nativeNanoseconds / LoopSpeed.LeastShare;
        GuestRate = Length * (InstructionsPerIteration * 1e9) / loop;
        if (loop > allowed + (ExitNoise * (double)_exitCost))
        {
            if (_attempts == MaxAttempts || (_attempts >= LeastAttempts && _attemptsTotal > AttemptsBudget))
            {
                Length = 0;
            }

            return;
        }

        bool isCertain = loop <= allowed && _best >= Math.Max(LeastTime, _exitCost * 4);
        if (isCertain || _total > Budget || Length > uint.MaxValue / Growth)
        {
            Length = 0;
            return;
        }

        Length *= Growth;
        _best = long.MaxValue;
        _attempts = 0;
        _attemptsTotal = 0;
    }
}
