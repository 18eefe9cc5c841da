using System.Runtime.InteropServices;

namespace Tutti.Host.Tests;

public sealed unsafe class FileOwnerTests
{
    [Fact]
    public void Structure_has_the_kernels_layout()
    {
        Assert.Equal(256, sizeof(Statx));
        Assert.Equal(20, Marshal.OffsetOf<Statx>(nameof(Statx.Uid)));
        Assert.Equal(24, Marshal.OffsetOf<Statx>(nameof(Statx.Gid)));
        Assert.Equal(28, Marshal.OffsetOf<Statx>(nameof(Statx.Mode)));
    }

    [Fact]
    public void Owner_and_permissions_are_those_of_the_file()
    {
        string path = Path.GetTempFileName();
        try
        {
            File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.GroupWrite | UnixFileMode.OtherExecute);
            FileOwner owner = FileOwner.Find(path)!.Value;
            Assert.Equal(File.GetUnixFileMode(path), owner.Mode);
            string status = File.ReadAllText("/proc/self/status");
            Assert.Matches($"Uid:\\t\\d+\\t{owner.User}\\t", status);
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public void Missing_file_has_none() => Assert.Null(FileOwner.Find("/no/such/file"));
}
