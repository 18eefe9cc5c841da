namespace Tutti.Host;

/// <summary>Whom a file belongs to, and who may do what with it. Source: statx(2).</summary>
/// <param name="User">The owner's number.</param>
/// <param name="Group">The group's number.</param>
/// <param name="Mode">Permission bits.</param>
public readonly record struct FileOwner(uint User, uint Group, UnixFileMode Mode)
{
    private const int PermissionBits = 0xFFF;

    /// <summary>Asks the kernel; null where there is no such file, or it can't be looked at.</summary>
    /// <exception cref="HostException">There is a NUL in the path.</exception>
    public static unsafe FileOwner? Find(string path)
    {
        byte[] name = HostPath.Encode(path);
        Statx stat = default;
        // SAFETY: the array ends in NUL and is pinned for the call; the struct has the kernel's size (tested).
        fixed (byte* pathname = name)
        {
            return LibC.statx(LibC.AT_FDCWD, pathname, 0, LibC.STATX_BASIC_STATS, &stat) == 0
                ? new FileOwner(stat.Uid, stat.Gid, (UnixFileMode)(stat.Mode & PermissionBits))
                : null;
        }
    }
}
