namespace Tutti.Host;

/// <summary>
/// Keeps the calling thread on the processor that it runs on. For a thread that takes turns with another process: on one processor each turn is a switch,
/// on two it wakes a processor that sleeps, which takes several times as long on virtual hosts.
/// </summary>
public static unsafe class ThreadPlace
{
    /// <summary>Bytes of <c>cpu_set_t</c>.</summary>
    private const int MaskSize = 128;

    /// <summary>Stays here; gives the processor's number, or -1 where the host does not tell or allow it.</summary>
    /// <param name="allowed">Takes the processors that the thread may run on.</param>
    public static int Stay(Span<byte> allowed)
    {
        // SAFETY: both masks have the size that the kernel is told.
        byte* mask = stackalloc byte[MaskSize];
        int processor = LibC.sched_getcpu();
        if (processor is < 0 or >= 8 * MaskSize || allowed.Length != MaskSize)
        {
            return -1;
        }

        fixed (byte* before = allowed)
        {
            allowed.Clear();
            if (LibC.sched_getaffinity(0, MaskSize, before) < 0)
            {
                return -1;
            }
        }

        new Span<byte>(mask, MaskSize).Clear();
        mask[processor >> 3] = (byte)(1 << (processor & 7));
        return LibC.sched_setaffinity(0, MaskSize, mask) == 0 ? processor : -1;
    }

    /// <summary>May run where it might before.</summary>
    public static void Leave(ReadOnlySpan<byte> allowed)
    {
        fixed (byte* mask = allowed)
        {
            _ = LibC.sched_setaffinity(0, (nuint)allowed.Length, mask);
        }
    }

    /// <summary>A mask's bytes.</summary>
    public static byte[] CreateMask() => new byte[MaskSize];
}
