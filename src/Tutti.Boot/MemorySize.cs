namespace Tutti.Boot;

/// <summary>Memory sizes in messages.</summary>
internal static class MemorySize
{
    private const ulong MiB = 1 << 20;

    public static string Format(ulong bytes) => bytes < MiB ? $"{bytes} bytes" : $"{RoundUp(bytes)} MiB";

    /// <summary>The remedy for too little memory, with the size in the form that the command line takes.</summary>
    public static string AtLeast(ulong bytes) => $"give the machine at least {RoundUp(bytes)} MiB (--memory {RoundUp(bytes)}M)";

    private static ulong RoundUp(ulong bytes) => (bytes / MiB) + (bytes % MiB == 0 ? 0UL : 1UL);
}
