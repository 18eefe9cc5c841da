using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Tutti.Host.Tests;

/// <summary>A pseudo-terminal: the test holds the side that a terminal emulator would hold.</summary>
internal sealed unsafe partial class Pty : IDisposable
{
    private const int O_RDWR = 2;
    private const int O_NOCTTY = 0x100;
    private const int O_CLOEXEC = 0x80000;
    private const nuint TIOCSWINSZ = 0x5414;

    public Pty()
    {
        Master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
        Assert.True(Master >= 0 && grantpt(Master) == 0 && unlockpt(Master) == 0);
        byte* name = stackalloc byte[64];
        Assert.Equal(0, ptsname_r(Master, name, 64));
        Path = Marshal.PtrToStringUTF8((nint)name)!;
        Terminal = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC, 0);
        Assert.True(Terminal >= 0);
    }

    public int Master { get; }

    public int Terminal { get; }

    public string Path { get; }

    public Termios Mode
    {
        get
        {
            Termios mode;
            Assert.Equal(0, LibC.tcgetattr(Terminal, &mode));
            return mode;
        }
    }

    public void Resize(int columns, int rows)
    {
        WinSize size = new() { Columns = (ushort)columns, Rows = (ushort)rows };
        Assert.Equal(0, LibC.ioctl(Master, TIOCSWINSZ, &size));
    }

    public void Dispose()
    {
        _ = LibC.close(Terminal);
        _ = LibC.close(Master);
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int posix_openpt(int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int grantpt(int fd);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int unlockpt(int fd);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int ptsname_r(int fd, byte* buf, nuint buflen);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int open(byte* path, int flags, int mode);
}
