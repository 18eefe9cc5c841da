using Iced.Intel;

namespace Tutti.Cpu.Interpreter.Tests.Oracle;

/// <summary>One encoded instruction of a form.</summary>
internal sealed class EncodedForm
{
    public required byte[] Bytes { get; init; }

    /// <summary>As decoded again from the bytes.</summary>
    public required Instruction Instruction { get; init; }

    public required ulong Address { get; init; }

    /// <summary>64 for 64-bit mode, 32 for compatibility mode.</summary>
    public required int Bits { get; init; }

    /// <summary>Whether a ModRM or offset operand reads or writes memory (an LEA or NOP does not).</summary>
    public bool Accesses { get; init; }
}

/// <summary>Makes encodings of a form: random registers, addressing, prefixes and immediates.</summary>
internal sealed class FormEncoder(SeededRandom random, int bits)
{
    private readonly int _registers = bits == 64 ? 16 : 8;

    /// <summary>Offsets from the instruction at which control may land, in order of pad numbers from 1.</summary>
    public static readonly long[] PadOffsets = [0x40, -0x40, 0x300, -0x300];

    private const int Attempts = 200;

    private static readonly (Register Base, Register Index)[] WordShapes =
    [
        (Register.BX, Register.SI), (Register.BX, Register.DI), (Register.BP, Register.SI), (Register.BP, Register.DI),
        (Register.SI, Register.None), (Register.DI, Register.None), (Register.BP, Register.None), (Register.BX, Register.None),
    ];

    private static readonly byte[] IgnoredPrefixes = [0x26, 0x2E, 0x36, 0x3E];

    private readonly List<byte> _bytes = [];

    /// <summary>Null when the form cannot be reached: its bytes mean something else.</summary>
    public EncodedForm? Encode(Code code)
    {
        for (int attempt = 0; attempt < Attempts; attempt++)
        {
            ulong address = ArenaLayout.Instruction + (ulong)random.Below(64);
            if (random.Percent(10))
            {
                address = ArenaLayout.Code + ArenaLayout.PageSize - 1 - (ulong)random.Below(8);
            }

            if (TryEncode(code, address, out EncodedForm? form))
            {
                return form;
            }
        }

        return null;
    }

    private bool TryEncode(Code code, ulong address, out EncodedForm? form)
    {
        form = null;
        OpCodeInfo info = code.ToOpCode();
        Instruction instruction = default;
        instruction.Code = code;
        for (int i = 0; i < info.OpCount; i++)
        {
            SetOperand(ref instruction, info, i, address);
        }

        SetPrefixes(ref instruction, info);
        byte[] prefix = !code.ToOpCode().IsReservedNop && code.FlowControl() == FlowControl.Next && random.Percent(8) ? [random.Pick(IgnoredPrefixes)] : [];
        _bytes.Clear();
        _bytes.AddRange(prefix);
        var encoder = Encoder.Create(bits, new ListWriter(_bytes));
        if (!encoder.TryEncode(instruction, address + (ulong)prefix.Length, out _, out _) || _bytes.Count > 15)
        {
            return false;
        }

        var decoder = Decoder.Create(bits, [.. _bytes]);
        decoder.IP = address;
        decoder.Decode(out Instruction decoded);
        if (decoded.Code != code || decoded.Length != _bytes.Count || !IsSafe(decoded))
        {
            return false;
        }

        bool hasMemory = Enumerable.Range(0, decoded.OpCount).Any(i => decoded.GetOpKind(i) == OpKind.Memory);
        form = new EncodedForm
        {
            Bytes = [.. _bytes],
            Instruction = decoded,
            Address = address,
            Bits = bits,
            Accesses = hasMemory && decoded.Mnemonic is not (Mnemonic.Lea or Mnemonic.Nop or Mnemonic.Reservednop)
                && !decoded.Mnemonic.ToString().StartsWith("Prefetch", StringComparison.Ordinal),
        };
        return true;
    }

    /// <summary>Whether case generation can choose the address that the instruction makes.</summary>
    private static bool IsSafe(in Instruction instruction)
    {
        if (instruction.CpuidFeatures[0] == CpuidFeature.SHA && instruction.OpCount > 1 && instruction.Op1Kind == OpKind.Memory)
        {
            // Only aligned operands are compared.
            return instruction.MemoryIndex == Register.None && instruction.MemoryBase != Register.None && !instruction.IsIPRelativeMemoryOperand;
        }

        // A bit offset from a register that also makes the address could reach anywhere.
        bool isBitOffset = instruction.Mnemonic is Mnemonic.Bt or Mnemonic.Bts or Mnemonic.Btr or Mnemonic.Btc
            && instruction.Op0Kind == OpKind.Memory && instruction.Op1Kind == OpKind.Register;
        return !isBitOffset || !UsesInAddress(instruction, instruction.Op1Register);
    }

    private static bool UsesInAddress(in Instruction instruction, Register register)
    {
        Register full = register.GetFullRegister();
        return instruction.MemoryBase.GetFullRegister() == full || instruction.MemoryIndex.GetFullRegister() == full;
    }

    private void SetPrefixes(ref Instruction instruction, OpCodeInfo info)
    {
        if (info.CanUseLockPrefix && instruction.Op0Kind == OpKind.Memory && random.Percent(40))
        {
            instruction.HasLockPrefix = true;
        }

        // REP in front of RET and of nothing-to-repeat is not what the manuals define; strings are.
        bool isString = instruction.Op0Kind is >= OpKind.MemorySegSI and <= OpKind.MemoryESRDI || instruction.Op1Kind is >= OpKind.MemorySegSI and <= OpKind.MemoryESRDI;
        if (isString && info.CanUseRepPrefix && random.Percent(40))
        {
            instruction.HasRepPrefix = true;
        }
        else if (isString && info.CanUseRepnePrefix && random.Percent(40))
        {
            instruction.HasRepnePrefix = true;
        }
    }

    private void SetOperand(ref Instruction instruction, OpCodeInfo info, int index, ulong address)
    {
        OpCodeOperandKind kind = info.GetOpKind(index);
        string name = kind.ToString();
        if (kind == OpCodeOperandKind.mem || (name.EndsWith("_or_mem", StringComparison.Ordinal) && random.Percent(50)))
        {
            SetMemory(ref instruction, index);
            return;
        }

        if (name.StartsWith("mem_vsib", StringComparison.Ordinal))
        {
            SetVectorMemory(ref instruction, index, name.EndsWith('y') ? Register.YMM0 : Register.XMM0);
            return;
        }

        if (RegisterOf(kind, name) is { } register)
        {
            instruction.SetOpKind(index, OpKind.Register);
            instruction.SetOpRegister(index, register);
            return;
        }

        if (name.StartsWith("imm", StringComparison.Ordinal))
        {
            SetImmediate(ref instruction, kind, index);
            return;
        }

        bool isShort = random.Percent(15);
        switch (kind)
        {
            case OpCodeOperandKind.br64_1:
            case OpCodeOperandKind.br64_4:
                long offset = kind == OpCodeOperandKind.br64_1 ? PadOffsets[random.Below(2)] : random.Pick(PadOffsets);
                instruction.SetOpKind(index, OpKind.NearBranch64);
                instruction.NearBranch64 = (ulong)((long)address + offset);
                break;
            case OpCodeOperandKind.br16_1 or OpCodeOperandKind.br16_2 or OpCodeOperandKind.br32_1 or OpCodeOperandKind.br32_4:
                SetLegacyBranch(ref instruction, kind, index, address);
                break;
            case OpCodeOperandKind.es_rDI:
                instruction.SetOpKind(index, Sized(SameSize(instruction, index, isShort), OpKind.MemoryESDI, OpKind.MemoryESEDI, OpKind.MemoryESRDI));
                break;
            case OpCodeOperandKind.seg_rSI:
                instruction.SetOpKind(index, Sized(SameSize(instruction, index, isShort), OpKind.MemorySegSI, OpKind.MemorySegESI, OpKind.MemorySegRSI));
                break;
            case OpCodeOperandKind.seg_rDI:
                instruction.SetOpKind(index, Sized(isShort, OpKind.MemorySegDI, OpKind.MemorySegEDI, OpKind.MemorySegRDI));
                break;
            case OpCodeOperandKind.seg_rBX_al:
                instruction.SetOpKind(index, OpKind.Memory);
                instruction.MemoryBase = Sized(isShort, Register.BX, Register.EBX, Register.RBX);
                instruction.MemoryIndex = Register.AL;
                instruction.MemoryIndexScale = 1;
                break;
            case OpCodeOperandKind.mem_offs:
                instruction.SetOpKind(index, OpKind.Memory);
                SetAbsolute(ref instruction, isShort);
                break;
            default:
                throw new NotSupportedException($"Operand kind {kind} of {instruction.Code}.");
        }
    }

    private void SetLegacyBranch(ref Instruction instruction, OpCodeOperandKind kind, int index, ulong address)
    {
        bool isByte = kind is OpCodeOperandKind.br16_1 or OpCodeOperandKind.br32_1;
        ulong target = (ulong)((long)address + (isByte ? PadOffsets[random.Below(2)] : random.Pick(PadOffsets)));
        bool is16 = kind is OpCodeOperandKind.br16_1 or OpCodeOperandKind.br16_2;
        instruction.SetOpKind(index, is16 ? OpKind.NearBranch16 : OpKind.NearBranch32);
        instruction.NearBranch64 = is16 ? (ushort)target : (uint)target;
    }

    /// <summary>What has the mode's own address size, or the one that prefix 67h chooses.</summary>
    private T Sized<T>(bool isShort, T word, T doubleword, T quadword) =>
        (bits, isShort) switch
        {
            (64, false) => quadword,
            (64, true) or (_, false) => doubleword,
            _ => word,
        };

    /// <summary>Both operands of a string instruction have the address size of the first one.</summary>
    private bool SameSize(in Instruction instruction, int index, bool isShort) =>
        index == 0 || instruction.GetOpKind(0) == OpKind.Register ? isShort
            : instruction.GetOpKind(0) == Sized(true, OpKind.MemoryESDI, OpKind.MemoryESEDI, default)
                || instruction.GetOpKind(0) == Sized(true, OpKind.MemorySegSI, OpKind.MemorySegESI, default);

    private void SetAbsolute(ref Instruction instruction, bool isShort)
    {
        instruction.MemoryDisplSize = Sized(isShort, 2, 4, 8);
        instruction.MemoryDisplacement64 = DataTarget(instruction.MemoryDisplSize);
    }

    private Register? RegisterOf(OpCodeOperandKind kind, string name)
    {
        switch (kind)
        {
            case OpCodeOperandKind.al:
                return Register.AL;
            case OpCodeOperandKind.cl:
                return Register.CL;
            case OpCodeOperandKind.ax:
                return Register.AX;
            case OpCodeOperandKind.dx:
                return Register.DX;
            case OpCodeOperandKind.eax:
                return Register.EAX;
            case OpCodeOperandKind.rax:
                return Register.RAX;
            case OpCodeOperandKind.es:
                return Register.ES;
            case OpCodeOperandKind.cs:
                return Register.CS;
            case OpCodeOperandKind.ss:
                return Register.SS;
            case OpCodeOperandKind.ds:
                return Register.DS;
            case OpCodeOperandKind.fs:
                return Register.FS;
            case OpCodeOperandKind.gs:
                return Register.GS;
            case OpCodeOperandKind.seg_reg:
                return Register.ES + random.Below(6);
            case OpCodeOperandKind.st0:
                return Register.ST0;
            case OpCodeOperandKind.sti_opcode:
                return Register.ST0 + random.Below(8);
        }

        int number = random.Percent(3) ? 4 : random.Below(_registers);
        return name.Split('_')[0] switch
        {
            "r8" => random.Percent(bits == 64 ? 25 : 50) ? Register.AH + random.Below(4) : ByteRegister(bits == 64 ? number : number & 3),
            "r16" => Register.AX + number,
            "r32" => Register.EAX + number,
            "r64" => Register.RAX + number,
            "xmm" => Register.XMM0 + random.Below(_registers),
            "ymm" => Register.YMM0 + random.Below(_registers),
            "mm" => Register.MM0 + random.Below(8),
            _ => null,
        };
    }

    private static Register ByteRegister(int number) => number switch
    {
        < 4 => Register.AL + number,
        < 8 => Register.SPL + (number - 4),
        _ => Register.R8L + (number - 8),
    };

    private void SetImmediate(ref Instruction instruction, OpCodeOperandKind kind, int index)
    {
        bool second = index > 0 && instruction.GetOpKind(index - 1) is OpKind.Immediate16 or OpKind.Immediate8;
        (OpKind opKind, ulong value) = kind switch
        {
            OpCodeOperandKind.imm8_const_1 => (OpKind.Immediate8, 1UL),
            OpCodeOperandKind.imm8 when second => (OpKind.Immediate8_2nd, (ulong)random.Below(random.Percent(90) ? 4 : 64)),
            OpCodeOperandKind.imm8 => (OpKind.Immediate8, random.Percent(50) ? (ulong)random.Below(72) : (byte)random.Value()),
            OpCodeOperandKind.imm8sex16 => (OpKind.Immediate8to16, (ulong)(sbyte)random.Value()),
            OpCodeOperandKind.imm8sex32 => (OpKind.Immediate8to32, (ulong)(sbyte)random.Value()),
            OpCodeOperandKind.imm8sex64 => (OpKind.Immediate8to64, (ulong)(sbyte)random.Value()),
            OpCodeOperandKind.imm16 when instruction.Mnemonic is Mnemonic.Enter or Mnemonic.Ret => (OpKind.Immediate16, (ulong)random.Below(0x300)),
            OpCodeOperandKind.imm16 => (OpKind.Immediate16, (ushort)random.Value()),
            OpCodeOperandKind.imm32 => (OpKind.Immediate32, (uint)random.Value()),
            OpCodeOperandKind.imm32sex64 => (OpKind.Immediate32to64, (ulong)(int)random.Value()),
            _ => (OpKind.Immediate64, random.Value()),
        };
        instruction.SetOpKind(index, opKind);
        instruction.SetImmediate(index, value);
    }

    private ulong DataTarget(int addressSize) => ArenaLayout.Operands(addressSize) + ((ulong)random.Between(0x10, 0x1E0) << 4) + (random.Percent(50) ? 0 : (ulong)random.Below(16));

    private void SetMemory(ref Instruction instruction, int index)
    {
        instruction.SetOpKind(index, OpKind.Memory);
        instruction.MemoryIndexScale = 1;
        bool isShort = random.Percent(12);
        if (isShort && bits == 32)
        {
            SetWordMemory(ref instruction);
            return;
        }

        Register first = Sized(isShort, Register.None, Register.EAX, Register.RAX);
        Register baseRegister = first + random.Below(_registers);
        Register indexRegister = first + random.Below(_registers);
        int shape = random.Below(20);
        if (shape < 14)
        {
            instruction.MemoryBase = baseRegister;
            SetDisplacement(ref instruction);
            if (shape >= 7 && indexRegister != first + 4)
            {
                instruction.MemoryIndex = indexRegister;
                instruction.MemoryIndexScale = 1 << random.Below(4);
            }

            return;
        }

        SetAbsolute(ref instruction, isShort);
        if (shape < 16 && indexRegister != first + 4)
        {
            instruction.MemoryIndex = indexRegister;
            instruction.MemoryIndexScale = 1 << random.Below(4);
        }
        else if (shape < 19 && bits == 64)
        {
            instruction.MemoryBase = isShort ? Register.EIP : Register.RIP;
        }
    }

    /// <summary>The operand of a gather: its index is a vector register.</summary>
    private void SetVectorMemory(ref Instruction instruction, int index, Register firstIndex)
    {
        bool isShort = bits == 64 && random.Percent(12);
        instruction.SetOpKind(index, OpKind.Memory);
        instruction.MemoryIndex = firstIndex + random.Below(_registers);
        instruction.MemoryIndexScale = 1 << random.Below(4);
        if (random.Percent(15))
        {
            SetAbsolute(ref instruction, isShort);
            return;
        }

        instruction.MemoryBase = Sized(isShort, Register.None, Register.EAX, Register.RAX) + random.Below(_registers);
        SetDisplacement(ref instruction);
    }

    /// <summary>The eight 16-bit forms, and the displacement alone.</summary>
    private void SetWordMemory(ref Instruction instruction)
    {
        int shape = random.Below(9);
        if (shape == 8)
        {
            SetAbsolute(ref instruction, isShort: true);
            return;
        }

        (instruction.MemoryBase, instruction.MemoryIndex) = WordShapes[shape];
        SetDisplacement(ref instruction);
    }

    private void SetDisplacement(ref Instruction instruction)
    {
        switch (random.Below(3))
        {
            case 0:
                instruction.MemoryDisplSize = 0;
                break;
            case 1:
                instruction.MemoryDisplSize = 1;
                instruction.MemoryDisplacement64 = (ulong)random.Between(-128, 127);
                break;
            default:
                instruction.MemoryDisplSize = instruction.MemoryBase.GetSize();
                instruction.MemoryDisplacement64 = instruction.MemoryDisplSize == 2
                    ? (ushort)random.Next()
                    : (ulong)random.Between(int.MinValue, int.MaxValue);
                break;
        }
    }

    private sealed class ListWriter(List<byte> bytes) : CodeWriter
    {
        public override void WriteByte(byte value) => bytes.Add(value);
    }
}
