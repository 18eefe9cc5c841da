namespace Tutti.Host;

/// <summary>
/// A range of addresses, unreadable at first and with <see cref="Guard"/> bytes of nothing on both sides, into which pages of a
/// <see cref="HostMapping"/>'s file are mapped one by one.
/// </summary>
public sealed class AddressWindow : IDisposable
{
    /// <summary>Unreadable bytes before and behind the window.</summary>
    public const long Guard = 64L << 30;

    private const int NoMemory = LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS | LibC.MAP_NORESERVE;
    private readonly MappedRange _range;

    /// <param name="length">Bytes, whole pages, at most 2^46.</param>
    /// <exception cref="HostException">The host has no such range left.</exception>
    public AddressWindow(long length)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, 1L << 46);
        Length = length;
        _range = MappedRange.Map((nuint)(length + (2 * Guard)), LibC.PROT_NONE, NoMemory);
    }

    /// <summary>The first byte behind the guard; a multiple of the page size.</summary>
    public nint Address => (nint)(_range.Address + Guard);

    public long Length { get; }

    /// <summary>Shows a part of a file; false where the host refuses, and what was shown there may be gone.</summary>
    /// <param name="offset">Where in the window, whole pages.</param>
    /// <param name="file">Its descriptor.</param>
    /// <param name="fileOffset">Where in the file, whole pages.</param>
    public bool TryMap(long offset, long length, int file, long fileOffset, bool write)
    {
        Check(offset, length);
        int protection = LibC.PROT_READ | (write ? LibC.PROT_WRITE : 0);
        int flags = LibC.MAP_SHARED | LibC.MAP_FIXED | LibC.MAP_POPULATE;
        return LibC.mmap(Address + (nint)offset, (nuint)length, protection, flags, file, fileOffset) != LibC.MAP_FAILED;
    }

    /// <summary>Lets pages be read only; false where the host refuses.</summary>
    public bool TryProtect(long offset, long length)
    {
        Check(offset, length);
        return LibC.mprotect(Address + (nint)offset, (nuint)length, LibC.PROT_READ) == 0;
    }

    /// <summary>Makes pages unreadable; false where the host refuses, which it never does for the whole window.</summary>
    public bool TryClear(long offset, long length)
    {
        Check(offset, length);
        return LibC.mmap(Address + (nint)offset, (nuint)length, LibC.PROT_NONE, NoMemory | LibC.MAP_FIXED, -1, 0) != LibC.MAP_FAILED;
    }

    /// <summary>Gives the addresses back; nobody may use them any more.</summary>
    public void Dispose() => _range.Dispose();

    private void Check(long offset, long length)
    {
        // The addresses behind the window are somebody else's.
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset, Length - length);
    }
}
