using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using Iced.Intel;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.Oracle;

/// <summary>A short program: straight code with forward conditional branches, at times in a loop that counts R14 down.</summary>
/// <param name="Bytes">Its code; control comes out at the end.</param>
/// <param name="Undefined">Arithmetic flags that the manual leaves undefined at the end, on some way through.</param>
/// <param name="EverUndefined">Flags that are undefined anywhere: what a fault shows of them says nothing.</param>
/// <param name="Starts">Where its instructions begin, and its end.</param>
/// <param name="HasVectors">Vector or x87 registers matter.</param>
/// <param name="Text">Disassembly.</param>
internal sealed record Sequence(byte[] Bytes, ulong Undefined, ulong EverUndefined, HashSet<ulong> Starts, bool HasVectors, string Text);

/// <summary>
/// Makes random programs whose every result is defined: an instruction that reads a flag comes only where all ways
/// there define it. R15 points into the data pages and R14 counts loops; neither is written, nor RSP.
/// </summary>
internal sealed class SequenceGenerator(SeededRandom random)
{
    private static readonly string[] Groups = ["Alu", "Shift", "MulDiv", "Move", "Condition", "Bit", "Bmi"];

    private static readonly Code[] Codes = [.. FormTable.All(64).Where(form => Groups.Contains(form.Group) && IsWanted(form.Code)).Select(form => form.Code)];

    private static readonly Code[] VectorCodes =
        [.. FormTable.All(64).Where(form => form.Group == FormTable.Vector && IsWantedVector(form.Code)).Select(form => form.Code), .. X87Codes()];

    private static readonly Code[] Compares =
        [.. Codes.Where(code => code.Mnemonic() is Mnemonic.Cmp or Mnemonic.Test)];

    private readonly FormEncoder _encoder = new(random, 64);
    private readonly List<byte> _bytes = [];
    private readonly StringBuilder _text = new();
    private HashSet<ulong> _starts = [];
    private ulong _undefined;
    private ulong _everUndefined;
    private bool _hasVectors;

    public Sequence Make(ulong address)
    {
        _bytes.Clear();
        _text.Clear();
        bool loops = random.Percent(40);
        _hasVectors = random.Percent(35);
        _undefined = loops ? Rflags.Arithmetic : 0;
        _everUndefined = _undefined;
        _starts = [];
        for (int left = 1 + random.Below(random.Percent(50) ? 64 : 12); left > 0; left--)
        {
            if (random.Percent(35))
            {
                AddInstruction(random.Pick(Compares), address);
            }
            else
            {
                AddInstruction(PickCode(), address);
            }

            if (random.Percent(30))
            {
                AddBranch(1 + random.Below(3), address);
            }
        }

        if (loops)
        {
            // DEC R14; JNZ to the start.
            Append([0x49, 0xFF, 0xCE], "dec r14", address);
            _undefined &= Rflags.Carry;
            int distance = -(_bytes.Count + 6);
            byte[] jump = [0x0F, 0x85, 0, 0, 0, 0];
            BinaryPrimitives.WriteInt32LittleEndian(jump.AsSpan(2), distance);
            Append(jump, "jnz to the start", address);
        }

        _starts.Add(address + (ulong)_bytes.Count);
        return new Sequence([.. _bytes], _undefined, _everUndefined, _starts, _hasVectors, _text.ToString());
    }

    /// <summary>Divisions fault on most operands, and these shifts have undefined results.</summary>
    private static bool IsWanted(Code code) => code.Mnemonic() is not (Mnemonic.Div or Mnemonic.Idiv or Mnemonic.Xlatb or Mnemonic.Std
            or Mnemonic.Cmpxchg8b or Mnemonic.Cmpxchg16b or Mnemonic.Clflush)
        && code is not (Code.Shld_rm16_r16_imm8 or Code.Shld_rm16_r16_CL or Code.Shrd_rm16_r16_imm8 or Code.Shrd_rm16_r16_CL or Code.Bswap_r16)
        && !code.ToString().Contains("moffs", StringComparison.Ordinal);

    /// <summary>No operand at RDI, no gather, and MXCSR keeps exceptions masked; SHA's misaligned operands differ between AMD and Intel.</summary>
    private static bool IsWantedVector(Code code) => HostFeatures.Missing(code) == null && code.CpuidFeatures()[0] != CpuidFeature.SHA
        && code.Mnemonic() is not (Mnemonic.Maskmovq or Mnemonic.Maskmovdqu or Mnemonic.Vmaskmovdqu or Mnemonic.Ldmxcsr or Mnemonic.Vldmxcsr)
        && !Enumerable.Range(0, code.ToOpCode().OpCount).Any(i => code.ToOpCode().GetOpKind(i).ToString().StartsWith("mem_vsib", StringComparison.Ordinal));

    private static Code[] X87Codes() =>
    [
        Code.Fld_m64fp, Code.Fld_m32fp, Code.Fld_m80fp, Code.Fstp_m64fp, Code.Fst_m32fp, Code.Fstp_m80fp, Code.Fild_m64int, Code.Fistp_m32int, Code.Fld1,
        Code.Fldpi, Code.Fadd_st0_sti, Code.Fmulp_sti_st0, Code.Fsub_m64fp, Code.Fxch_st0_sti, Code.Fchs, Code.Fcomi_st0_sti, Code.Fnstsw_AX,
        Code.Fnstcw_m2byte, Code.Fninit, Code.Ffree_sti, Code.Fincstp,
    ];

    private Code PickCode() => random.Pick(_hasVectors && random.Percent(50) ? VectorCodes : Codes);

    private static ulong Flags(RflagsBits bits) =>
        ((bits & RflagsBits.CF) != 0 ? Rflags.Carry : 0)
        | ((bits & RflagsBits.PF) != 0 ? Rflags.Parity : 0)
        | ((bits & RflagsBits.AF) != 0 ? Rflags.Adjust : 0)
        | ((bits & RflagsBits.ZF) != 0 ? Rflags.Zero : 0)
        | ((bits & RflagsBits.SF) != 0 ? Rflags.Sign : 0)
        | ((bits & RflagsBits.OF) != 0 ? Rflags.Overflow : 0);

    private void AddInstruction(Code code, ulong address)
    {
        EncodedForm? form = _encoder.Encode(code);
        if (form == null)
        {
            return;
        }

        Instruction instruction = form.Instruction;
        byte[] bytes = form.Bytes;
        if (HasMemory(instruction))
        {
            bytes = WithPlainAddress(ref instruction);
        }

        if (bytes.Length == 0 || Touches(instruction) || (Flags(instruction.RflagsRead) & _undefined) != 0)
        {
            return;
        }

        Append(bytes, instruction.ToString(), address);
        ulong undefined = Flags(instruction.RflagsUndefined) | UndefinedResults.OverflowOfRotation(instruction);
        ulong defined = Flags(instruction.RflagsModified) & ~undefined;
        bool mayKeep = instruction.OpCount > 1 && instruction.GetOpKind(instruction.OpCount - 1) == OpKind.Register
            && instruction.GetOpRegister(instruction.OpCount - 1) == Register.CL;
        _undefined = mayKeep ? _undefined | undefined | defined : (_undefined & ~defined) | undefined;
        _everUndefined |= _undefined;
    }

    private static bool HasMemory(in Instruction instruction)
    {
        for (int i = 0; i < instruction.OpCount; i++)
        {
            if (instruction.GetOpKind(i) == OpKind.Memory)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>The same instruction with [R15 + displacement] as its operand; empty when it cannot have one.</summary>
    private byte[] WithPlainAddress(ref Instruction instruction)
    {
        if (instruction.Mnemonic is Mnemonic.Bt or Mnemonic.Bts or Mnemonic.Btr or Mnemonic.Btc && instruction.Op1Kind == OpKind.Register)
        {
            return [];
        }

        instruction.MemoryBase = Register.R15;
        instruction.MemoryIndex = Register.None;
        instruction.MemoryIndexScale = 1;
        instruction.MemoryDisplSize = 8;

        // Two pages: some operands lie across their border, some reach or cross the end, where a page fault is.
        instruction.MemoryDisplacement64 = random.Percent(1) ? (ulong)random.Between(0x1FF0, 0x2010)
            : random.Percent(10) ? (ulong)random.Between(0xFF0, 0x1010) : (ulong)random.Below(0x1F00);
        if (instruction.MemorySize.GetSize() >= 16 && random.Percent(80))
        {
            instruction.MemoryDisplacement64 &= ~31UL;
        }

        instruction.SegmentPrefix = Register.None;
        var writer = new ByteWriter();
        return Iced.Intel.Encoder.Create(64, writer).TryEncode(instruction, 0, out _, out _) ? [.. writer.Bytes] : [];
    }

    /// <summary>Whether an operand is one of the registers that stay.</summary>
    private static bool Touches(in Instruction instruction)
    {
        for (int i = 0; i < instruction.OpCount; i++)
        {
            if (instruction.GetOpKind(i) == OpKind.Register && instruction.GetOpRegister(i).GetFullRegister() is Register.RSP or Register.R14 or Register.R15)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>A conditional branch over the next few instructions.</summary>
    private void AddBranch(int over, ulong address)
    {
        int condition = random.Below(16);
        if ((ConditionFlags.ReadBy(condition) & _undefined) != 0)
        {
            return;
        }

        bool isLong = random.Percent(30);
        int at = _bytes.Count;
        Append(isLong ? [0x0F, (byte)(0x80 + condition), 0, 0, 0, 0] : [(byte)(0x70 + condition), 0], $"j{condition:x} over {over}", address);
        int start = _bytes.Count;
        ulong before = _undefined;
        for (int i = 0; i < over; i++)
        {
            AddInstruction(PickCode(), address);
        }

        _undefined |= before;
        int distance = _bytes.Count - start;
        _bytes[at + (isLong ? 2 : 1)] = (byte)distance;
    }

    private void Append(byte[] bytes, string text, ulong address)
    {
        _starts.Add(address + (ulong)_bytes.Count);
        _text.AppendLine(CultureInfo.InvariantCulture, $"    {address + (ulong)_bytes.Count:x} {Convert.ToHexString(bytes),-24} {text}");
        _bytes.AddRange(bytes);
    }

    private sealed class ByteWriter : CodeWriter
    {
        public List<byte> Bytes { get; } = [];

        public override void WriteByte(byte value) => Bytes.Add(value);
    }
}
