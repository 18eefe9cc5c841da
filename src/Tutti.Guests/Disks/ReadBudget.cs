using System.Diagnostics;
using System.Globalization;

namespace Tutti.Guests.Disks;

/// <summary>
/// What the host spends at most on one look at a disk that is not its own, whatever that disk says: bytes that it reads, memory that it takes, and time.
/// All who read such a disk charge it, before they read or allocate. It only ever gets less; once it is spent, every charge fails. For one thread.
/// </summary>
public sealed class ReadBudget
{
    /// <summary>Bytes for what is needed to find files: tables, names, a journal's places, text.</summary>
    internal const long Memory = 64L << 20;

    /// <summary>Bytes that may be read beside the files that are kept.</summary>
    internal const long Reads = 256L << 20;

    /// <summary>What a read costs at least: small ones cost a request each.</summary>
    private const int LeastRead = 4096;

    /// <summary>A limit of the disk's (<c>bps=</c>) counts in: 60 MB are read at 1 MB a second and faster.</summary>
    internal static readonly TimeSpan Time = TimeSpan.FromMinutes(2);

    private readonly CancellationToken _cancellation;
    private readonly long _filesAtFirst;
    private readonly long _start;
    private readonly TimeSpan _time;
    private long _reads;
    private long _memory = Memory;
    private long _files;

    /// <param name="files">Bytes of files that may be kept, kernel and RAM disks together: what the guest's memory has room for.</param>
    /// <param name="cancellation">Ends the look, as the user or <c>--timeout</c> asks for it.</param>
    public ReadBudget(long files, CancellationToken cancellation = default)
        : this(files, Time, cancellation)
    {
    }

    internal ReadBudget(long files, TimeSpan time, CancellationToken cancellation = default)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(files);
        _filesAtFirst = _files = files;
        _reads = files + Reads;
        _time = time;
        _cancellation = cancellation;
        _start = Stopwatch.GetTimestamp();
    }

    /// <summary>Bytes that files which are kept may still have.</summary>
    public long FilesLeft => _files;

    /// <summary>Ends waiting for the disk.</summary>
    internal CancellationToken Cancellation => _cancellation;

    /// <summary>Charges nothing but the time; for loops over what has been read already.</summary>
    /// <exception cref="ReadBudgetException">The time is over.</exception>
    /// <exception cref="OperationCanceledException">The look was cancelled.</exception>
    public void Check()
    {
        _cancellation.ThrowIfCancellationRequested();
        if (Stopwatch.GetElapsedTime(_start) > _time)
        {
            throw new ReadBudgetException(string.Create(CultureInfo.InvariantCulture, $"to find its kernel took longer than {_time.TotalSeconds:0.###} s"));
        }
    }

    /// <summary>Charges a read.</summary>
    /// <exception cref="ReadBudgetException">More has been read than a sound disk needs, or the time is over.</exception>
    /// <exception cref="OperationCanceledException">The look was cancelled.</exception>
    public void Read(long bytes)
    {
        Check();
        bytes = Math.Max(bytes, LeastRead);
        _reads = bytes <= _reads ? _reads - bytes : throw new ReadBudgetException($"to find its kernel takes more than {Text(_filesAtFirst + Reads)} of reads");
    }

    /// <summary>Charges memory for what the disk says, but for files that are kept.</summary>
    /// <exception cref="ReadBudgetException">A sound disk needs less.</exception>
    public void Take(long bytes) =>
        _memory = bytes >= 0 && bytes <= _memory ? _memory - bytes : throw new ReadBudgetException($"to find its kernel takes more than {Text(Memory)} of the host's memory");

    /// <summary>Charges the memory of a file that is kept.</summary>
    /// <param name="name">The file, for people.</param>
    /// <param name="bytes">Its length.</param>
    /// <exception cref="ImageException">Together they have no room in the guest.</exception>
    public void TakeFile(string name, long bytes) =>
        _files = bytes >= 0 && bytes <= _files ? _files - bytes : throw new ImageException($"{name} on the disk, of {Text(bytes)}, does not fit into the guest's memory; give more with --memory.");

    private static string Text(long bytes) =>
        string.Create(CultureInfo.InvariantCulture, $"{(bytes + (1 << 20) - 1) >> 20} MiB");
}

/// <summary>A disk asks the host for more than its <see cref="ReadBudget"/>. Who looks elsewhere on the same disk would only meet this again.</summary>
/// <param name="what">Behind "Reading the disk".</param>
public sealed class ReadBudgetException(string what) : ImageException($"Reading the disk {what}, as no sound disk does: {DiskKernel.Instead}.");
