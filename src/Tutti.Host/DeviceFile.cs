namespace Tutti.Host;

/// <summary>Opens the host's device files.</summary>
public static unsafe class DeviceFile
{
    /// <summary>Opens a device for reading and writing; it is not inherited by other programs.</summary>
    /// <exception cref="HostException">The kernel refuses; <see cref="HostException.Errno"/> says why.</exception>
    public static FileDescriptor Open(string path)
    {
        byte[] name = HostPath.Encode(path);
        // SAFETY: the array ends in NUL and is pinned for the call.
        fixed (byte* pathname = name)
        {
            return FileDescriptor.Own(LibC.open(pathname, LibC.O_RDWR | LibC.O_CLOEXEC), $"open {path}");
        }
    }
}
