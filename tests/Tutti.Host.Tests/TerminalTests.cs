using System.Diagnostics;
using System.Runtime.InteropServices;

namespace Tutti.Host.Tests;

public sealed unsafe partial class TerminalTests
{
    [Fact]
    public void StructsHaveTheSizesAndOffsetsOfTheCLibrary()
    {
        Assert.Equal(60, sizeof(Termios));
        Assert.Equal(16, (int)Marshal.OffsetOf<Termios>(nameof(Termios.Line)));
        Assert.Equal(17, (int)Marshal.OffsetOf<Termios>(nameof(Termios.Characters)));
        Assert.Equal(52, (int)Marshal.OffsetOf<Termios>(nameof(Termios.InputSpeed)));
        Assert.Equal(56, (int)Marshal.OffsetOf<Termios>(nameof(Termios.OutputSpeed)));
        Assert.Equal(8, sizeof(WinSize));
        Assert.Equal(2, (int)Marshal.OffsetOf<WinSize>(nameof(WinSize.Columns)));
        Assert.Equal(8, sizeof(PollFd));
        Assert.Equal(4, (int)Marshal.OffsetOf<PollFd>(nameof(PollFd.Events)));
        Assert.Equal(6, (int)Marshal.OffsetOf<PollFd>(nameof(PollFd.Revents)));
        Assert.Equal(16, sizeof(TimeSpec));
        Assert.Equal(12, sizeof(EpollEvent));
    }

    [Fact]
    public void RawModePassesKeysThroughAndIsUndoneByDispose()
    {
        using Pty pty = new();
        Termios before = pty.Mode;
        Assert.NotEqual(0u, before.LocalFlags & Termios.ICANON);
        HostTerminal? terminal = HostTerminal.TryEnterRawMode(pty.Terminal);
        Assert.NotNull(terminal);
        Termios raw = pty.Mode;
        Assert.Equal(0u, raw.LocalFlags & (Termios.ICANON | Termios.ECHO | Termios.ISIG | Termios.IEXTEN));
        Assert.Equal(0u, raw.InputFlags & (Termios.ICRNL | Termios.IXON));
        Assert.Equal(before.OutputFlags & ~Termios.OPOST, raw.OutputFlags);
        Assert.NotEqual(before.OutputFlags, raw.OutputFlags);
        Assert.True(HostTerminal.ShowsOutputAsItIs(pty.Terminal));
        using (HostStream output = new(pty.Terminal))
        using (HostStream screen = new(pty.Master))
        {
            byte[] shown = new byte[8];
            Assert.True(output.Write("a\nb\r\n"u8));
            Assert.Equal("a\nb\r\n"u8.ToArray(), shown[..screen.Read(shown)]);
        }

        using HostStream keyboard = new(pty.Master);
        Assert.True(keyboard.Write([3, 26, 13]));
        using HostStream input = new(pty.Terminal);
        byte[] keys = new byte[8];
        int count = 0;
        while (count < 3)
        {
            count += input.Read(keys.AsSpan(count));
        }

        Assert.Equal([3, 26, 13], keys[..3]);
        terminal.Dispose();
        terminal.Dispose();
        Assert.False(HostTerminal.ShowsOutputAsItIs(pty.Terminal));
        Termios after = pty.Mode;
        Assert.Equal(
            MemoryMarshal.AsBytes(new ReadOnlySpan<Termios>(in before)).ToArray(),
            MemoryMarshal.AsBytes(new ReadOnlySpan<Termios>(in after)).ToArray());
    }

    [Fact]
    public void ContinueAfterAStopIsRawAgain()
    {
        using Pty pty = new();
        using HostTerminal? terminal = HostTerminal.TryEnterRawMode(pty.Terminal);
        // What a shell does to the terminal while a job is stopped.
        Termios cooked = pty.Mode;
        cooked.LocalFlags |= Termios.ICANON | Termios.ECHO;
        Assert.Equal(0, LibC.tcsetattr(pty.Terminal, LibC.TCSANOW, &cooked));
        Assert.Equal(0, kill(Environment.ProcessId, 18));
        Assert.True(SpinWait.SpinUntil(() => (pty.Mode.LocalFlags & Termios.ICANON) == 0, TimeSpan.FromSeconds(10)));
    }

    [Fact]
    public void ModeIsDescribedAsSttyDoes()
    {
        using Pty pty = new();
        using Process stty = Process.Start(new ProcessStartInfo("/bin/sh")
        {
            RedirectStandardOutput = true,
            ArgumentList = { "-c", "stty -g <\"$1\"", "sh", pty.Path },
        })!;
        Assert.Equal(stty.StandardOutput.ReadToEnd().Trim(), TerminalGuard.Describe(pty.Mode));
    }

    [Fact]
    public void WindowSizeIsReadFromTheTerminal()
    {
        using Pty pty = new();
        pty.Resize(132, 43);
        Assert.True(HostTerminal.TryGetSize(pty.Terminal, out int columns, out int rows));
        Assert.Equal((132, 43), (columns, rows));
        pty.Resize(0, 0);
        Assert.False(HostTerminal.TryGetSize(pty.Terminal, out _, out _));
    }

    [Fact]
    public void FileAndClosedDescriptorAreNoTerminals()
    {
        using FileStream file = File.OpenRead("/dev/null");
        int fd = (int)file.SafeFileHandle.DangerousGetHandle();
        Assert.False(HostTerminal.IsTerminal(fd));
        Assert.Null(HostTerminal.TryEnterRawMode(fd));
        Assert.False(HostTerminal.TryGetSize(fd, out _, out _));
        Assert.Null(HostTerminal.TryEnterRawMode(9999));
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int kill(int pid, int sig);
}
