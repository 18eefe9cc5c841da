using System.Globalization;
using System.Text;

namespace Tutti.Cli;

/// <summary>
/// Remembers which of the terminal's modes the guest has changed and not changed back: a guest that ends in a full-screen program, or at the prompt of a shell
/// that has keys encoded in another way, would leave the user's shell with the alternate screen, no cursor, a part of the screen to scroll, or keys that it does
/// not know. Titles, colours of the palette and the like stay as they are. Sources: "XTerm Control Sequences"; kitty's "keyboard protocol".
/// </summary>
internal sealed class TerminalModes
{
    private const byte Escape = 0x1B;
    private const byte ShiftOut = 0x0E;
    private const byte ShiftIn = 0x0F;
    private const byte Cancel = 0x18;
    private const byte Substitute = 0x1A;

    /// <summary>Parameters that are looked at; xterm takes 30.</summary>
    private const int MaxParameters = 256;

    private const int MaxValue = 9999;
    private const int MaxKeyGroup = 9;

    /// <summary>What is taken off the keyboard's stack at most; no terminal's is as deep.</summary>
    private const int MaxPushed = 99;

    /// <summary>
    /// DEC's modes that are off in a terminal that nobody has touched, in the order in which they are left: alternate screens, mouse, focus, pasted text, keys,
    /// what is told of the window and its colours, margins, held-back output.
    /// </summary>
    private static readonly int[] UsuallyOff =
        [1049, 1047, 47, 1000, 1001, 1002, 1003, 9, 1004, 1005, 1006, 1015, 1016, 2004, 1, 5, 6, 66, 2031, 2048, 9001, 69, 45, 2026];

    /// <summary>On there: wrapping, keys that repeat, the cursor.</summary>
    private static readonly int[] UsuallyOn = [7, 8, 25];

    /// <summary>ECMA-48's: a locked keyboard, insertion, a newline that returns, too.</summary>
    private static readonly int[] PlainUsuallyOff = [2, 4, 20];

    /// <summary>Keys that the terminal does not echo.</summary>
    private static readonly int[] PlainUsuallyOn = [12];

    private readonly HashSet<int> _changed = [];
    private readonly HashSet<int> _plainChanged = [];

    /// <summary>Groups of keys whose modifiers are told in another way (XTMODKEYS).</summary>
    private readonly HashSet<int> _keyGroups = [];

    private readonly List<int> _parameters = [];
    private State _state;
    private byte _prefix;
    private byte _intermediate;

    // The keyboard's modes, which each screen has a stack of.
    private int _pushed;
    private int _pushedOnAlternate;
    private bool _hasKeyboard;

    private bool _hasKeypad;
    private bool _hasStyle;
    private bool _hasCharacterSet;
    private bool _isShifted;
    private bool _isNotUtf8;
    private bool _hasMargins;
    private bool _hasCursorShape;

    private enum State
    {
        Text,
        Escape,
        Csi,
    }

    private bool IsOnAlternate => _changed.Contains(1049) || _changed.Contains(1047) || _changed.Contains(47);

    /// <summary>Looks at what the terminal is sent.</summary>
    internal void Watch(ReadOnlySpan<byte> output)
    {
        while (!output.IsEmpty)
        {
            if (_state == State.Text)
            {
                int start = output.IndexOfAny(Escape, ShiftOut, ShiftIn);
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
        Pop(undo, IsOnAlternate ? _pushedOnAlternate : 0);
        Add(undo, UsuallyOff.Where(_changed.Contains), "?", 'l');
        Add(undo, UsuallyOn.Where(_changed.Contains), "?", 'h');
        Add(undo, PlainUsuallyOff.Where(_plainChanged.Contains), "", 'l');
        Add(undo, PlainUsuallyOn.Where(_plainChanged.Contains), "", 'h');
        Add(undo, _keyGroups.Order(), ">", 'm');
        Pop(undo, _pushed);
        undo.Append(_hasKeyboard ? "\e[=0u" : "");
        undo.Append(_isNotUtf8 ? "\e%G" : "");
        undo.Append(_hasCharacterSet ? "\e(B" : "").Append(_isShifted ? "\u000f" : "");
        undo.Append(_hasStyle ? "\e[m" : "");
        undo.Append(_hasCursorShape ? "\e[0 q" : "");

        // Margins move the cursor.
        undo.Append(_hasMargins ? "\e7\e[r\e8" : "");
        return Encoding.ASCII.GetBytes(undo.Append(_hasKeypad ? "\e>" : "").ToString());
    }

    private static void Add(StringBuilder undo, IEnumerable<int> values, string prefix, char final)
    {
        foreach (int value in values)
        {
            undo.Append(CultureInfo.InvariantCulture, $"\e[{prefix}{value}{final}");
        }
    }

    private static void Pop(StringBuilder undo, int count)
    {
        if (count > 0)
        {
            undo.Append(CultureInfo.InvariantCulture, $"\e[<{count}u");
        }
    }

    private void Take(byte value)
    {
        switch (value)
        {
            case Escape:
                (_state, _prefix, _intermediate) = (State.Escape, 0, 0);
                break;
            case ShiftOut or ShiftIn:
                _isShifted = value == ShiftOut;
                break;
            case Cancel or Substitute:
                _state = State.Text;
                break;
            case < 0x20:
                // Terminals do what it says, and go on with the sequence.
                break;
            case var _ when _state == State.Escape:
                TakeEscape(value);
                break;
            case var _ when _state == State.Csi:
                TakeCsi(value);
                break;
        }
    }

    private void TakeEscape(byte value)
    {
        if (value < 0x30)
        {
            _intermediate = value;
            return;
        }

        _state = State.Text;
        switch ((char)_intermediate, (char)value)
        {
            case ('\0', '['):
                _state = State.Csi;
                _parameters.Clear();
                _parameters.Add(0);
                break;
            case ('\0', '=' or '>'):
                _hasKeypad = value == (byte)'=';
                break;
            case ('\0', 'c'):
                Forget();
                break;
            case ('(', _):
                _hasCharacterSet = value != (byte)'B';
                break;
            case ('%', '@' or 'G'):
                _isNotUtf8 = value == (byte)'@';
                break;
        }
    }

    private void TakeCsi(byte value)
    {
        switch (value)
        {
            case >= (byte)'0' and <= (byte)'9':
                _parameters[^1] = Math.Min((_parameters[^1] * 10) + value - '0', MaxValue + 1);
                break;
            case (byte)';' or (byte)':' when _parameters.Count < MaxParameters:
                _parameters.Add(0);
                break;
            case >= (byte)'<' and <= (byte)'?':
                _prefix = value;
                break;
            case < 0x30:
                _intermediate = value;
                break;
            case >= 0x40 and < 0x7F:
                _state = State.Text;
                EndCsi((char)value);
                break;
            case >= 0x80:
                _state = State.Text;
                break;
        }
    }

    private void EndCsi(char final)
    {
        bool isPlain = _parameters is [0];
        switch ((char)_prefix, (char)_intermediate, final)
        {
            case ('?', '\0', 'h' or 'l'):
                Note(_changed, final == 'h' ? UsuallyOff : UsuallyOn);
                break;
            case ('\0', '\0', 'h' or 'l'):
                Note(_plainChanged, final == 'h' ? PlainUsuallyOff : PlainUsuallyOn);
                break;
            case ('\0', '\0', 'm'):
                _hasStyle = !isPlain;
                break;
            case ('\0', '\0', 'r'):
                _hasMargins = !isPlain;
                break;
            case ('\0', ' ', 'q'):
                _hasCursorShape = !isPlain;
                break;
            case ('>', '\0', 'm') when isPlain:
                _keyGroups.Clear();
                break;
            case ('>', '\0', 'm') when _parameters[0] <= MaxKeyGroup:
                _ = _parameters is [_, > 0] ? _keyGroups.Add(_parameters[0]) : _keyGroups.Remove(_parameters[0]);
                break;
            case ('>', '\0', 'u'):
                Push(1);
                break;
            case ('<', '\0', 'u'):
                Push(-Math.Max(1, _parameters[0]));
                break;
            case ('=', '\0', 'u'):
                _hasKeyboard = !isPlain;
                break;
        }
    }

    private void Push(int count)
    {
        ref int pushed = ref (IsOnAlternate ? ref _pushedOnAlternate : ref _pushed);
        pushed = Math.Clamp(pushed + count, 0, MaxPushed);
    }

    /// <summary>Modes that were named are changed where this list has them, else as they were.</summary>
    private void Note(HashSet<int> changed, int[] away)
    {
        foreach (int mode in _parameters)
        {
            _ = Array.IndexOf(away, mode) >= 0 ? changed.Add(mode) : changed.Remove(mode);
        }
    }

    /// <summary>A hard reset. The soft one (DECSTR) leaves screens, mouse and pasted text alone, and does not exist in all terminals.</summary>
    private void Forget()
    {
        _changed.Clear();
        _plainChanged.Clear();
        _keyGroups.Clear();
        (_pushed, _pushedOnAlternate, _hasKeyboard, _hasKeypad, _hasStyle) = (0, 0, false, false, false);
        (_hasCharacterSet, _isShifted, _isNotUtf8, _hasMargins, _hasCursorShape) = (false, false, false, false, false);
    }
}
