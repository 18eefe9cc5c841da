namespace Tutti.Guests;

/// <summary>Lets one process at a time change the cache. The kernel gives the lock back when its holder ends, however it ends.</summary>
internal sealed class CacheLock : IDisposable
{
    private const int Ewouldblock = 11;
    private readonly FileStream _file;

    private CacheLock(FileStream file) => _file = file;

    /// <summary>Waits for the lock.</summary>
    /// <param name="folder">The cache folder; must exist.</param>
    /// <param name="onWait">Called once when somebody else has it.</param>
    public static async Task<CacheLock> TakeAsync(string folder, Action onWait, CancellationToken cancellationToken)
    {
        for (bool first = true; ; first = false)
        {
            if (TryTake(folder) is CacheLock taken)
            {
                return taken;
            }

            if (first)
            {
                onWait();
            }

            await Task.Delay(100, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Takes the lock if nobody has it.</summary>
    public static CacheLock? TryTake(string folder)
    {
        try
        {
            return new CacheLock(new FileStream(Path.Combine(folder, "lock"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None));
        }
        catch (IOException error) when ((error.HResult & 0xFFFF) == Ewouldblock)
        {
            return null;
        }
    }

    public void Dispose() => _file.Dispose();
}
