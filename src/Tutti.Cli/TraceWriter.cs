using System.Diagnostics;
using System.Globalization;
using System.Text;
using Tutti.Cpu;

namespace Tutti.Cli;

/// <summary>Writes a trace as lines of text: seconds since the start, what, and the event. Its file grows as long as the guest runs.</summary>
/// <param name="kinds">What is traced.</param>
/// <param name="file">Where to, which is closed at the end; null for standard error.</param>
internal sealed class TraceWriter(TraceKinds kinds, Stream? file) : IEngineTrace, IDisposable
{
    private readonly Lock _lock = new();
    private readonly long _start = Stopwatch.GetTimestamp();
    private bool _isBroken;

    public TraceKinds Kinds => kinds;

    public void Write(TraceKinds kind, string text)
    {
        string line = string.Create(CultureInfo.InvariantCulture, $"{Stopwatch.GetElapsedTime(_start).TotalSeconds:F6} {TraceRequest.Name(kind)} {text}\n");
        lock (_lock)
        {
            if (_isBroken)
            {
                return;
            }

            if (file == null)
            {
                Notices.WriteText(line);
                return;
            }

            Guard(() => file.Write(Encoding.ASCII.GetBytes(line)));
        }
    }

    public void Dispose()
    {
        lock (_lock)
        {
            Guard(() => file?.Dispose());
            _isBroken = true;
        }
    }

    /// <summary>A full disk ends the trace, not the guest.</summary>
    private void Guard(Action write)
    {
        try
        {
            write();
        }
        catch (IOException e)
        {
            if (!_isBroken)
            {
                _isBroken = true;
                Notices.Write($"the trace ends here: {e.Message}");
            }
        }
    }
}
