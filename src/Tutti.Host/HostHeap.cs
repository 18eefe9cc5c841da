namespace Tutti.Host;

/// <summary>The C library's heap, from which the runtime's compiler and loader take their memory.</summary>
public static class HostHeap
{
    /// <summary>
    /// Gives free pages back to the kernel. The library by itself only shortens a heap at its end, and keeps what a burst of
    /// compilation has left between what lives on. Nothing where the C library has no such call (musl, which keeps little).
    /// </summary>
    public static void Trim()
    {
        try
        {
            _ = LibC.malloc_trim(0);
        }
        catch (EntryPointNotFoundException)
        {
        }
    }
}
