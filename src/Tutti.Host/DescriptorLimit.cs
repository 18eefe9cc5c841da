namespace Tutti.Host;

/// <summary>How many descriptors the process may have open (RLIMIT_NOFILE). Source: getrlimit(2).</summary>
public static unsafe class DescriptorLimit
{
    /// <summary>Raises the limit as far as the process may, and gives what holds then.</summary>
    public static long Raise()
    {
        ResourceLimit limit;
        // SAFETY: the kernel fills and reads the local during the calls.
        if (LibC.getrlimit(LibC.RLIMIT_NOFILE, &limit) < 0)
        {
            return 1024;
        }

        ulong before = limit.Current;
        limit.Current = limit.Maximum;
        ulong now = LibC.setrlimit(LibC.RLIMIT_NOFILE, &limit) == 0 ? limit.Maximum : before;
        return (long)Math.Min(now, int.MaxValue);
    }
}
