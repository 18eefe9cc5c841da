using System.Globalization;
using System.Text;
using Iced.Intel;
using Tutti.Cpu.Interpreter.Tests.Oracle;
using Tutti.X86;
using Encoder = Iced.Intel.Encoder;

namespace Tutti.Engines.Compare.Streams;

/// <summary>
/// Makes random code whose every result is defined: an instruction that reads a flag comes only where all ways there define it, and
/// operands in memory get their addresses right before. Code goes forward, at times in a loop that counts in memory.
/// </summary>
internal sealed class StreamGenerator
{
    private const int MaxInstructions = 64;
    private const byte OpcodeOfUd2 = 0x0B;

    private readonly StreamArena _arena;
    private readonly int _bits;
    private readonly Code[][] _picks;
    private readonly PrivilegedInstructions? _privileged;
    private readonly List<byte> _bytes = [];
    private readonly Dictionary<ulong, ulong> _undefinedAt = [];
    private readonly StringBuilder _text = new();
    private readonly Encoder _encoder;
    private readonly MasmFormatter _formatter = new();
    private readonly StringOutput _output = new();
    private readonly StreamOperands _operands;
    private FormEncoder _forms = null!;
    private SeededRandom _random = new(1);
    private ulong _address;
    private ulong _undefined;
    private int _left;

    public StreamGenerator(StreamArena arena)
    {
        _arena = arena;
        _bits = arena.Bits;
        _picks = StreamForms.Of(_bits);
        _encoder = Encoder.Create(_bits, new ListWriter(_bytes));
        _operands = new StreamOperands(arena);
        _privileged = arena.Mode == StreamMode.Ring3 ? null : new PrivilegedInstructions(_bits);
    }

    private ulong Here => _address + (ulong)_bytes.Count;

    public InstructionStream Make(SeededRandom random)
    {
        _random = random;
        _forms = new FormEncoder(random, _bits);
        _bytes.Clear();
        _text.Clear();
        _undefinedAt.Clear();

        // Some cross into the second page.
        _address = _arena.Code + (ulong)(random.Percent(20) ? StreamArena.PageSize - random.Below(100) : random.Between(0, 0x400));
        int count = random.Percent(60) ? 1 + random.Below(12) : 1 + random.Below(MaxInstructions);
        bool loops = random.Percent(25);
        _undefined = loops ? Rflags.Arithmetic : 0;
        for (_left = count; _left > 0;)
        {
            if (!AddPrivileged())
            {
                AddPicked();
            }

            if (_left > 0 && _random.Percent(15))
            {
                AddBranch(1 + _random.Below(3));
            }
        }

        if (loops)
        {
            AddLoopEnd();
        }

        if (_arena.Mode != StreamMode.Ring3)
        {
            // Where POPF has set TF, the trap comes before the end.
            Append(Instruction.Create(Code.Nopd));
        }

        ulong end = Here;
        _undefinedAt[end] = _undefined;
        _bytes.AddRange(_arena.Mode == StreamMode.Ring3 ? [0x0F, OpcodeOfUd2] : [0xE6, IoLog.ExitPort, 0xEB, 0xFE]);
        return new InstructionStream(_arena.Mode, _address, [.. _bytes], end, _text.ToString(), new Dictionary<ulong, ulong>(_undefinedAt));
    }

    /// <summary>DEC of the counter in memory; JNZ to the start.</summary>
    private void AddLoopEnd()
    {
        Instruction decrement = Instruction.Create(Code.Dec_rm32, new MemoryOperand(
            Register.None, Register.None, 1, (long)_arena.Counter, _bits == 16 ? 2 : _bits / 8));
        Append(decrement);
        _undefined &= Rflags.Carry;
        Append(Instruction.CreateBranch(_bits switch { 16 => Code.Jne_rel16, 32 => Code.Jne_rel32_32, _ => Code.Jne_rel32_64 }, _address));
    }

    private bool AddPrivileged()
    {
        if (_privileged == null || !_random.Percent(8))
        {
            return false;
        }

        foreach (Instruction instruction in _privileged.Make(_random))
        {
            if (Append(instruction))
            {
                _undefined = (_undefined & ~Flags(instruction.RflagsModified)) | Flags(instruction.RflagsUndefined);
            }
        }

        return true;
    }

    private void AddPicked()
    {
        _left--;
        EncodedForm? form = _forms.Encode(_random.Pick(_random.Pick(_picks)));
        if (form == null)
        {
            return;
        }

        Instruction instruction = form.Instruction;
        if ((Flags(instruction.RflagsRead) & _undefined) != 0 || instruction.FlowControl is not (FlowControl.Next or FlowControl.Exception)
            || TouchesStackPointer(instruction) || !_operands.TryPlace(ref instruction, _random))
        {
            return;
        }

        foreach (Instruction before in _operands.Preparation)
        {
            Append(before);
            _left--;
        }

        if (!Append(instruction))
        {
            return;
        }

        ulong undefined = Flags(instruction.RflagsUndefined) | UndefinedResults.OverflowOfRotation(instruction);
        ulong defined = Flags(instruction.RflagsModified) & ~undefined;

        // A count of 0 in CL, and a repetition of none, leave the flags as they were.
        bool mayKeep = instruction.HasRepPrefix || instruction.HasRepnePrefix
            || (instruction.OpCount > 1 && instruction.GetOpKind(instruction.OpCount - 1) == OpKind.Register
                && instruction.GetOpRegister(instruction.OpCount - 1) == Register.CL);
        _undefined = mayKeep ? _undefined | undefined : (_undefined & ~defined) | undefined;
    }

    /// <summary>A conditional branch over the next few instructions.</summary>
    private void AddBranch(int over)
    {
        int condition = _random.Below(16);
        if ((ConditionFlags.ReadBy(condition) & _undefined) != 0)
        {
            return;
        }

        _left--;
        int at = _bytes.Count;
        bool isWord = _bits == 16;
        Note();
        _bytes.AddRange([0x0F, (byte)(0x80 + condition), 0, 0]);
        if (!isWord)
        {
            _bytes.AddRange([0, 0]);
        }

        int start = _bytes.Count;
        int textAt = _text.Length;
        ulong before = _undefined;
        for (int i = 0; i < over; i++)
        {
            AddPicked();
        }

        _undefined |= before;
        int distance = _bytes.Count - start;
        _bytes[at + 2] = (byte)distance;
        _bytes[at + 3] = (byte)(distance >> 8);
        _text.Insert(textAt, string.Create(CultureInfo.InvariantCulture, $"    {_address + (ulong)at:x} j{condition:x} to {Here:x}\n"));
    }

    /// <summary>False where it has no encoding.</summary>
    private bool Append(in Instruction instruction)
    {
        int at = _bytes.Count;
        ulong here = Here;
        if (!_encoder.TryEncode(instruction, here, out _, out _))
        {
            _bytes.RemoveRange(at, _bytes.Count - at);
            return false;
        }

        Note(at);
        _output.Reset();
        _formatter.Format(instruction, _output);
        string bytes = Convert.ToHexString([.. _bytes.Skip(at)]);
        _text.Append(CultureInfo.InvariantCulture, $"    {here:x} {bytes,-24} {_output}\n");
        return true;
    }

    private void Note(int? at = null) => _undefinedAt[_address + (ulong)(at ?? _bytes.Count)] = _undefined;

    private static bool TouchesStackPointer(in Instruction instruction)
    {
        for (int i = 0; i < instruction.OpCount; i++)
        {
            if (instruction.GetOpKind(i) == OpKind.Register && instruction.GetOpRegister(i).GetFullRegister() == Register.RSP)
            {
                return true;
            }
        }

        return false;
    }

    private static ulong Flags(RflagsBits bits) =>
        ((bits & RflagsBits.CF) != 0 ? Rflags.Carry : 0)
        | ((bits & RflagsBits.PF) != 0 ? Rflags.Parity : 0)
        | ((bits & RflagsBits.AF) != 0 ? Rflags.Adjust : 0)
        | ((bits & RflagsBits.ZF) != 0 ? Rflags.Zero : 0)
        | ((bits & RflagsBits.SF) != 0 ? Rflags.Sign : 0)
        | ((bits & RflagsBits.OF) != 0 ? Rflags.Overflow : 0);

    private sealed class StringOutput : FormatterOutput
    {
        private readonly StringBuilder _text = new();

        public void Reset() => _text.Clear();

        public override void Write(string text, FormatterTextKind kind) => _text.Append(text);

        public override string ToString() => _text.ToString();
    }

    private sealed class ListWriter(List<byte> bytes) : CodeWriter
    {
        public override void WriteByte(byte value) => bytes.Add(value);
    }
}
