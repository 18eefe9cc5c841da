namespace Tutti.Host;

/// <summary>
/// Zeroed private memory at a fixed place, of which the host spends only what is touched.
/// Addresses on both sides of it are unreadable, so that a stray access ends the process instead of damaging it.
/// </summary>
public sealed class HostMapping : IDisposable
{
    private const long HugePageSize = 2 << 20;
    private readonly MappedRange _range;
    private readonly FileDescriptor? _file;

    /// <param name="length">Bytes, above 0; rounded up to whole pages.</param>
    /// <param name="hugePages">Whether to ask for transparent huge pages; a host without them gives small ones.</param>
    /// <param name="dump">Whether core dumps hold the bytes.</param>
    /// <param name="shared">Whether the bytes are a file's without a name, so that an <see cref="AddressWindow"/> can show them once more.</param>
    /// <exception cref="HostException">The host has no room for the mapping.</exception>
    public HostMapping(long length, bool hugePages = false, bool dump = false, bool shared = false)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, 1L << 46);
        Length = (length + Environment.SystemPageSize - 1) & -Environment.SystemPageSize;
        // One huge page goes for the alignment and the gap in front, one is the gap behind.
        long reserved = Length + (3 * HugePageSize);
        _range = MappedRange.Map(
            (nuint)reserved, LibC.PROT_NONE, LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS | LibC.MAP_NORESERVE);
        Address = (nint)((_range.Address + (2 * HugePageSize) - 1) & -HugePageSize);
        try
        {
            if (shared)
            {
                _file = SharedFile.Create("tutti-ram\0"u8, Length);
                SharedFile.MapOver(Address, Length, _file, 0, LibC.PROT_READ | LibC.PROT_WRITE, LibC.MAP_SHARED);
            }
            else if (LibC.mprotect(Address, (nuint)Length, LibC.PROT_READ | LibC.PROT_WRITE) != 0)
            {
                throw HostException.FromLastError("mprotect");
            }
        }
        catch
        {
            _file?.Dispose();
            _range.Dispose();
            throw;
        }

        // Both are wishes: a kernel built without them refuses, and the memory is as good.
        if (hugePages)
        {
            _ = LibC.madvise(Address, (nuint)Length, LibC.MADV_HUGEPAGE);
        }

        if (!dump)
        {
            _ = LibC.madvise(Address, (nuint)Length, LibC.MADV_DONTDUMP);
        }
    }

    /// <summary>First byte; a multiple of 2 MiB. Dangling after <see cref="Dispose"/>.</summary>
    public nint Address { get; }

    /// <summary>Bytes that can be read and written.</summary>
    public long Length { get; }

    /// <summary>What the bytes are read and written in; null where they are private. Its bytes begin with the one at <see cref="Address"/>.</summary>
    public FileDescriptor? File => _file;

    private int Forget => _file == null ? LibC.MADV_DONTNEED : LibC.MADV_REMOVE;

    /// <summary>Makes all bytes zero again and gives the host its pages back.</summary>
    /// <exception cref="HostException">The kernel refuses.</exception>
    public void Zero()
    {
        if (LibC.madvise(Address, (nuint)Length, Forget) != 0)
        {
            throw HostException.FromLastError("madvise");
        }
    }

    /// <summary>Asks the host for a huge page for bytes of a file that have not been used; false where it has none to give.</summary>
    /// <param name="offset">A multiple of 2 MiB.</param>
    public bool TryUseHugePage(long offset)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset, Length - HugePageSize);
        return SharedFile.TryUseHugePage(Address + (nint)offset);
    }

    /// <summary>Gives the host its pages back. The bytes are zero then, or unchanged where the host keeps them (locked memory).</summary>
    public void Release() => _ = LibC.madvise(Address, (nuint)Length, Forget);

    /// <summary>Gives the memory back; nobody may use <see cref="Address"/> any more.</summary>
    public void Dispose()
    {
        _range.Dispose();
        _file?.Dispose();
    }
}
