using Iced.Intel;
using Tutti.Cpu.Interpreter.Tests.Oracle;

namespace Tutti.Engines.Compare.Streams;

/// <summary>Gives a random instruction operands in the arena: the instructions that set its address registers, and its addressing.</summary>
internal sealed class StreamOperands(StreamArena arena)
{
    private static readonly (Register Base, Register Index)[] WordShapes =
    [
        (Register.BX, Register.SI), (Register.BX, Register.DI), (Register.BP, Register.SI), (Register.BP, Register.DI),
        (Register.SI, Register.None), (Register.DI, Register.None), (Register.BP, Register.None), (Register.BX, Register.None),
    ];

    private readonly List<Instruction> _preparation = [];
    private readonly int _bits = arena.Bits;
    private SeededRandom _random = new(1);

    /// <summary>Intel's SHA instructions want aligned operands, AMD's do not.</summary>
    private bool _alwaysAligned;

    /// <summary>What has to run right before the placed instruction.</summary>
    public IReadOnlyList<Instruction> Preparation => _preparation;

    /// <summary>Places the operands; false where the instruction is better left out.</summary>
    public bool TryPlace(ref Instruction instruction, SeededRandom random)
    {
        _random = random;
        _preparation.Clear();
        for (int i = 0; i < instruction.OpCount; i++)
        {
            switch (instruction.GetOpKind(i))
            {
                case OpKind.Memory:
                    PlaceMemory(ref instruction, i);
                    return true;
                case OpKind.MemorySegSI or OpKind.MemorySegESI or OpKind.MemorySegRSI or OpKind.MemoryESDI or OpKind.MemoryESEDI or OpKind.MemoryESRDI:
                    PlaceString(ref instruction);
                    return true;
                case OpKind.MemorySegDI or OpKind.MemorySegEDI or OpKind.MemorySegRDI:
                    return false;
            }
        }

        return true;
    }

    private void PlaceString(ref Instruction instruction)
    {
        _alwaysAligned = false;
        instruction.SegmentPrefix = Register.None;
        bool toWords = _bits == 16 && _random.Percent(70);
        int size = _bits == 64 ? 8 : 4;
        for (int i = 0; i < instruction.OpCount; i++)
        {
            OpKind kind = instruction.GetOpKind(i);
            if (toWords && kind is OpKind.MemorySegESI or OpKind.MemoryESEDI)
            {
                kind = kind == OpKind.MemorySegESI ? OpKind.MemorySegSI : OpKind.MemoryESDI;
                instruction.SetOpKind(i, kind);
            }

            if (_bits == 32 && kind is OpKind.MemorySegSI or OpKind.MemoryESDI)
            {
                // 16-bit addresses reach the tables only.
                kind = kind == OpKind.MemorySegSI ? OpKind.MemorySegESI : OpKind.MemoryESEDI;
                instruction.SetOpKind(i, kind);
            }

            size = kind switch
            {
                OpKind.MemorySegSI or OpKind.MemoryESDI => 2,
                OpKind.MemorySegESI or OpKind.MemoryESEDI => 4,
                OpKind.MemorySegRSI or OpKind.MemoryESRDI => 8,
                _ => size,
            };
            bool isSource = kind is OpKind.MemorySegSI or OpKind.MemorySegESI or OpKind.MemorySegRSI;
            if (isSource || kind is OpKind.MemoryESDI or OpKind.MemoryESEDI or OpKind.MemoryESRDI)
            {
                SetRegister(isSource ? Register.RSI : Register.RDI, Target(8, size, isAligned: false));
            }
        }

        if (instruction.HasRepPrefix || instruction.HasRepnePrefix)
        {
            SetRegister(Register.RCX, (ulong)_random.Below(24));
        }
    }

    private void PlaceMemory(ref Instruction instruction, int index)
    {
        int size = Math.Max(1, instruction.MemorySize.GetSize());
        _alwaysAligned = instruction.CpuidFeatures[0] == CpuidFeature.SHA;
        bool isAligned = _random.Percent(80);
        bool isOffset = instruction.OpCode.GetOpKind(index) == OpCodeOperandKind.mem_offs;
        instruction.SegmentPrefix = Register.None;
        instruction.MemoryBase = Register.None;
        instruction.MemoryIndex = Register.None;
        instruction.MemoryIndexScale = 1;
        Register bitOffset = BitOffset(instruction);
        if (bitOffset != Register.None)
        {
            SetRegister(bitOffset.GetFullRegister(), (ulong)_random.Between(-400, 400));
        }

        if (isOffset || bitOffset != Register.None || _random.Percent(30))
        {
            PlaceAbsolute(ref instruction, Target(size, _bits / 8, isAligned), isOffset);
        }
        else if (_bits == 16 && _random.Percent(75))
        {
            PlaceWord(ref instruction, size, isAligned);
        }
        else
        {
            PlaceBase(ref instruction, size, isAligned);
        }
    }

    private static Register BitOffset(in Instruction instruction) =>
        instruction.Mnemonic is Mnemonic.Bt or Mnemonic.Bts or Mnemonic.Btr or Mnemonic.Btc && instruction.Op1Kind == OpKind.Register
            ? instruction.Op1Register : Register.None;

    private void PlaceAbsolute(ref Instruction instruction, ulong target, bool isOffset)
    {
        if (_bits != 16 && _random.Percent(15))
        {
            instruction.SegmentPrefix = Register.FS;
            target -= StreamArena.FsBase;
        }
        else if (_bits == 64 && !isOffset && _random.Percent(50))
        {
            instruction.MemoryBase = Register.RIP;
        }

        instruction.MemoryDisplSize = _bits / 8;
        instruction.MemoryDisplacement64 = _bits == 64 ? target : (uint)target;
    }

    private void PlaceWord(ref Instruction instruction, int size, bool isAligned)
    {
        (Register baseRegister, Register index) = _random.Pick(WordShapes);
        bool isStack = baseRegister == Register.BP;
        ushort displacement = (ushort)(_random.Percent(30) ? 0 : _random.Next());
        ushort inIndex = (ushort)_random.Below(0x400);
        ulong target = isStack ? StackTarget() : Target(size, 2, isAligned);
        if (index != Register.None)
        {
            SetRegister(index.GetFullRegister(), inIndex);
        }

        SetRegister(baseRegister.GetFullRegister(), (ushort)(target - displacement - (index == Register.None ? 0u : inIndex)));
        instruction.MemoryBase = baseRegister;
        instruction.MemoryIndex = index;
        instruction.MemoryDisplSize = 2;
        instruction.MemoryDisplacement64 = displacement;
    }

    private void PlaceBase(ref Instruction instruction, int size, bool isAligned)
    {
        bool isDoubleword = _bits != 64 || _random.Percent(10);
        Register first = isDoubleword ? Register.EAX : Register.RAX;
        int count = _bits == 64 ? 16 : 8;
        int number = NotStackPointer(_random.Below(count));
        bool isStack = _bits == 16 && number == 5;
        ulong target = isStack ? StackTarget() : Target(size, isDoubleword ? 4 : 8, isAligned);
        long displacement = _random.Below(3) switch { 0 => 0, 1 => _random.Between(-128, 127), _ => _random.Between(-0x10_0000, 0x10_0000) };
        instruction.MemoryBase = first + number;
        int index = NotStackPointer(_random.Below(count));
        if (_random.Percent(40) && index != number)
        {
            long inIndex = _random.Between(-100, 100);
            int scale = 1 << _random.Below(4);
            instruction.MemoryIndex = first + index;
            instruction.MemoryIndexScale = scale;
            SetRegister(Register.RAX + index, (ulong)inIndex);
            target -= (ulong)(inIndex * scale);
        }

        SetRegister(Register.RAX + number, target - (ulong)displacement);
        instruction.MemoryDisplSize = isDoubleword ? 4 : 8;
        instruction.MemoryDisplacement64 = isDoubleword ? (uint)displacement : (ulong)displacement;
    }

    private static int NotStackPointer(int number) => number == 4 ? 3 : number;

    /// <summary>MOV of a constant, as wide as the mode's registers; in real mode 32 bits.</summary>
    private void SetRegister(Register full, ulong value)
    {
        int number = full - Register.RAX;
        Instruction move = _bits == 64
            ? Instruction.Create(Code.Mov_r64_imm64, full, value)
            : Instruction.Create(Code.Mov_r32_imm32, Register.EAX + number, (uint)value);
        _preparation.Add(move);
    }

    private ulong StackTarget() => arena.Stack + (ulong)_random.Between(0x200, 0x1C00);

    /// <summary>An address for an operand: mostly in the data area, at times where it faults.</summary>
    private ulong Target(int size, int addressSize, bool isAligned)
    {
        ulong inside = arena.Data + (ulong)_random.Between(0x200, 0x1C00);
        inside = isAligned ? inside & ~63UL : inside;
        ulong end = arena.Data + StreamArena.AreaSize;
        ulong target = _random.Below(200) switch
        {
            < 170 => inside,
            < 180 => arena.Data + StreamArena.PageSize - (ulong)_random.Below(size + 1),
            < 190 => end - (ulong)size,
            < 192 when _bits == 16 && HostEvidence.IsTranslated => inside,
            < 192 => _bits == 16 ? (ulong)(0x1_0000 - _random.Below(size + 1)) & 0xFFFF : end - (ulong)_random.Below(size),
            < 194 => _bits == 16 ? inside : arena.Data - (ulong)_random.Between(0, 20),
            < 197 => arena.ReadOnly + (ulong)_random.Below(3000),
            < 198 => addressSize == 8 ? 0x0000_8000_0000_0000 + (_random.Next() >> 18) : inside,
            _ => inside,
        };
        return _alwaysAligned ? target & ~15UL : target;
    }
}
