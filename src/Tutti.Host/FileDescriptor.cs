using Microsoft.Win32.SafeHandles;

namespace Tutti.Host;

/// <summary>Owns a file descriptor.</summary>
public sealed class FileDescriptor : SafeHandleMinusOneIsInvalid
{
    private FileDescriptor(int fd)
        : base(ownsHandle: true) => SetHandle(fd);

    /// <summary>The number; valid as long as this object is not disposed.</summary>
    public int Number => (int)handle;

    /// <summary>Takes over what <paramref name="call"/> returned, or throws what it failed with.</summary>
    /// <param name="fd">A descriptor that nobody else owns, or a negative number where the call failed.</param>
    /// <exception cref="HostException">The call, the last P/Invoke of this thread, failed.</exception>
    public static FileDescriptor Own(int fd, string call) =>
        fd >= 0 ? new FileDescriptor(fd) : throw HostException.FromLastError(call);

    protected override bool ReleaseHandle() => LibC.close((int)handle) == 0;
}
