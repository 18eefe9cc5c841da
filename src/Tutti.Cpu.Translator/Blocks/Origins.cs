using Iced.Intel;

namespace Tutti.Cpu.Translator;

/// <summary>
/// Follows where the values of general registers come from, one instruction after the other: addresses that have one origin, with something small
/// added, lie in one region of a window or its guards. What is not known to keep an origin begins a new one.
/// </summary>
internal sealed class Origins
{
    /// <summary>As the number of a register: the linear address of the page that the code runs in.</summary>
    public const int CodePage = 16;

    /// <summary>FS.</summary>
    public const int Fs = 17;

    /// <summary>GS.</summary>
    public const int Gs = 18;

    private const int Count = 19;
    private const int Rax = 0;
    private const int Rdx = 2;
    private const int Rsp = 4;
    private const int Rbp = 5;
    private const int AllRegisters = 0xFFFF;

    private readonly OriginValue[] _values = new OriginValue[Count];

    /// <summary>When each of them was written.</summary>
    private readonly int[] _times = new int[Count];

    private int _time;
    private int _next;

    /// <summary>The value of a guest's register, or of what else has a number here.</summary>
    public OriginValue this[int register] => _values[register];

    /// <summary>Nothing is known any more, as where jumps come together.</summary>
    public void Clear()
    {
        _time = 0;
        _next = OriginValue.Zero + 1;
        for (int i = 0; i < Count; i++)
        {
            _values[i] = new OriginValue(_next++, 0, 0);
            _times[i] = 0;
        }
    }

    /// <summary>
    /// Where something lies from which an address is nearer than <paramref name="reach"/>: what was written first, so that nobody waits for it; -1
    /// where there is nothing.
    /// </summary>
    public int FindOldest(OriginValue address, long reach)
    {
        int found = -1;
        for (int i = 0; i < Count; i++)
        {
            if (_values[i].Origin == address.Origin && address.IsNear(_values[i], reach)
                && (found < 0 || _times[i] < _times[found] || (_times[i] == _times[found] && !HasHome(found))))
            {
                found = i;
            }
        }

        return found;
    }

    /// <summary>The guest's register from whose value an address is nearer than <paramref name="reach"/>, with the closest bounds; -1 where there is none.</summary>
    public int FindClosest(OriginValue address, long reach)
    {
        int found = -1;
        for (int i = 0; i < CodePage; i++)
        {
            OriginValue value = _values[i];

            // What is small but below 0 has another region than its origin.
            if (value.Origin == address.Origin && address.IsNear(value, reach) && !(value.IsNumber && value.Low < 0)
                && (found < 0 || value.High - value.Low < _values[found].High - _values[found].Low))
            {
                found = i;
            }
        }

        return found;
    }

    /// <summary>The linear address of an instruction's memory operand.</summary>
    public OriginValue AddressOf(in Instruction instruction)
    {
        OriginValue address = EffectiveAddress(instruction);
        return instruction.MemorySegment switch
        {
            Register.FS => address.Plus(_values[Fs]),
            Register.GS => address.Plus(_values[Gs]),
            _ => address,
        };
    }

    /// <summary>Takes note of what an instruction does to the registers.</summary>
    public void Apply(in Instruction instruction, CopyRule rule)
    {
        _time++;
        if (TryApplyStack(instruction))
        {
            return;
        }

        if (instruction.Code is Code.Lea_r64_m or Code.Lea_r32_m)
        {
            OriginValue address = EffectiveAddress(instruction);
            bool isWord = instruction.Code == Code.Lea_r32_m && !address.IsWithin(0, uint.MaxValue);
            Set(Number(instruction.Op0Register), isWord ? OriginValue.Word : address);
            return;
        }

        // What reads an operand without a field would count as written.
        int written = instruction.Mnemonic is Mnemonic.Cmp or Mnemonic.Test ? 0 : AccessGroups.Written(instruction, rule);
        if (written == 0)
        {
            return;
        }

        (int register, OriginValue value) = rule.CanCopy ? Result(instruction) : (-1, default);
        for (int i = 0; i < CodePage; i++)
        {
            if (((written >> i) & 1) != 0)
            {
                Set(i, i == register ? value : default);
            }
        }

        if (written == AllRegisters)
        {
            // Whatever it is: it may have written a segment's base.
            Set(Fs, default);
            Set(Gs, default);
        }
    }

    private static bool HasHome(int register) => register < CodePage && HostRegister.OfGuest(register) != HostRegister.InState;

    private static int Number(Register register) => register.GetFullRegister() - Register.RAX;

    private void Set(int register, OriginValue value)
    {
        _values[register] = value.IsKnown ? value : new OriginValue(_next++, 0, 0);
        _times[register] = _time;
    }

    private OriginValue EffectiveAddress(in Instruction instruction)
    {
        Register first = instruction.MemoryBase;
        Register index = instruction.MemoryIndex;
        if (first.IsGPR32() || index.IsGPR32() || first == Register.EIP)
        {
            return OriginValue.Word;
        }

        OriginValue sum = first == Register.RIP ? _values[CodePage] : first.IsGPR64() ? _values[Number(first)] : OriginValue.Number(0, 0);
        if (index != Register.None)
        {
            sum = sum.Plus(index.IsGPR64() ? _values[Number(index)].Times(instruction.MemoryIndexScale) : default);
        }

        return sum.Plus((long)instruction.MemoryDisplacement64);
    }

    private bool TryApplyStack(in Instruction instruction)
    {
        switch (instruction.Code)
        {
            case Code.Push_r64 or Code.Push_rm64 or Code.Pushq_imm32 or Code.Pushq_imm8 or Code.Pushfq:
                Set(Rsp, _values[Rsp].Plus(-8));
                return true;
            case Code.Pop_r64:
                Set(Rsp, _values[Rsp].Plus(8));
                Set(Number(instruction.Op0Register), default);
                return true;
            case Code.Leaveq:
                Set(Rsp, _values[Rbp].Plus(8));
                Set(Rbp, default);
                return true;
            default:
                return false;
        }
    }

    /// <summary>The one register that an instruction writes, and its value, where something is known of that.</summary>
    private (int Register, OriginValue Value) Result(in Instruction instruction)
    {
        switch (instruction.Mnemonic)
        {
            case Mnemonic.Cdqe:
                return (Rax, SignedWord(_values[Rax]));
            case Mnemonic.Cwde:
                return (Rax, OriginValue.Word);
            case Mnemonic.Cdq:
                return (Rdx, OriginValue.Word);
            case Mnemonic.Cqo:
                return (Rdx, OriginValue.Number(-1, 0));
        }

        if (instruction.OpCount == 0 || instruction.Op0Kind != OpKind.Register || !instruction.Op0Register.IsGPR())
        {
            return (-1, default);
        }

        Register to = instruction.Op0Register;
        OriginValue value = to.IsGPR64() ? Result64(instruction) : to.IsGPR32() ? Result32(instruction) : ResultOfPart(instruction);
        return (Number(to), value);
    }

    private OriginValue Result64(in Instruction instruction)
    {
        OriginValue before = _values[Number(instruction.Op0Register)];
        if (instruction.Mnemonic is Mnemonic.Xor or Mnemonic.Sub && IsSame(instruction))
        {
            return OriginValue.Number(0, 0);
        }

        switch (instruction.Mnemonic)
        {
            case Mnemonic.Mov:
                return Second(instruction);
            case Mnemonic.Movzx:
                return OriginValue.Number(0, instruction.Code == Code.Movzx_r64_rm8 ? byte.MaxValue : ushort.MaxValue);
            case Mnemonic.Movsx:
                return instruction.Code == Code.Movsx_r64_rm8 ? OriginValue.Number(sbyte.MinValue, sbyte.MaxValue) : OriginValue.Number(short.MinValue, short.MaxValue);
            case Mnemonic.Movsxd:
                return SignedWord(instruction.Op1Kind == OpKind.Register ? _values[Number(instruction.Op1Register)] : default);
            case Mnemonic.Add:
                return before.Plus(Second(instruction));
            case Mnemonic.Sub:
                return before.Minus(Second(instruction));
            case Mnemonic.Inc:
                return before.Plus(1);
            case Mnemonic.Dec:
                return before.Plus(-1);
            case Mnemonic.Neg:
                return before.Times(-1);
            case Mnemonic.And:
                return And(before, Second(instruction));
            case Mnemonic.Imul when instruction.OpCount == 3 && instruction.Op1Kind == OpKind.Register:
                return _values[Number(instruction.Op1Register)].Times((long)instruction.GetImmediate(2));
            case Mnemonic.Shl or Mnemonic.Shr or Mnemonic.Sar when instruction.Op1Kind == OpKind.Immediate8:
                return Shift(instruction.Mnemonic, before, instruction.Immediate8 & 63);
            case Mnemonic.Popcnt or Mnemonic.Tzcnt or Mnemonic.Lzcnt:
                return OriginValue.Number(0, 64);
            default:
                return IsConditionalMove(instruction) ? before.Or(Second(instruction)) : default;
        }
    }

    private static bool IsSame(in Instruction instruction) => instruction.Op1Kind == OpKind.Register && instruction.Op1Register == instruction.Op0Register;

    private static bool IsConditionalMove(in Instruction instruction) => instruction.Mnemonic is >= Mnemonic.Cmova and <= Mnemonic.Cmovs;

    /// <summary>The second operand of an instruction on 64 bits.</summary>
    private OriginValue Second(in Instruction instruction) => instruction.Op1Kind switch
    {
        OpKind.Register => instruction.Op1Register.IsGPR64() ? _values[Number(instruction.Op1Register)] : default,
        OpKind.Immediate8to64 or OpKind.Immediate32to64 or OpKind.Immediate64 => OriginValue.Number((long)instruction.GetImmediate(1), (long)instruction.GetImmediate(1)),
        _ => default,
    };

    private static OriginValue SignedWord(OriginValue value) => value.IsWithin(int.MinValue, int.MaxValue) ? value : OriginValue.SignedWord;

    /// <summary>A mask of low bits bounds; one of high bits takes away less than the lowest of them.</summary>
    private static OriginValue And(OriginValue value, OriginValue mask)
    {
        if (mask.IsNumber && mask.Low >= 0)
        {
            return OriginValue.Number(0, value.IsNumber && value.Low >= 0 ? Math.Min(value.High, mask.High) : mask.High);
        }

        return mask.IsNumber && mask.Low == mask.High && value.IsKnown ? value.Minus(OriginValue.Number(0, ~mask.Low)) : default;
    }

    private static OriginValue Shift(Mnemonic mnemonic, OriginValue value, int count)
    {
        if (mnemonic == Mnemonic.Shl)
        {
            return count < 20 ? value.Times(1L << count) : default;
        }

        bool isSigned = mnemonic == Mnemonic.Sar;
        if (value.IsNumber && (isSigned || value.Low >= 0))
        {
            return OriginValue.Number(value.Low >> count, value.High >> count);
        }

        if (count == 0)
        {
            return value;
        }

        return isSigned ? OriginValue.Number(long.MinValue >> count, long.MaxValue >> count) : OriginValue.Number(0, (long)(ulong.MaxValue >> count));
    }

    /// <summary>What an instruction leaves that writes 32 bits, and so all: not each does always (BSF, where there is no bit).</summary>
    private OriginValue Result32(in Instruction instruction)
    {
        OriginValue before = _values[Number(instruction.Op0Register)];
        bool isRegister = instruction.OpCount > 1 && instruction.Op1Kind == OpKind.Register && instruction.Op1Register.IsGPR32();
        bool isImmediate = instruction.OpCount > 1 && instruction.Op1Kind is OpKind.Immediate8to32 or OpKind.Immediate32;
        long constant = isImmediate ? (int)instruction.GetImmediate(1) : 0;
        OriginValue value;
        switch (instruction.Mnemonic)
        {
            case Mnemonic.Xor or Mnemonic.Sub when IsSame(instruction):
                return OriginValue.Number(0, 0);
            case Mnemonic.Mov:
                value = isImmediate ? OriginValue.Number((uint)constant, (uint)constant) : isRegister ? _values[Number(instruction.Op1Register)] : default;
                break;
            case Mnemonic.Movzx:
                return OriginValue.Number(0, instruction.Code == Code.Movzx_r32_rm8 ? byte.MaxValue : ushort.MaxValue);
            case Mnemonic.And when isImmediate && constant >= 0:
                return And(before.IsWithin(0, uint.MaxValue) ? before : default, OriginValue.Number(constant, constant));
            case Mnemonic.Add when isImmediate:
                value = before.Plus(constant);
                break;
            case Mnemonic.Sub when isImmediate:
                value = before.Plus(-constant);
                break;
            case Mnemonic.Inc or Mnemonic.Dec:
                value = before.Plus(instruction.Mnemonic == Mnemonic.Inc ? 1 : -1);
                break;
            case Mnemonic.Shr when instruction.Op1Kind == OpKind.Immediate8:
                return OriginValue.Number(0, uint.MaxValue >> (instruction.Immediate8 & 31));
            case Mnemonic.Add or Mnemonic.Sub or Mnemonic.Adc or Mnemonic.Sbb or Mnemonic.And or Mnemonic.Or or Mnemonic.Xor or Mnemonic.Not
                or Mnemonic.Neg or Mnemonic.Imul or Mnemonic.Movsx or Mnemonic.Movsxd or Mnemonic.Bswap or Mnemonic.Popcnt or Mnemonic.Andn
                or Mnemonic.Tzcnt or Mnemonic.Lzcnt or Mnemonic.Movd or Mnemonic.Vmovd or Mnemonic.Pmovmskb or Mnemonic.Vpmovmskb or Mnemonic.Bextr or Mnemonic.Bzhi or Mnemonic.Shlx or Mnemonic.Shrx or Mnemonic.Sarx or Mnemonic.Rorx or Mnemonic.Pext or Mnemonic.Pdep:
                return IsWhole(instruction) ? OriginValue.Word : default;
            case Mnemonic.Shl or Mnemonic.Sar or Mnemonic.Rol or Mnemonic.Ror:
                return OriginValue.Word;
            default:
                return IsConditionalMove(instruction) ? OriginValue.Word : default;
        }

        return value.IsWithin(0, uint.MaxValue) ? value : OriginValue.Word;
    }

    /// <summary>IMUL with one operand writes others.</summary>
    private static bool IsWhole(in Instruction instruction) => instruction.Mnemonic != Mnemonic.Imul || instruction.OpCount > 1;

    /// <summary>A byte or a word of a register is written: what it is a small number of stays one.</summary>
    private OriginValue ResultOfPart(in Instruction instruction)
    {
        OriginValue before = _values[Number(instruction.Op0Register)];

        // CH is written by turning all of RCX.
        return before.IsNumber && instruction.Op0Register != Register.CH && instruction.Mnemonic is not (Mnemonic.Xchg or Mnemonic.Xadd or Mnemonic.Cmpxchg or Mnemonic.Mul or Mnemonic.Imul)
            ? OriginValue.Number(before.Low & ~(long)ushort.MaxValue, before.High | ushort.MaxValue)
            : default;
    }
}
