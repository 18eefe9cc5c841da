namespace Tutti.Host;

/// <summary>
/// Plain bytes from or to an inherited file descriptor of any kind (terminal, pipe, file, socket, /dev/null, closed),
/// with waits that another thread can end. The descriptor stays open.
/// </summary>
public sealed unsafe class HostStream : IDisposable
{
    public const int StandardInput = 0;
    public const int StandardOutput = 1;
    public const int StandardError = 2;

    /// <summary>A write of no more than this to a pipe that polls as writable does not block (PIPE_BUF).</summary>
    private const int MaxWrite = 4096;

    private readonly int _fd;
    private readonly FileDescriptor _cancel = FileDescriptor.Own(LibC.eventfd(0, LibC.EFD_CLOEXEC), "eventfd");

    public HostStream(int fd) => _fd = fd;

    /// <summary>Makes the <see cref="Read"/> or <see cref="Write"/> under way, and all later ones, end without waiting. Safe from any thread.</summary>
    public void Cancel()
    {
        ulong one = 1;
        // SAFETY: an eventfd takes exactly the 8 bytes of the local.
        _ = LibC.write(_cancel.Number, &one, sizeof(ulong));
    }

    /// <summary>Waits for bytes. Returns their number, or 0 at the end, after an error, and after <see cref="Cancel"/>.</summary>
    public int Read(Span<byte> buffer)
    {
        while (WaitFor(LibC.POLLIN))
        {
            nint count;
            // SAFETY: the pinned span has room for as many bytes as asked for.
            fixed (byte* bytes = buffer)
            {
                count = LibC.read(_fd, bytes, (nuint)buffer.Length);
            }

            if (count >= 0 || !IsTransient())
            {
                return (int)Math.Max(count, 0);
            }
        }

        return 0;
    }

    /// <summary>Writes all bytes; false when the reader is gone, on an error, and after <see cref="Cancel"/>.</summary>
    public bool Write(ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            if (!WaitFor(LibC.POLLOUT))
            {
                return false;
            }

            nint count;
            // SAFETY: the pinned span holds as many bytes as are handed over.
            fixed (byte* start = bytes)
            {
                count = LibC.write(_fd, start, (nuint)Math.Min(bytes.Length, MaxWrite));
            }

            if (count >= 0)
            {
                bytes = bytes[(int)count..];
            }
            else if (!IsTransient())
            {
                return false;
            }
        }

        return true;
    }

    public void Dispose() => _cancel.Dispose();

    /// <summary>False when cancelled or when the descriptor is closed.</summary>
    private bool WaitFor(short events)
    {
        PollFd* fds = stackalloc PollFd[2];
        fds[0] = new PollFd { Fd = _fd, Events = events };
        fds[1] = new PollFd { Fd = _cancel.Number, Events = LibC.POLLIN };
        // SAFETY: ppoll gets the two entries above and no timeout.
        while (LibC.ppoll(fds, 2, null, null) < 0)
        {
            if (!IsTransient())
            {
                return false;
            }
        }

        return fds[1].Revents == 0 && (fds[0].Revents & LibC.POLLNVAL) == 0;
    }

    private static bool IsTransient() => HostException.FromLastError("poll").Errno is LibC.EINTR or LibC.EAGAIN;
}
