using System.Text;

namespace Tutti.Host;

/// <summary>A path as the kernel takes it.</summary>
internal static class HostPath
{
    /// <summary>UTF-8 with a NUL at the end.</summary>
    /// <exception cref="HostException">A NUL is in it: the kernel would take what stands before that for the path, which is another one.</exception>
    public static byte[] Encode(string path) => path.Contains('\0', StringComparison.Ordinal)
        ? throw new HostException("open a path with a NUL in it", Errno.EINVAL)
        : Encoding.UTF8.GetBytes(path + '\0');
}
