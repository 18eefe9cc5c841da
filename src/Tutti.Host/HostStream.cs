using System.Globalization;
using System.Text;

namespace Tutti.Host;

/// <summary>
/// Plain bytes from or to an inherited file descriptor of any kind (terminal, pipe, file, socket, /dev/null, closed),
/// with waits that another thread can end. The descriptor stays open. A terminal is opened once more, not to block, as far as its owner permits: one that nobody
/// drains polls as writable and then holds a write up that is larger than its room. The descriptor itself is others', too, and keeps its mode.
/// </summary>
public sealed unsafe class HostStream : IDisposable
{
    public const int StandardInput = 0;
    public const int StandardOutput = 1;
    public const int StandardError = 2;

    /// <summary>A write of no more than this to a pipe that polls as writable does not block (PIPE_BUF).</summary>
    private const int MaxWrite = 4096;

    /// <summary>How long a terminal is left alone that has room, but not for the next character.</summary>
    private const long FullNanoseconds = 5_000_000;

    private const int NoDescriptor = -1;

    private readonly int _fd;
    private readonly FileDescriptor? _terminal;
    private readonly FileDescriptor _cancel = FileDescriptor.Own(LibC.eventfd(0, LibC.EFD_CLOEXEC), "eventfd");

    public HostStream(int fd)
    {
        _terminal = TryOpenTerminal(fd);
        _fd = _terminal?.Number ?? fd;
    }

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
        while (WaitFor(_fd, LibC.POLLIN, _cancel.Number))
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
    public bool Write(ReadOnlySpan<byte> bytes) => WriteTo(_fd, bytes, _cancel.Number);

    /// <summary>Writes all bytes however long that takes, and needs no descriptor of its own: a process that has used its descriptors up can still say so.</summary>
    /// <returns>False when the reader is gone, and on an error.</returns>
    public static bool WriteAll(int fd, ReadOnlySpan<byte> bytes) => WriteTo(fd, bytes, NoDescriptor);

    public void Dispose()
    {
        _terminal?.Dispose();
        _cancel.Dispose();
    }

    /// <summary>A descriptor of our own of the terminal behind one; null where it is none, or another user's.</summary>
    private static FileDescriptor? TryOpenTerminal(int fd)
    {
        int number;
        // SAFETY: TIOCGPTN fills an int.
        if (!HostTerminal.IsTerminal(fd) || LibC.ioctl(fd, LibC.TIOCGPTN, &number) == 0)
        {
            // The side of a pseudo-terminal that has a number to tell is the emulator's; to open it again makes another terminal.
            return null;
        }

        // SAFETY: the text ends in a zero and is pinned for the call.
        fixed (byte* path = Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"/proc/self/fd/{fd}\0")))
        {
            int opened = LibC.open(path, LibC.O_RDWR | LibC.O_NONBLOCK | LibC.O_NOCTTY | LibC.O_CLOEXEC);
            return opened < 0 ? null : FileDescriptor.Own(opened, "open");
        }
    }

    private static bool WriteTo(int fd, ReadOnlySpan<byte> bytes, int cancel)
    {
        while (!bytes.IsEmpty)
        {
            if (!WaitFor(fd, LibC.POLLOUT, cancel))
            {
                return false;
            }

            nint count;
            // SAFETY: the pinned span holds as many bytes as are handed over.
            fixed (byte* start = bytes)
            {
                count = LibC.write(fd, start, (nuint)Math.Min(bytes.Length, MaxWrite));
            }

            if (count >= 0)
            {
                bytes = bytes[(int)count..];
            }
            else if (!IsTransient())
            {
                return false;
            }
            else if (!WaitFor(NoDescriptor, 0, cancel, FullNanoseconds))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>False when cancelled or when the descriptor is closed.</summary>
    private static bool WaitFor(int fd, short events, int cancel, long nanoseconds = -1)
    {
        PollFd* fds = stackalloc PollFd[2];
        fds[0] = new PollFd { Fd = fd, Events = events };
        fds[1] = new PollFd { Fd = cancel, Events = LibC.POLLIN };
        TimeSpec limit = new() { Seconds = nanoseconds / 1_000_000_000, Nanoseconds = nanoseconds % 1_000_000_000 };
        // SAFETY: ppoll gets the two entries above, of which it passes those over that are negative, and a local's address or none.
        while (LibC.ppoll(fds, 2, nanoseconds < 0 ? null : &limit, null) < 0)
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
