using Tutti.Host;

namespace Tutti.Cpu.Kvm;

/// <summary>The loop of the speed test on the host's processor, with nothing between.</summary>
internal static unsafe class NativeLoop
{
    private const int Repeats = 3;
    private const ulong Length = 100_000;

    /// <summary>ENDBR64; MOV RAX, RDI; a NOP of 9 bytes, which puts the loop on a 16-byte boundary as in the guest; DEC RAX; JNZ; RET.</summary>
    private static ReadOnlySpan<byte> Code =>
    [
        0xF3, 0x0F, 0x1E, 0xFA, 0x48, 0x89, 0xF8, 0x66, 0x0F, 0x1F, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x48, 0xFF, 0xC8, 0x75, 0xFB, 0xC3,
    ];

    /// <summary>Nanoseconds that one iteration takes: the best of several, since others use the host too.</summary>
    /// <exception cref="HostException">The host forbids executable memory.</exception>
    internal static double MeasureIteration()
    {
        using ExecutableMapping mapping = new(Code.Length);
        // SAFETY: the mapping is at least a page, and nobody else knows it.
        Code.CopyTo(new Span<byte>((void*)mapping.WriteAddress, Code.Length));
        // SAFETY: the bytes are a function of one argument that keeps to the C calling convention, uses RAX alone and ends.
        var loop = (delegate* unmanaged<ulong, void>)mapping.ExecuteAddress;
        loop(Length / 10);
        long best = long.MaxValue;
        for (int i = 0; i < Repeats; i++)
        {
            long start = HostTime.Nanoseconds;
            loop(Length);
            best = Math.Min(best, HostTime.Nanoseconds - start);
        }

        return Math.Max(best, 1) / (double)Length;
    }
}
