using System.Buffers.Binary;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using Tutti.Host;
using Tutti.Host.Tests;

namespace Tutti.Cli.Tests;

/// <summary>The command with small guests: exit statuses, and the terminal before, during and after.</summary>
public sealed partial class RunTests : IDisposable
{
    private const int SigTerm = 15;
    private readonly TuttiProcess _tutti = new();

    public void Dispose() => _tutti.Dispose();

    [Fact]
    public void PowerOffIsStatusZeroAndOutputIsTheGuestsAlone()
    {
        (int status, string output, string error) = Run(new TinyKernel().Print("hello\n").PowerOff());
        Assert.Equal((0, "hello\n", string.Empty), (status, output, error));
    }

    [Fact]
    public void TripleFaultShowsRegisters()
    {
        (int status, string output, string error) = Run(new TinyKernel().Print("x").TripleFault());
        Assert.Equal((4, "x"), (status, output));
        Assert.Contains("triple fault", error);
        Assert.Contains("RIP", error);
        Assert.Contains("32-bit protected mode", error);
        Assert.Contains("code at RIP: 0f 0b", error);
    }

    [Fact]
    public void ResetIsAStatusOfItsOwnWithNoReboot() => Assert.Equal(5, Run(new TinyKernel().Reset(), "--no-reboot").Status);

    [Fact]
    public void ResetWithoutItStartsAgain()
    {
        (int status, string output, _) = Run(new TinyKernel().Print("up\n").Reset(), "--timeout", "6s");
        Assert.Equal(124, status);
        Assert.StartsWith("up\nup\n", output);
    }

    [Fact]
    public void ResetAfterAPanicIsAPanic()
    {
        (int status, _, string error) = Run(new TinyKernel().Print("Kernel panic - not syncing: test\n").Reset());
        Assert.Equal(3, status);
        Assert.Contains("panicked", error);
    }

    [Fact]
    public void TimeLimitEndsAHaltedGuest()
    {
        (int status, _, string error) = Run(new TinyKernel().Halt(), "--timeout", "300ms");
        Assert.Equal(124, status);
        Assert.Contains("--timeout", error);
    }

    /// <summary>Before there is a guest: a disk that gives its kernel away a kilobyte a second, and a file that never opens.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void TimeLimitCountsFromTheProgramsStart(bool isDisk)
    {
        string file = _tutti.MakeFile("file.img", new byte[isDisk ? 1 << 20 : 0]);
        if (!isDisk)
        {
            File.Delete(file);
            Process.Start("mkfifo", [file]).WaitForExit();
        }

        Stopwatch watch = Stopwatch.StartNew();
        (int status, string output, string error) = _tutti.Run(["run", .. isDisk ? [$"{file},bps=1K"] : (string[])["--kernel", file], "--timeout", "1s"]);
        Assert.Equal((124, string.Empty, "tutti: the time of --timeout is over\n"), (status, output, error));
        Assert.InRange(watch.Elapsed, TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(20));
    }

    [Fact]
    public void KeysReachTheGuestAndCtrlAXLeaves()
    {
        using Session session = Start(new TinyKernel().Print("go").Echo());
        session.Expect("go");
        Assert.Equal(0u, session.Pty.Mode.LocalFlags & (Termios.ICANON | Termios.ECHO | Termios.ISIG));
        session.Type("a\u0003b\u0001\u0001c");
        session.Expect("a\u0003b\u0001c");
        session.Type("\u0001h");
        session.Expect("\r\nCtrl-A h       this help\r\nCtrl-A x");
        session.Type("\u0001x");
        session.CheckEnd(0);
    }

    /// <summary>A program in the guest has the terminal encode its keys, as fish and Neovim do.</summary>
    [Fact]
    public void CtrlAXLeavesWhateverTheGuestHasMadeOfTheKeys()
    {
        using Session session = Start(new TinyKernel().Print("\e[>1ugo").Echo());
        session.Expect("go");
        session.Type("\e[98;5u\e[97;5:3u");
        session.Expect("\e[98;5u\e[97;5:3u");
        session.Type("\e[97;5ux");
        session.CheckEnd(0);
        session.Expect("\e[<1u");
    }

    [Fact]
    public void BytesPassUnchangedBothWays()
    {
        using Session session = Start(new TinyKernel().Print("\nlow\r\nhigh\n").Echo());
        session.Expect("\nlow\r\nhigh\n");
        string all = string.Concat(Enumerable.Range(0, 256).Select(value => (char)value));
        session.Type(all.Replace("\u0001", "\u0001\u0001", StringComparison.Ordinal) + "end");
        session.Expect(all + "end");
        session.Type("\u0001x");
        session.CheckEnd(0);
    }

    [Fact]
    public void WhatTuttiSaysOnTheGuestsTerminalBeginsAtTheLeft()
    {
        using Session session = Start(new TinyKernel().Print("go").Halt(), "--trace", "ports");
        session.Expect("ports out 03f8 67\r\n");
        session.Expect("ports out 03f8 6f\r\n");
        session.Type("\u0001h");
        session.Expect("leaves Tutti.\r\n");
        session.Type("\u0001x");
        session.CheckEnd(0);
        Assert.DoesNotMatch("[^\r]\n", session.Screen.TrimEnd());
    }

    [Fact]
    public void ModesThatTheGuestLeavesAreChangedBack()
    {
        using (Session session = Start(new TinyKernel().Print("\e[?1049;1h\e[?25l\e=\e[?1000h\e[?1006h\e[?1000l\e[>5u\e[31mgo").Halt()))
        {
            session.Expect("go");
            session.Type("\u0001x");
            session.CheckEnd(0);
            session.Expect("\e[<1u\e[?1049l\e[?1006l\e[?1l\e[?25h\e[m\e>");
        }

        using (Session session = Start(new TinyKernel().Print("\e[?1049h\e[?25l\e[?1049l\e[?25h\e[?2004hreset\ecgo").PowerOff()))
        {
            session.CheckEnd(0);
            using HostStream terminal = new(session.Pty.Terminal);
            Assert.True(terminal.Write("end"u8));
            session.Expect("\ecgoend");
        }
    }

    [Fact]
    public void ConsoleFilterIsOffByDefault()
    {
        const string Output = "a\e]2;title\a\e[6n\e[31mb\n";
        Assert.Equal(Output, Run(new TinyKernel().Print(Output).PowerOff()).Output);
        Assert.Equal("a\e[31mb\n", Run(new TinyKernel().Print(Output).PowerOff(), "--console-filter").Output);
    }

    [Fact]
    public void CtrlCTwiceLeavesAGuestThatDoesNotRead()
    {
        using Session session = Start(new TinyKernel().Print("go").Halt());
        session.Expect("go");
        session.Type("\u0003");
        Assert.False(session.Process.WaitForExit(TimeSpan.FromMilliseconds(700)));
        session.Type("\u0003\u0003");
        session.CheckEnd(130);
    }

    [Fact]
    public void TerminationSignalEndsTheRun()
    {
        using Session session = Start(new TinyKernel().Print("go").Halt());
        session.Expect("go");
        Assert.Equal(0, kill(session.Process.Id, SigTerm));
        session.CheckEnd(143);
    }

    /// <summary>A window that is stopped, or a connection to it that stands still: as much as fits has been shown, and a write waits in the kernel.</summary>
    [Theory]
    [InlineData("serial", "\u0001x", 0)]
    [InlineData("serial", "\u0001h\u0001x", 0)]
    [InlineData("serial", "", 143)]
    [InlineData("virtio", "", 143)]
    [InlineData("serial", null, 124)]
    [InlineData("virtio", null, 124)]
    public void TerminalThatTakesNothingDoesNotHoldTheEndUp(string console, string? keys, int status)
    {
        using Session session = Start(new TinyKernel().Print(new string('x', 40_001)).Halt(), ["--console", console, .. keys == null ? ["--timeout", "5s"] : (string[])[]]);
        Assert.True(SpinWait.SpinUntil(() => (session.Pty.Mode.LocalFlags & Termios.ICANON) == 0, TimeSpan.FromSeconds(30)));
        Thread.Sleep(3000);
        if (keys == "")
        {
            Assert.Equal(0, kill(session.Process.Id, SigTerm));
        }
        else
        {
            session.Type(keys ?? "");
        }

        session.CheckEnd(status);
    }

    [Fact]
    public void ProcessWithoutDescriptorsStillAnswersItsKeys()
    {
        using Session session = Start(new TinyKernel().Print("go").Echo());
        session.Expect("go");
        WaitUntilLoaded(session.Process);
        using (Process limit = Process.Start("prlimit", ["--pid", session.Process.Id.ToString(CultureInfo.InvariantCulture), "--nofile=4:4"]))
        {
            limit.WaitForExit();
            Assert.Equal(0, limit.ExitCode);
        }

        session.Type("\u0001h");
        session.Expect("leaves Tutti");
        session.Type("\u0001x");
        session.CheckEnd(0);
    }

    /// <summary>
    /// Waits until the process has loaded what it loads by itself: a limit that comes between the opening of an assembly and its mapping ends the runtime, with
    /// "Out of memory.".
    /// </summary>
    private static void WaitUntilLoaded(Process process)
    {
        int before = -1;
        for (int now = Count(); now != before; now = Count())
        {
            before = now;
            Thread.Sleep(1000);
        }

        int Count() => File.ReadLines($"/proc/{process.Id}/maps").Count(static line => line.EndsWith(".dll", StringComparison.Ordinal) || line.EndsWith(".so", StringComparison.Ordinal));
    }

    [Fact]
    public void PowerOffAndBadKernelRestoreTheTerminal()
    {
        using (Session session = Start(new TinyKernel().Print("go").PowerOff()))
        {
            session.Expect("go");
            session.CheckEnd(0);
        }

        using Pty pty = new();
        string before = TerminalGuard.Describe(pty.Mode);
        using Process process = _tutti.StartOn(pty.Path, "run", "--kernel", _tutti.MakeFile("bad", new byte[100_000]));
        TuttiProcess.Wait(process);
        Assert.Equal((2, before), (process.ExitCode, TerminalGuard.Describe(pty.Mode)));
    }

    [Fact]
    public void ReaderThatGoesAwayDoesNotCrashTheRun()
    {
        string kernel = _tutti.MakeFile("kernel", new TinyKernel().Print(new string('x', 20_000)).PowerOff().ToFile());
        using Process process = Process.Start(new ProcessStartInfo("/bin/sh")
        {
            ArgumentList =
            {
                "-c", "{ dotnet exec \"$0\" run --kernel \"$1\" </dev/null; echo $? >\"$1.status\"; } | true",
                typeof(CommandLine).Assembly.Location, kernel,
            },
        })!;
        TuttiProcess.Wait(process);
        Assert.Equal("0", File.ReadAllText(kernel + ".status").Trim());
    }

    [Fact]
    public void A_unified_kernel_image_is_a_kernel_with_its_own_words_and_RAM_disk()
    {
        byte[] image = UnifiedImage((".cmdline", "root=/dev/x quiet\0"u8.ToArray()), (".initrd", "theirs"u8.ToArray()), (".linux", new TinyKernel().PrintBoot().PowerOff().ToFile()));
        (int status, string output, string error) = _tutti.Run(
            "run", "--kernel", _tutti.MakeFile("uki.efi", image), "--initrd", _tutti.MakeFile("initrd", "ours"u8.ToArray()), "--append", "last=1", "--memory", "64M", "--engine", "software", "--net", "none");
        Assert.True(status == 0, error);
        Assert.Equal("root=/dev/x quiet console=ttyS0,115200n8r panic=-1 last=1\ntheirs\0\0ours", output);
    }

    /// <summary>A program of the firmware's with nothing in it but these sections.</summary>
    private static byte[] UnifiedImage(params (string Name, byte[] Bytes)[] sections)
    {
        const int Header = 0x80;
        byte[] head = new byte[0x400];
        "MZ"u8.CopyTo(head);
        head[0x3C] = Header;
        "PE\0\0"u8.CopyTo(head.AsSpan(Header));
        BinaryPrimitives.WriteUInt16LittleEndian(head.AsSpan(Header + 6), (ushort)sections.Length);
        List<byte> file = [.. head];
        for (int i = 0; i < sections.Length; i++)
        {
            byte[] entry = new byte[40];
            Encoding.ASCII.GetBytes(sections[i].Name).CopyTo(entry, 0);
            BinaryPrimitives.WriteInt32LittleEndian(entry.AsSpan(8), sections[i].Bytes.Length);
            BinaryPrimitives.WriteInt32LittleEndian(entry.AsSpan(16), (sections[i].Bytes.Length + 511) & ~511);
            BinaryPrimitives.WriteInt32LittleEndian(entry.AsSpan(20), file.Count);
            for (int j = 0; j < entry.Length; j++)
            {
                file[Header + 24 + (i * 40) + j] = entry[j];
            }

            file.AddRange(sections[i].Bytes);
            file.AddRange(new byte[-sections[i].Bytes.Length & 511]);
        }

        return [.. file];
    }

    private (int Status, string Output, string Error) Run(TinyKernel kernel, params string[] options) =>
        _tutti.Run(["run", "--kernel", _tutti.MakeFile("kernel", kernel.ToFile()), "--memory", "64M", .. options]);

    private Session Start(TinyKernel kernel, params string[] options)
    {
        Pty pty = new();
        return new Session(pty, _tutti.StartOn(pty.Path, ["run", "--kernel", _tutti.MakeFile("kernel", kernel.ToFile()), "--memory", "64M", .. options]));
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int kill(int pid, int sig);

    /// <summary>A run on a terminal.</summary>
    private sealed class Session : IDisposable
    {
        private readonly StringBuilder _screen = new();
        private readonly HostStream _stream;
        private readonly string _before;

        public Session(Pty pty, Process process)
        {
            Pty = pty;
            Process = process;
            _before = TerminalGuard.Describe(pty.Mode);
            _stream = new HostStream(pty.Master);
        }

        public Pty Pty { get; }

        public Process Process { get; }

        /// <summary>What came after what was waited for last.</summary>
        public string Screen => _screen.ToString();

        public void Type(string keys) => Assert.True(_stream.Write(Encoding.Latin1.GetBytes(keys)));

        /// <summary>Waits for text, and forgets the screen up to its end.</summary>
        public void Expect(string text)
        {
            byte[] buffer = new byte[4096];
            using Timer limit = new(_ => _stream.Cancel(), null, TimeSpan.FromSeconds(60), Timeout.InfiniteTimeSpan);
            int at;
            while ((at = _screen.ToString().IndexOf(text, StringComparison.Ordinal)) < 0)
            {
                int count = _stream.Read(buffer);
                Assert.True(count > 0, $"no '{text}' in '{_screen}'");
                _screen.Append(Encoding.Latin1.GetString(buffer, 0, count));
            }

            _screen.Remove(0, at + text.Length);
        }

        public void CheckEnd(int status)
        {
            TuttiProcess.Wait(Process);
            Assert.Equal((status, _before), (Process.ExitCode, TerminalGuard.Describe(Pty.Mode)));
        }

        public void Dispose()
        {
            if (!Process.HasExited)
            {
                Process.Kill();
            }

            Process.Dispose();
            _stream.Dispose();
            Pty.Dispose();
        }
    }
}
