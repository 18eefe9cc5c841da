using System.Buffers;
using System.Text;

namespace Tutti.Cli;

/// <summary>
/// Takes out of a guest's output what <see cref="ControlSequences"/> does not allow, for a terminal that reads UTF-8. What passes is written anew:
/// whole sequences that begin with ESC, and whole characters, so that neither what was taken out nor how the bytes are cut makes another
/// sequence of the rest. Controls of one byte above 7Fh count, as they are and as characters U+0080 to U+009F; what is no UTF-8 becomes U+FFFD.
/// </summary>
internal sealed class ControlFilter
{
    /// <summary>Bytes that one call takes.</summary>
    internal const int MaxInput = 4096;

    /// <summary>Longer sequences are taken out.</summary>
    private const int MaxSequence = 256;

    private const byte Escape = 0x1B;
    private const int LinuxPaletteDigits = 7;
    private static readonly byte[] Replacement = Encoding.UTF8.GetBytes("\uFFFD");

    private readonly byte[] _output = new byte[(MaxInput * 3) + MaxSequence + 16];
    private readonly byte[] _sequence = new byte[MaxSequence];
    private readonly byte[] _character = new byte[4];
    private State _state;
    private int _length;
    private int _sequenceLength;
    private int _characterLength;
    private int _digitsLeft;

    private enum State
    {
        Text,
        Escape,
        Csi,
        OscStart,

        /// <summary>The Linux console's ESC ] P, seven digits and no end.</summary>
        LinuxPalette,

        /// <summary>OSC, SOS, PM, APC, and a title of tmux: until ST, BEL, or a new line, lest a string without an end hides all that follows.</summary>
        String,

        /// <summary>DCS, in which lines may end: until ST.</summary>
        DeviceString,
    }

    /// <summary>Gives what may pass of the next bytes, at most <see cref="MaxInput"/>; valid until the next call.</summary>
    internal ReadOnlySpan<byte> Filter(ReadOnlySpan<byte> input)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(input.Length, MaxInput, nameof(input));
        _length = 0;
        while (!input.IsEmpty)
        {
            if (_state == State.Text && _characterLength == 0)
            {
                int plain = input.IndexOfAnyExceptInRange((byte)0x20, (byte)0x7E);
                plain = plain < 0 ? input.Length : plain;
                Emit(input[..plain]);
                input = input[plain..];
                if (input.IsEmpty)
                {
                    break;
                }
            }

            TakeByte(input[0]);
            input = input[1..];
        }

        return _output.AsSpan(0, _length);
    }

    /// <summary>Puts characters together.</summary>
    private void TakeByte(byte value)
    {
        if (_characterLength == 0 && value < 0xA0)
        {
            Take(value);
            return;
        }

        _character[_characterLength++] = value;
        ReadOnlySpan<byte> character = _character.AsSpan(0, _characterLength);
        OperationStatus status = Rune.DecodeFromUtf8(character, out Rune rune, out _);
        if (status == OperationStatus.NeedMoreData)
        {
            return;
        }

        _characterLength = 0;
        if (status == OperationStatus.Done)
        {
            if (rune.Value < 0xA0)
            {
                Take(rune.Value);
            }
            else
            {
                TakeText(character);
            }

            return;
        }

        TakeText(Replacement);
        if (character.Length > 1)
        {
            // It ended what was begun, and begins something itself.
            TakeByte(value);
        }
    }

    /// <summary>A character beyond the controls: text, or part of a string; it ends any other sequence.</summary>
    private void TakeText(ReadOnlySpan<byte> character)
    {
        switch (_state)
        {
            case State.String or State.DeviceString:
                return;
            case State.OscStart:
                _state = State.String;
                return;
            default:
                _state = State.Text;
                Emit(character);
                return;
        }
    }

    /// <summary>ASCII, or a control of one byte.</summary>
    private void Take(int value)
    {
        switch (value)
        {
            case Escape:
                Begin(State.Escape);
                break;
            case 0x18 or 0x1A:
                _state = State.Text;
                break;
            case < 0x20:
                TakeControl((byte)value);
                break;
            case 0x7F:
                break;
            case < 0x80:
                TakeAscii((byte)value);
                break;
            default:
                // The same as ESC and a byte of 40h to 5Fh.
                Begin(State.Escape);
                TakeEscape((byte)(value - 0x40));
                break;
        }
    }

    private void TakeControl(byte control)
    {
        switch (_state)
        {
            case State.OscStart or State.String or State.LinuxPalette when control is (byte)'\a':
                _state = State.Text;
                return;
            case State.OscStart or State.String or State.LinuxPalette when control is (byte)'\n':
                _state = State.Text;
                break;
            case State.OscStart or State.String or State.LinuxPalette or State.DeviceString:
                return;
        }

        // In the middle of a sequence terminals do at once what a control says.
        if (ControlSequences.AllowsControl(control))
        {
            Emit([control]);
        }
    }

    private void TakeAscii(byte value)
    {
        switch (_state)
        {
            case State.Text:
                Emit([value]);
                break;
            case State.Escape:
                TakeEscape(value);
                break;
            case State.Csi when value < 0x40:
                Collect(value);
                break;
            case State.Csi:
                EndCsi(value);
                break;
            case State.OscStart:
                // The Linux console's own have no end.
                _digitsLeft = LinuxPaletteDigits;
                _state = value switch { (byte)'R' => State.Text, (byte)'P' => State.LinuxPalette, _ => State.String };
                break;
            case State.LinuxPalette when --_digitsLeft == 0:
                _state = State.Text;
                break;
        }
    }

    private void TakeEscape(byte value)
    {
        if (value < 0x30)
        {
            Collect(value);
            return;
        }

        bool isPlain = _sequenceLength == 0;
        _state = (char)value switch
        {
            '[' when isPlain => State.Csi,
            ']' when isPlain => State.OscStart,
            'P' when isPlain => State.DeviceString,
            'X' or '^' or '_' or 'k' when isPlain => State.String,
            _ => State.Text,
        };
        if (_state == State.Text && _sequenceLength < MaxSequence && ControlSequences.AllowsEscape(_sequence.AsSpan(0, _sequenceLength), value))
        {
            Emit([Escape]);
            Emit(_sequence.AsSpan(0, _sequenceLength));
            Emit([value]);
        }
    }

    private void EndCsi(byte final)
    {
        _state = State.Text;
        if (_sequenceLength < MaxSequence)
        {
            _length += ControlSequences.WriteCsi(_sequence.AsSpan(0, _sequenceLength), final, _output.AsSpan(_length));
        }
    }

    private void Begin(State state) => (_state, _sequenceLength) = (state, 0);

    /// <summary>Keeps a byte of a sequence; a full buffer says that it was too long.</summary>
    private void Collect(byte value)
    {
        if (_sequenceLength < MaxSequence)
        {
            _sequence[_sequenceLength++] = value;
        }
    }

    private void Emit(ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(_output.AsSpan(_length));
        _length += bytes.Length;
    }
}
