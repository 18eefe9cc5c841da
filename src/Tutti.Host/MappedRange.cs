using Microsoft.Win32.SafeHandles;

namespace Tutti.Host;

/// <summary>Owns a range of addresses that mmap gave.</summary>
public sealed class MappedRange : SafeHandleMinusOneIsInvalid
{
    private readonly nuint _length;

    private MappedRange(nint address, nuint length)
        : base(ownsHandle: true)
    {
        SetHandle(address);
        _length = length;
    }

    /// <summary>The first byte; valid as long as this object is not disposed.</summary>
    public nint Address => handle;

    /// <summary>Maps <paramref name="length"/> bytes at an address of the kernel's choice; errors: <see cref="HostException"/>.</summary>
    internal static MappedRange Map(nuint length, int prot, int flags, int fd = -1, long offset = 0)
    {
        nint address = LibC.mmap(0, length, prot, flags, fd, offset);
        return address != LibC.MAP_FAILED ? new MappedRange(address, length) : throw HostException.FromLastError("mmap");
    }

    /// <summary>Maps the first bytes of what a descriptor stands for, to be read and written by both sides.</summary>
    /// <exception cref="HostException">The kernel refuses.</exception>
    public static MappedRange MapShared(FileDescriptor file, int length)
    {
        ArgumentNullException.ThrowIfNull(file);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(length);
        return Map((nuint)length, LibC.PROT_READ | LibC.PROT_WRITE, LibC.MAP_SHARED, file.Number);
    }

    protected override bool ReleaseHandle() => LibC.munmap(handle, _length) == 0;
}
