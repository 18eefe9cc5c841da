namespace Tutti.Storage;

/// <summary>How fast a disk may go; 0 is without limit. A burst is what may pass at once after a pause; 0 is a tenth of a second's worth.</summary>
public sealed record DiskLimits
{
    public static DiskLimits None { get; } = new();

    /// <summary>Bytes a second, of reads and writes together.</summary>
    public long BytesPerSecond { get; init; }

    public long BytesBurst { get; init; }

    public long ReadBytesPerSecond { get; init; }

    public long WriteBytesPerSecond { get; init; }

    /// <summary>Requests a second: reads, writes, discards and writes of zeroes.</summary>
    public long OperationsPerSecond { get; init; }

    public long OperationsBurst { get; init; }

    public long ReadOperationsPerSecond { get; init; }

    public long WriteOperationsPerSecond { get; init; }

    public bool IsNone => this == None;
}

/// <summary>
/// A bucket that fills at a rate. A request passes while the bucket is not in debt, whatever the request's size, and is then paid for: requests
/// larger than the burst pass, too, and the rate holds over time.
/// </summary>
internal struct TokenBucket
{
    private const double NanosecondsPerSecond = 1e9;
    private readonly double _perNanosecond;
    private readonly double _burst;
    private double _level;
    private long _filledAt;

    /// <param name="perSecond">The rate; 0 for no limit.</param>
    /// <param name="burst">The most that the bucket holds; 0 for a tenth of a second's worth.</param>
    /// <param name="now">Nanoseconds; the bucket is full then.</param>
    internal TokenBucket(long perSecond, long burst, long now)
    {
        _perNanosecond = perSecond / NanosecondsPerSecond;
        _burst = burst > 0 ? burst : Math.Max(1, perSecond / 10.0);
        _level = _burst;
        _filledAt = now;
    }

    /// <summary>Nanoseconds from now on until a request may pass; 0 when it may.</summary>
    internal long GetDelay(long now)
    {
        if (_perNanosecond == 0)
        {
            return 0;
        }

        Fill(now);
        // Above 0, not from 0 on: a bucket that is just empty has given what it had.
        return _level > 0 ? 0 : Math.Max(1, (long)Math.Ceiling((-_level + double.Epsilon) / _perNanosecond) + 1);
    }

    internal void Pay(long amount)
    {
        if (_perNanosecond != 0)
        {
            _level -= amount;
        }
    }

    private void Fill(long now)
    {
        if (now > _filledAt)
        {
            _level = Math.Min(_burst, _level + ((now - _filledAt) * _perNanosecond));
            _filledAt = now;
        }
    }
}

/// <summary>The buckets of a disk: those of all requests, and those of reads and of writes. Not safe from several threads.</summary>
internal sealed class Throttle
{
    private TokenBucket _bytes;
    private TokenBucket _operations;
    private TokenBucket _readBytes;
    private TokenBucket _readOperations;
    private TokenBucket _writeBytes;
    private TokenBucket _writeOperations;

    internal Throttle(DiskLimits limits, long now)
    {
        _bytes = new TokenBucket(limits.BytesPerSecond, limits.BytesBurst, now);
        _operations = new TokenBucket(limits.OperationsPerSecond, limits.OperationsBurst, now);
        _readBytes = new TokenBucket(limits.ReadBytesPerSecond, limits.BytesBurst, now);
        _readOperations = new TokenBucket(limits.ReadOperationsPerSecond, limits.OperationsBurst, now);
        _writeBytes = new TokenBucket(limits.WriteBytesPerSecond, limits.BytesBurst, now);
        _writeOperations = new TokenBucket(limits.WriteOperationsPerSecond, limits.OperationsBurst, now);
    }

    /// <summary>Nanoseconds until a request of any kind may pass, as far as the common limits go.</summary>
    internal long GetCommonDelay(long now) => Math.Max(_bytes.GetDelay(now), _operations.GetDelay(now));

    /// <summary>Nanoseconds until a read or a write may pass, as far as its own limits go.</summary>
    internal long GetOwnDelay(bool isWrite, long now) => isWrite
        ? Math.Max(_writeBytes.GetDelay(now), _writeOperations.GetDelay(now))
        : Math.Max(_readBytes.GetDelay(now), _readOperations.GetDelay(now));

    internal void Pay(bool isWrite, long bytes)
    {
        _bytes.Pay(bytes);
        _operations.Pay(1);
        if (isWrite)
        {
            _writeBytes.Pay(bytes);
            _writeOperations.Pay(1);
        }
        else
        {
            _readBytes.Pay(bytes);
            _readOperations.Pay(1);
        }
    }
}
