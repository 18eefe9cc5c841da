namespace Tutti.Host;

/// <summary>
/// Memory for emitted machine code, seen at two addresses: one that can be written, one that can be run. No page is
/// ever both, so hosts that forbid such pages work too.
/// </summary>
public sealed unsafe class ExecutableMapping : IDisposable
{
    public const long HugePageSize = 2 << 20;
    private readonly MappedRange _write;
    private readonly MappedRange _execute;

    /// <param name="length">Bytes, above 0; rounded up to whole pages. The host spends only what is touched.</param>
    /// <exception cref="HostException">The host has no room, or forbids executable mappings.</exception>
    public ExecutableMapping(long length)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, 1L << 40);
        Length = (length + Environment.SystemPageSize - 1) & -Environment.SystemPageSize;
        using FileDescriptor file = CreateFile();
        if (LibC.ftruncate(file.Number, Length) != 0)
        {
            throw HostException.FromLastError("ftruncate");
        }

        _write = Map(file, LibC.PROT_READ | LibC.PROT_WRITE, out nint write);
        try
        {
            _execute = Map(file, LibC.PROT_READ | LibC.PROT_EXEC, out nint execute);
            (WriteAddress, ExecuteAddress) = (write, execute);
        }
        catch
        {
            _write.Dispose();
            throw;
        }
    }

    /// <summary>Where code is written; not executable. Dangling after <see cref="Dispose"/>.</summary>
    public nint WriteAddress { get; }

    /// <summary>Where the same bytes are run; not writable. Dangling after <see cref="Dispose"/>.</summary>
    public nint ExecuteAddress { get; }

    /// <summary>Bytes in each view.</summary>
    public long Length { get; }

    /// <summary>
    /// Gives the host the pages from an offset on back; no thread may be inside code there. Their bytes are zero then, or unchanged where the
    /// host keeps them (locked memory).
    /// </summary>
    /// <param name="offset">Bytes from the start, at most <see cref="Length"/>; rounded up to a whole page.</param>
    public void Release(long offset)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset, Length);
        long start = (offset + Environment.SystemPageSize - 1) & -Environment.SystemPageSize;

        // The pages belong to the file that both views show: to unmap them would free nothing.
        if (start < Length)
        {
            _ = LibC.madvise(WriteAddress + (nint)start, (nuint)(Length - start), LibC.MADV_REMOVE);
        }
    }

    /// <summary>Asks the host for a huge page for <see cref="HugePageSize"/> bytes before they are used: code in many places misses its TLB less. A wish.</summary>
    /// <param name="offset">Bytes from the start, a multiple of <see cref="HugePageSize"/>.</param>
    public void PreferHugePage(long offset)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset, Length - HugePageSize);

        _ = SharedFile.TryUseHugePage(WriteAddress + (nint)offset) && SharedFile.TryUseHugePage(ExecuteAddress + (nint)offset);
    }

    /// <summary>Unmaps both views; no thread may be inside the code.</summary>
    public void Dispose()
    {
        _execute.Dispose();
        _write.Dispose();
    }

    /// <summary>Maps the file at a multiple of a huge page's size, where there may be one.</summary>
    private MappedRange Map(FileDescriptor file, int protection, out nint address)
    {
        long room = Length < HugePageSize ? 0 : HugePageSize;
        MappedRange range = MappedRange.Map((nuint)(Length + room), LibC.PROT_NONE, LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS | LibC.MAP_NORESERVE);
        address = room == 0 ? range.Address : (nint)((range.Address + HugePageSize - 1) & -HugePageSize);
        try
        {
            SharedFile.MapOver(address, Length, file, 0, protection, LibC.MAP_SHARED);
            return range;
        }
        catch
        {
            range.Dispose();
            throw;
        }
    }

    private static FileDescriptor CreateFile()
    {
        // SAFETY: the literal lives in the image, ends in NUL, and the kernel copies it.
        fixed (byte* name = "tutti-code\0"u8)
        {
            // Kernels from 6.3 want to be told that the file will be executable; older ones do not know the flag.
            int fd = LibC.memfd_create(name, LibC.MFD_CLOEXEC | LibC.MFD_EXEC);
            if (fd < 0)
            {
                fd = LibC.memfd_create(name, LibC.MFD_CLOEXEC);
            }

            return FileDescriptor.Own(fd, "memfd_create");
        }
    }
}
