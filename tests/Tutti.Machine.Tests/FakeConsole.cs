using System.Collections.Concurrent;
using System.Text;

namespace Tutti.Machine.Tests;

/// <summary>A console in memory, whose writes can be held up.</summary>
internal sealed class FakeConsole : IConsoleBackend
{
    private readonly StringBuilder _output = new();
    private readonly BlockingCollection<byte[]> _input = [];
    private readonly CancellationTokenSource _cancelRead = new();

    public ManualResetEventSlim Gate { get; } = new(true);

    public bool IsGone { get; init; }

    public int Writes { get; private set; }

    public string Text
    {
        get
        {
            lock (_output)
            {
                return _output.ToString();
            }
        }
    }

    public void Type(string text) => _input.Add(Encoding.ASCII.GetBytes(text));

    public void EndInput() => _input.CompleteAdding();

    public int Read(Span<byte> buffer)
    {
        try
        {
            byte[] bytes = _input.Take(_cancelRead.Token);
            bytes.CopyTo(buffer);
            return bytes.Length;
        }
        catch (Exception e) when (e is InvalidOperationException or OperationCanceledException)
        {
            return 0;
        }
    }

    public bool Write(ReadOnlySpan<byte> bytes)
    {
        Gate.Wait();
        lock (_output)
        {
            Writes++;
            if (!IsGone)
            {
                _output.Append(Encoding.Latin1.GetString(bytes));
            }
        }

        return !IsGone;
    }

    public void CancelRead() => _cancelRead.Cancel();

    public void CancelWrite() => Gate.Set();
}
