using System.Runtime.InteropServices;

namespace Tutti.Host;

/// <summary>The host kernel's cryptographic random numbers, without a library that would come into memory with its own generator.</summary>
public static unsafe class HostRandom
{
    /// <exception cref="HostException">The kernel refuses.</exception>
    public static ulong Next()
    {
        ulong value;
        nint count;
        do
        {
            // SAFETY: exactly the bytes of the local. The kernel gives up to 256 bytes in one piece.
            count = LibC.getrandom(&value, sizeof(ulong), 0);
        }
        while (count < 0 && Marshal.GetLastPInvokeError() == LibC.EINTR);
        return count == sizeof(ulong) ? value : throw HostException.FromLastError("getrandom");
    }

    /// <summary>Fills a buffer with random bytes; others may change it meanwhile.</summary>
    /// <exception cref="HostException">The kernel refuses.</exception>
    public static void Fill(Span<byte> buffer)
    {
        while (!buffer.IsEmpty)
        {
            nint count;
            fixed (byte* start = buffer)
            {
                // SAFETY: the buffer is fixed during the call, which writes no more than its length.
                count = LibC.getrandom(start, (nuint)buffer.Length, 0);
            }

            if (count > 0)
            {
                buffer = buffer[(int)count..];
            }
            else if (count == 0 || Marshal.GetLastPInvokeError() != LibC.EINTR)
            {
                throw HostException.FromLastError("getrandom");
            }
        }
    }
}
