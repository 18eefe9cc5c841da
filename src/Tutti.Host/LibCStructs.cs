using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Tutti.Host;

/// <summary><c>struct pollfd</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct PollFd
{
    internal int Fd;
    internal short Events;
    internal short Revents;
}

/// <summary><c>struct timespec</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct TimeSpec
{
    internal long Seconds;
    internal long Nanoseconds;
}

/// <summary><c>struct sigaction</c> as the C library has it, which differs from the kernel's.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct SigAction
{
    internal nint Handler;
    internal SignalSet Mask;
    internal int Flags;
    internal nint Restorer;

    /// <summary><c>sigset_t</c>, 1024 bits.</summary>
    [InlineArray(16)]
    internal struct SignalSet
    {
        private ulong _first;
    }
}

/// <summary><c>struct statx</c>, as far as it is used.</summary>
[StructLayout(LayoutKind.Explicit, Size = 256)]
internal struct Statx
{
    [FieldOffset(4)]
    internal uint BlockSize;

    [FieldOffset(20)]
    internal uint Uid;

    [FieldOffset(24)]
    internal uint Gid;

    [FieldOffset(28)]
    internal ushort Mode;

    [FieldOffset(32)]
    internal ulong Inode;

    [FieldOffset(40)]
    internal ulong Size;

    /// <summary>Of 512 bytes.</summary>
    [FieldOffset(48)]
    internal ulong Blocks;

    [FieldOffset(128)]
    internal uint RdevMajor;

    [FieldOffset(132)]
    internal uint RdevMinor;

    [FieldOffset(136)]
    internal uint DevMajor;

    [FieldOffset(140)]
    internal uint DevMinor;
}

/// <summary><c>struct winsize</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct WinSize
{
    internal ushort Rows;
    internal ushort Columns;
    internal ushort XPixels;
    internal ushort YPixels;
}

/// <summary><c>struct termios</c> as the C library has it, which is larger than the kernel's.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct Termios
{
    internal const uint IGNBRK = 0x1;
    internal const uint BRKINT = 0x2;
    internal const uint PARMRK = 0x8;
    internal const uint INPCK = 0x10;
    internal const uint ISTRIP = 0x20;
    internal const uint INLCR = 0x40;
    internal const uint IGNCR = 0x80;
    internal const uint ICRNL = 0x100;
    internal const uint IUCLC = 0x200;
    internal const uint IXON = 0x400;
    internal const uint IXOFF = 0x1000;

    internal const uint OPOST = 0x1;

    internal const uint CSIZE = 0x30;
    internal const uint CS8 = 0x30;
    internal const uint PARENB = 0x100;

    internal const uint ISIG = 0x1;
    internal const uint ICANON = 0x2;
    internal const uint ECHO = 0x8;
    internal const uint ECHONL = 0x40;
    internal const uint IEXTEN = 0x8000;

    internal const int VTIME = 5;
    internal const int VMIN = 6;

    internal uint InputFlags;
    internal uint OutputFlags;
    internal uint ControlFlags;
    internal uint LocalFlags;
    internal byte Line;
    internal ControlCharacters Characters;
    internal uint InputSpeed;
    internal uint OutputSpeed;

    /// <summary><c>c_cc</c>, <c>NCCS</c> long.</summary>
    [InlineArray(32)]
    internal struct ControlCharacters
    {
        private byte _first;
    }
}
