using Tutti.Host;

namespace Tutti.Storage.Files;

/// <summary>
/// Tells the user what the host's storage refuses, while the guest sees no more than failed requests. A guest that goes on and on must not
/// fill a terminal: the same trouble is told once a minute at most. Safe from any thread.
/// </summary>
public sealed class StorageNotices
{
    private const long Interval = 60_000_000_000;
    private readonly Action<string> _sink;
    private readonly Func<long> _clock;
    private readonly Lock _lock = new();
    private readonly Dictionary<(string Path, int Errno), long> _told = [];

    /// <param name="sink">Gets each line; on any thread.</param>
    /// <param name="clock">Nanoseconds; <see cref="HostTime.Nanoseconds"/> when not given.</param>
    public StorageNotices(Action<string> sink, Func<long>? clock = null)
    {
        ArgumentNullException.ThrowIfNull(sink);
        _sink = sink;
        _clock = clock ?? (static () => HostTime.Nanoseconds);
    }

    /// <summary>Notices for nobody.</summary>
    public static StorageNotices None { get; } = new(static _ => { });

    /// <summary>A call on a file has failed.</summary>
    /// <param name="path">The file.</param>
    /// <param name="action">What was done: "reading", "writing".</param>
    /// <param name="errno">The kernel's error number, above 0.</param>
    public void Report(string path, string action, int errno)
    {
        if (IsDue(path, errno))
        {
            _sink(Describe(path, action, errno));
        }
    }

    /// <summary>Something else about a file; told once a minute at most, whatever the text.</summary>
    public void Report(string path, string text)
    {
        if (IsDue(path, 0))
        {
            _sink($"disk '{path}': {text}");
        }
    }

    internal static string Describe(string path, string action, int errno) => errno switch
    {
        Errno.ENOSPC => $"the host's disk is full: the guest's writes to '{path}' fail until there is room",
        Errno.EDQUOT => $"your quota on the host's disk is used up: the guest's writes to '{path}' fail until there is room",
        Errno.EFBIG => $"disk '{path}' may not grow further: the host's file system, or a limit of this process (ulimit -f), forbids it",
        _ => $"{action} disk '{path}' fails: {Errno.Describe(errno)}; the guest sees an error",
    };

    private bool IsDue(string path, int errno)
    {
        lock (_lock)
        {
            long now = _clock();
            if (_told.TryGetValue((path, errno), out long last) && now - last < Interval)
            {
                return false;
            }

            _told[(path, errno)] = now;
            return true;
        }
    }
}
