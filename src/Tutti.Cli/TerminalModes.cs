using System.Globalization;
using System.Text;

namespace Tutti.Cli;

/// <summary>
/// Remembers which modes of the terminal the guest has changed and not changed back: a guest that ends in a full-screen program would leave the
/// user's shell with the alternate screen, no cursor, or reports of the mouse as keys. Source: "XTerm Control Sequences".
/// </summary>
internal sealed class TerminalModes
{
    private const byte Escape = 0x1B;
    private const int MaxMode = 9999;

    /// <summary>Off in a terminal that nobody has touched, in the order in which they are left: alternate screens, mouse, focus, pasted text, keys.</summary>
    private static readonly int[] UsuallyOff = [1049, 1047, 47, 1000, 1001, 1002, 1003, 9, 1004, 1005, 1006, 1015, 1016, 2004, 1, 5, 6, 66];

    /// <summary>On there: wrapping and the cursor.</summary>
    private static readonly int[] UsuallyOn = [7, 25];

    private readonly HashSet<int> _changed = [];
    private readonly HashSet<int> _named = [];
    private State _state;
    private int _mode;
    private bool _hasKeypad;

    private enum State
    {
        Text,
        Escape,
        Csi,
        Private,
        Soft,
    }

    /// <summary>Looks at what the terminal is sent.</summary>
    internal void Watch(ReadOnlySpan<byte> output)
    {
        while (!output.IsEmpty)
        {
            if (_state == State.Text)
            {
                int start = output.IndexOf(Escape);
                if (start < 0)
                {
                    return;
                }

                output = output[start..];
            }

            Take(output[0]);
            output = output[1..];
        }
    }

    /// <summary>What changes it all back; empty where nothing is to change.</summary>
    internal byte[] Undo()
    {
        StringBuilder undo = new();
        foreach (int mode in UsuallyOff.Where(_changed.Contains))
        {
            undo.Append(CultureInfo.InvariantCulture, $"\e[?{mode}l");
        }

        foreach (int mode in UsuallyOn.Where(_changed.Contains))
        {
            undo.Append(CultureInfo.InvariantCulture, $"\e[?{mode}h");
        }

        return Encoding.ASCII.GetBytes(undo.Append(_hasKeypad ? "\e>" : "").ToString());
    }

    private void Take(byte value)
    {
        (_state, State before) = (State.Text, _state);
        switch (before)
        {
            case var _ when value == Escape:
                _state = State.Escape;
                break;
            case State.Escape when value == (byte)'[':
                _state = State.Csi;
                break;
            case State.Escape when value is (byte)'=' or (byte)'>':
                _hasKeypad = value == (byte)'=';
                break;
            case State.Escape when value == (byte)'c':
            case State.Soft when value == (byte)'p':
                _changed.Clear();
                _hasKeypad = false;
                break;
            case State.Csi when value == (byte)'!':
                _state = State.Soft;
                break;
            case State.Csi when value == (byte)'?':
                _state = State.Private;
                _mode = 0;
                _named.Clear();
                break;
            case State.Private:
                TakePrivate(value);
                break;
        }
    }

    private void TakePrivate(byte value)
    {
        switch (value)
        {
            case >= (byte)'0' and <= (byte)'9':
                _mode = Math.Min((_mode * 10) + value - '0', MaxMode + 1);
                _state = State.Private;
                break;
            case (byte)';':
                _ = _named.Add(_mode);
                _mode = 0;
                _state = _named.Count < MaxMode ? State.Private : State.Text;
                break;
            case (byte)'h' or (byte)'l':
                _ = _named.Add(_mode);
                Note(isSet: value == (byte)'h');
                break;
        }
    }

    private void Note(bool isSet)
    {
        foreach (int mode in _named)
        {
            if (Array.IndexOf(isSet ? UsuallyOff : UsuallyOn, mode) >= 0)
            {
                _ = _changed.Add(mode);
            }
            else
            {
                _ = _changed.Remove(mode);
            }
        }
    }
}
