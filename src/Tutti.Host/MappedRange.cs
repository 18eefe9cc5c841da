using Microsoft.Win32.SafeHandles;

namespace Tutti.Host;

/// <summary>Owns a range of addresses that mmap gave.</summary>
internal sealed class MappedRange : SafeHandleMinusOneIsInvalid
{
    private readonly nuint _length;

    private MappedRange(nint address, nuint length)
        : base(ownsHandle: true)
    {
        SetHandle(address);
        _length = length;
    }

    internal nint Address => handle;

    /// <summary>Maps <paramref name="length"/> bytes at an address of the kernel's choice; errors: <see cref="HostException"/>.</summary>
    internal static MappedRange Map(nuint length, int prot, int flags, int fd = -1)
    {
        nint address = LibC.mmap(0, length, prot, flags, fd, 0);
        return address != LibC.MAP_FAILED ? new MappedRange(address, length) : throw HostException.FromLastError("mmap");
    }

    protected override bool ReleaseHandle() => LibC.munmap(handle, _length) == 0;
}
