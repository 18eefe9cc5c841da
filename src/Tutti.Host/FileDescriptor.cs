using Microsoft.Win32.SafeHandles;

namespace Tutti.Host;

/// <summary>Owns a file descriptor.</summary>
internal sealed class FileDescriptor : SafeHandleMinusOneIsInvalid
{
    private FileDescriptor(int fd)
        : base(ownsHandle: true) => SetHandle(fd);

    /// <summary>The number; valid as long as this object is not disposed.</summary>
    internal int Number => (int)handle;

    /// <summary>Takes over what <paramref name="call"/> returned, or throws what it failed with.</summary>
    internal static FileDescriptor Own(int fd, string call) =>
        fd >= 0 ? new FileDescriptor(fd) : throw HostException.FromLastError(call);

    protected override bool ReleaseHandle() => LibC.close((int)handle) == 0;
}
