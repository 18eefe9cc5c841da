using Tutti.Host;
using Tutti.Machine;

namespace Tutti.Cli;

/// <summary>The guest's console on standard input and output. Keys on a terminal are read even when the guest takes none, for Ctrl-A x.</summary>
internal sealed class TerminalConsole : IConsoleBackend, IDisposable
{
    /// <summary>Keys kept for a guest that does not read; more are dropped, as a terminal driver drops them.</summary>
    private const int MaxTypedAhead = 1 << 20;

    private readonly HostStream _input = new(HostStream.StandardInput);
    private readonly HostStream _output = new(HostStream.StandardOutput);
    private readonly Action<ConsoleKeyCommand>? _onCommand;
    private readonly KeyFilter _keys = new();
    private readonly ControlFilter? _controls;

    /// <summary>Null where the output is no terminal.</summary>
    private readonly TerminalModes? _modes = HostTerminal.IsTerminal(HostStream.StandardOutput) ? new() : null;
    private readonly Queue<byte> _typed = new();
    private bool _isAtEnd;

    /// <param name="onCommand">Takes the keys meant for Tutti; null when input is no terminal and goes to the guest unseen.</param>
    /// <param name="controls">What of the output may pass; null for all of it.</param>
    internal TerminalConsole(Action<ConsoleKeyCommand>? onCommand, ControlFilter? controls)
    {
        (_onCommand, _controls) = (onCommand, controls);
    }

    /// <summary>Begins to read keys; once the terminal is in raw mode.</summary>
    internal void Start()
    {
        if (_onCommand != null)
        {
            new Thread(ReadKeys) { Name = "keyboard", IsBackground = true }.Start();
        }
    }

    public int Read(Span<byte> buffer)
    {
        if (_onCommand == null)
        {
            return _input.Read(buffer);
        }

        lock (_typed)
        {
            while (_typed.Count == 0 && !_isAtEnd)
            {
                Monitor.Wait(_typed);
            }

            int count = 0;
            while (count < buffer.Length && _typed.TryDequeue(out byte key))
            {
                buffer[count++] = key;
            }

            return count;
        }
    }

    public bool Write(ReadOnlySpan<byte> bytes)
    {
        if (_controls == null)
        {
            return Show(bytes);
        }

        bool isWanted = true;
        while (isWanted && !bytes.IsEmpty)
        {
            int part = Math.Min(bytes.Length, ControlFilter.MaxInput);
            isWanted = Show(_controls.Filter(bytes[..part]));
            bytes = bytes[part..];
        }

        return isWanted;
    }

    /// <summary>Changes back what the guest has left of the terminal's modes; after the machine.</summary>
    internal void UndoModes()
    {
        if (_modes != null)
        {
            _ = _output.Write(_modes.Undo());
        }
    }

    public void CancelRead()
    {
        _input.Cancel();
        EndKeys();
    }

    public void CancelWrite() => _output.Cancel();

    /// <summary>Ends all waits. The streams stay, as a thread may still be on its way out of one.</summary>
    public void Dispose()
    {
        CancelRead();
        CancelWrite();
    }

    private bool Show(ReadOnlySpan<byte> bytes)
    {
        _modes?.Watch(bytes);
        return _output.Write(bytes);
    }

    private void ReadKeys()
    {
        byte[] buffer = new byte[4096];
        int count;
        while ((count = _input.Read(buffer)) > 0)
        {
            for (Span<byte> keys = buffer.AsSpan(0, count); !keys.IsEmpty;)
            {
                ConsoleKeyCommand command = _keys.Take(keys, Environment.TickCount64, out int length, out bool forGuest);
                if (forGuest)
                {
                    TypeAhead(keys[..length]);
                }

                keys = keys[length..];
                if (command != ConsoleKeyCommand.None)
                {
                    _onCommand!(command);
                }
            }
        }

        EndKeys();
    }

    private void TypeAhead(ReadOnlySpan<byte> key)
    {
        lock (_typed)
        {
            if (_typed.Count + key.Length > MaxTypedAhead)
            {
                return;
            }

            foreach (byte value in key)
            {
                _typed.Enqueue(value);
            }

            Monitor.PulseAll(_typed);
        }
    }

    private void EndKeys()
    {
        lock (_typed)
        {
            _isAtEnd = true;
            Monitor.PulseAll(_typed);
        }
    }
}
