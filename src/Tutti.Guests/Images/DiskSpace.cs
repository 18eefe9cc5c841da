namespace Tutti.Guests;

/// <summary>Recognises a full disk, in .NET's exceptions and in what tools write.</summary>
internal static class DiskSpace
{
    private const int Enospc = 28;
    private const int Edquot = 122;

    public const string Message = "The disk that holds the image cache is full: make room, or set XDG_CACHE_HOME to a folder on another disk.";

    /// <summary>Package lists, apt's index of them, two packages, the kernel's modules and the entry made from them, with room to spare.</summary>
    public const long NeededForPull = 288L << 20;

    /// <summary>Finds a full disk before apt does, which on some of them hangs.</summary>
    /// <exception cref="ImageException">Too little room for a pull.</exception>
    public static void Check(string folder, long needed)
    {
        long free = new DriveInfo(folder).AvailableFreeSpace;
        if (free < needed)
        {
            throw new ImageException($"The disk that holds the image cache has {free >> 20} MiB free and fetching needs {needed >> 20} MiB for a while: make room, or set XDG_CACHE_HOME to a folder on another disk.");
        }
    }

    /// <summary>On Linux .NET puts errno into HResult.</summary>
    public static bool IsFull(IOException error) => (error.HResult & 0xFFFF) is Enospc or Edquot;

    public static bool IsReportedIn(string errors) =>
        errors.Contains("No space left on device", StringComparison.Ordinal)
        || errors.Contains("Disk quota exceeded", StringComparison.Ordinal)
        || errors.Contains("don't have enough free space", StringComparison.Ordinal);
}
