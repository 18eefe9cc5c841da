using System.Runtime.InteropServices;

namespace Tutti.Host;

/// <summary>
/// A terminal in raw mode: each key arrives at once, unseen and unchanged, Ctrl-C included, and each byte of output is shown as it is, so that
/// a plain newline keeps the column. Who has messages of its own for it asks <see cref="ShowsOutputAsItIs"/>. The mode from before is back after <see cref="Dispose"/>, at the end of the
/// process (an unhandled exception included), while the process is stopped, and after it was killed. Signals that end the
/// process must lead to one of those; <see cref="TerminationSignals"/> does.
/// </summary>
public sealed unsafe class HostTerminal : IDisposable
{
    private readonly Lock _lock = new();
    private readonly int _fd;
    private readonly List<PosixSignalRegistration> _signals = [];
    private readonly Termios _before;
    private TerminalGuard? _guard;
    private bool _isDisposed;

    private HostTerminal(int fd, in Termios before)
    {
        _fd = fd;
        _before = before;
    }

    /// <summary>Whether a file descriptor is a terminal; false too when it is closed.</summary>
    public static bool IsTerminal(int fd) => LibC.isatty(fd) == 1;

    /// <summary>
    /// Whether a file descriptor is a terminal that leaves output as it is, whoever has put it into that mode: lines then end in a carriage return
    /// and a newline.
    /// </summary>
    public static bool ShowsOutputAsItIs(int fd)
    {
        Termios mode;
        // SAFETY: as below.
        return LibC.tcgetattr(fd, &mode) == 0 && (mode.OutputFlags & Termios.OPOST) == 0;
    }

    /// <summary>Gives the size of the window; false where there is none or it does not know its size.</summary>
    public static bool TryGetSize(int fd, out int columns, out int rows)
    {
        WinSize size = default;
        // SAFETY: TIOCGWINSZ fills a struct winsize.
        bool known = LibC.ioctl(fd, LibC.TIOCGWINSZ, &size) == 0 && size is { Columns: > 0, Rows: > 0 };
        columns = known ? size.Columns : 0;
        rows = known ? size.Rows : 0;
        return known;
    }

    /// <summary>Has a function called, on a thread of the pool, whenever the size of a window may have changed; until what it returns is disposed of.</summary>
    public static IDisposable WatchSize(Action onChanged) => PosixSignalRegistration.Create(PosixSignal.SIGWINCH, _ => onChanged());

    /// <summary>Puts a terminal into raw mode; null when the file descriptor is none.</summary>
    /// <exception cref="HostException">The terminal refuses.</exception>
    public static HostTerminal? TryEnterRawMode(int fd)
    {
        Termios before;
        // SAFETY: tcgetattr fills a struct termios, whose size a test compares with the C library's.
        if (!IsTerminal(fd) || LibC.tcgetattr(fd, &before) != 0)
        {
            return null;
        }

        HostTerminal terminal = new(fd, before);
        AppDomain.CurrentDomain.ProcessExit += terminal.OnProcessEnd;
        AppDomain.CurrentDomain.UnhandledException += terminal.OnProcessEnd;
        try
        {
            // Before raw mode: starting a child makes the runtime remember the mode, to restore it at its own end.
            terminal._guard = TerminalGuard.TryStart(fd, terminal.RawMode(), before);
            terminal.Set(terminal.RawMode());
            terminal._signals.Add(PosixSignalRegistration.Create(PosixSignal.SIGTSTP, terminal.OnStop));
            terminal._signals.Add(PosixSignalRegistration.Create(PosixSignal.SIGCONT, terminal.OnContinue));
        }
        catch
        {
            terminal.Dispose();
            throw;
        }

        return terminal;
    }

    /// <summary>Brings the mode from before back. Safe from any thread, and more than once.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            if (_isDisposed)
            {
                return;
            }

            _isDisposed = true;
            Set(_before, mayFail: true);
        }

        AppDomain.CurrentDomain.ProcessExit -= OnProcessEnd;
        AppDomain.CurrentDomain.UnhandledException -= OnProcessEnd;
        _signals.ForEach(s => s.Dispose());
        _guard?.Dispose();
    }

    private void OnProcessEnd(object? sender, EventArgs e)
    {
        // Not Dispose: taking signal registrations back waits for callbacks, and the process may be dying in one.
        Set(_before, mayFail: true);
    }

    private void OnStop(PosixSignalContext context)
    {
        // Stopping by SIGSTOP instead of the default action: that one comes to nothing in an orphaned process group.
        context.Cancel = true;
        SetUnlessDisposed(raw: false);
        _ = LibC.kill(Environment.ProcessId, LibC.SIGSTOP);
    }

    private void OnContinue(PosixSignalContext context)
    {
        // The runtime's own handling would set the mode that it saw when it first started a child.
        context.Cancel = true;
        SetUnlessDisposed(raw: true);
    }

    private Termios RawMode()
    {
        Termios raw = _before;
        raw.InputFlags &= ~(Termios.IGNBRK | Termios.BRKINT | Termios.PARMRK | Termios.INPCK | Termios.ISTRIP
            | Termios.INLCR | Termios.IGNCR | Termios.ICRNL | Termios.IUCLC | Termios.IXON | Termios.IXOFF);
        raw.OutputFlags &= ~Termios.OPOST;
        raw.ControlFlags = (raw.ControlFlags & ~(Termios.CSIZE | Termios.PARENB)) | Termios.CS8;
        raw.LocalFlags &= ~(Termios.ISIG | Termios.ICANON | Termios.ECHO | Termios.ECHONL | Termios.IEXTEN);
        raw.Characters[Termios.VMIN] = 1;
        raw.Characters[Termios.VTIME] = 0;
        return raw;
    }

    private void SetUnlessDisposed(bool raw)
    {
        lock (_lock)
        {
            if (!_isDisposed)
            {
                Set(raw ? RawMode() : _before, mayFail: true);
            }
        }
    }

    /// <param name="mayFail">
    /// Whether a terminal that is gone, or that a job in front of us has now, stays as it is: the shell has seen to its mode, and would have us stopped
    /// (SIGTTOU) for a change.
    /// </param>
    private void Set(Termios mode, bool mayFail = false)
    {
        if (mayFail && LibC.tcgetpgrp(_fd) is > 0 and int group && group != LibC.getpgrp())
        {
            return;
        }

        // SAFETY: the copy is a whole struct termios.
        while (LibC.tcsetattr(_fd, LibC.TCSANOW, &mode) != 0)
        {
            HostException error = HostException.FromLastError("tcsetattr");
            if (error.Errno == LibC.EINTR)
            {
                continue;
            }

            if (!mayFail)
            {
                throw error;
            }

            return;
        }
    }
}
