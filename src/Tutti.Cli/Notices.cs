using System.Text;
using Tutti.Host;

namespace Tutti.Cli;

/// <summary>
/// What Tutti itself has to say: on standard error, each line with the program's name, so that standard output stays the
/// guest's. Written past <see cref="Console"/>, which would change the terminal's mode behind our back.
/// </summary>
internal static class Notices
{
    /// <summary>How long who has something to say waits for a terminal or a reader that takes nothing, milliseconds.</summary>
    private const int Patience = 1000;

    private static readonly object Order = new();
    private static byte[]? _pending;
    private static bool _hasWriter;

    /// <summary>
    /// From now on a terminal that stands still holds nobody up for long: keys, disks and networks go on, and so does the end of a run. What comes then is
    /// lost. To be called early, as a thread can't be had any more where descriptors have run out.
    /// </summary>
    internal static void StartWriter()
    {
        lock (Order)
        {
            if (_hasWriter)
            {
                return;
            }

            _hasWriter = true;
        }

        new Thread(WriteOut) { Name = "notices", IsBackground = true }.Start();
    }

    internal static void Write(string line) => WriteText($"tutti: {OneLine(line)}\n");

    /// <summary>Writes several lines as they are, but for their ends where the terminal is the guest's.</summary>
    internal static void WriteText(string text)
    {
        text = HostTerminal.ShowsOutputAsItIs(HostStream.StandardError) ? text.ReplaceLineEndings("\r\n") : text;
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        lock (Order)
        {
            if (_hasWriter)
            {
                if (WaitUntilTaken())
                {
                    _pending = bytes;
                    Monitor.PulseAll(Order);
                    _ = WaitUntilTaken();
                }

                return;
            }
        }

        _ = HostStream.WriteAll(HostStream.StandardError, bytes);
    }

    private static bool WaitUntilTaken()
    {
        long end = Environment.TickCount64 + Patience;
        while (_pending != null)
        {
            if (!Monitor.Wait(Order, (int)Math.Clamp(end - Environment.TickCount64, 0, Patience)) && Environment.TickCount64 >= end)
            {
                return _pending == null;
            }
        }

        return true;
    }

    private static void WriteOut()
    {
        while (true)
        {
            byte[] bytes;
            lock (Order)
            {
                while (_pending == null)
                {
                    Monitor.Wait(Order);
                }

                bytes = _pending;
            }

            _ = HostStream.WriteAll(HostStream.StandardError, bytes);
            lock (Order)
            {
                _pending = null;
                Monitor.PulseAll(Order);
            }
        }
    }

    /// <summary>Messages can hold names of files and guests' bytes: none may break the line or talk to the terminal.</summary>
    private static string OneLine(string text)
    {
        StringBuilder line = new(text.Length);
        foreach (char c in text)
        {
            line.Append(char.IsControl(c) ? ' ' : c);
        }

        return line.ToString().Trim();
    }
}
