namespace Tutti.Host;

/// <summary>Files without a name, in memory, whose pages may be mapped at several addresses.</summary>
internal static unsafe class SharedFile
{
    /// <param name="name">What the kernel shows in /proc; ends with a NUL.</param>
    /// <param name="length">Bytes, all zero.</param>
    /// <exception cref="HostException">The kernel refuses.</exception>
    public static FileDescriptor Create(ReadOnlySpan<byte> name, long length)
    {
        FileDescriptor file;

        // SAFETY: the name ends with a NUL, and the kernel copies it.
        fixed (byte* bytes = name)
        {
            file = FileDescriptor.Own(LibC.memfd_create(bytes, LibC.MFD_CLOEXEC), "memfd_create");
        }

        if (LibC.ftruncate(file.Number, length) == 0)
        {
            return file;
        }

        HostException error = HostException.FromLastError("ftruncate");
        file.Dispose();
        throw error;
    }

    /// <summary>
    /// Asks the kernel for a huge page for 2 MiB of a file where they are mapped, whatever it does by itself; false where it refuses, as those before
    /// 6.1 do, and the memory is as good.
    /// </summary>
    public static bool TryUseHugePage(nint address)
    {
        // It refuses, too, where there is no page at all. SAFETY: the caller's view can be read; what is read does not matter.
        _ = Volatile.Read(ref *(byte*)address);
        return LibC.madvise(address, 2 << 20, LibC.MADV_COLLAPSE) == 0;
    }

    /// <summary>Maps a part of a file over addresses that the caller owns.</summary>
    /// <exception cref="HostException">The kernel refuses; what was mapped there may be gone.</exception>
    public static void MapOver(nint address, long length, FileDescriptor file, long offset, int protection, int flags)
    {
        if (LibC.mmap(address, (nuint)length, protection, flags | LibC.MAP_FIXED, file.Number, offset) == LibC.MAP_FAILED)
        {
            throw HostException.FromLastError("mmap");
        }
    }
}
