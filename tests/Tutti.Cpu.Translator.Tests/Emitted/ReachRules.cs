using Iced.Intel;
using Tutti.Host;

namespace Tutti.Cpu.Translator.Tests.Emitted;

/// <summary>
/// Accesses by a window: follows through the host's instructions how far each number is from another one, so that an address is known to lie in
/// the region whose distance is added to it, or in the guards of that.
/// </summary>
internal sealed class ReachRules
{
    /// <summary>Places of a <see cref="HostState"/>'s reaches: registers, then fields of the state.</summary>
    public const int Count = 16 + 19;

    private readonly InstructionInfoFactory _factory = new();

    /// <summary>Offsets in the state of the fields that are followed.</summary>
    private static readonly int[] s_fields = [.. Enumerable.Range(0, 16).Select(StateLayout.Gpr), StateLayout.CodePage, StateLayout.FsBase, StateLayout.GsBase];

    /// <summary>What is known of a memory operand's host address, or of a sum.</summary>
    public static Reach Address(HostState state, in Instruction instruction)
    {
        if (instruction.MemoryBase is Register.RSP or Register.RIP || instruction.MemoryBase.IsGPR32() || instruction.MemoryIndex.IsGPR32())
        {
            return Reach.Unknown;
        }

        Reach sum = instruction.MemoryBase == Register.None ? Reach.Constant(0) : state.Reaches[HostEvaluator.Number(instruction.MemoryBase)];
        if (instruction.MemoryIndex != Register.None)
        {
            sum = Reach.Sum(sum, state.Reaches[HostEvaluator.Number(instruction.MemoryIndex)].Multiplied(instruction.MemoryIndexScale));
        }
        else if (sum.Kind == ReachKind.Distance)
        {
            return Reach.Sum(sum, Reach.Constant((long)instruction.MemoryDisplacement64));
        }

        return Reach.Sum(sum, Reach.Constant((long)instruction.MemoryDisplacement64));
    }

    /// <summary>Whether the bytes are in the region whose place the address comes from, or around it where nothing is.</summary>
    public static bool IsNear(Reach address, int size) => address.Kind == ReachKind.Host && address.Low >= -AddressWindow.Guard && address.High + size <= AddressWindow.Guard;

    /// <summary>The instruction may fault, and is then gone on at with R14 and R15 made anew: what is known is what holds on both ways.</summary>
    public static void Retry(HostState state, int cached, int region, int place)
    {
        const int Mended = 48;
        foreach (int register in (ReadOnlySpan<int>)[HostRegister.Test, HostRegister.Address, HostRegister.Distance])
        {
            state.Registers[register] = state.Fresh(place, Mended + register);
        }

        Reach address = cached < 0 ? Reach.Unknown : state.Reaches[16 + cached];
        if (state.Reaches[HostRegister.Address] != address)
        {
            state.Reaches[HostRegister.Address] = Reach.Unknown;
        }

        Reach distance = region < 0 ? Reach.Unknown : state.Reaches[HostRegister.OfGuest(region) is >= 0 and int home ? home : 16 + region];
        distance = distance.Kind == ReachKind.Linear && distance.Root != Reach.Nothing ? distance with { Kind = ReachKind.Distance } : Reach.Unknown;
        state.Reaches[HostRegister.Distance] = Reach.Either(distance, state.Reaches[HostRegister.Distance]);
        state.Reaches[HostRegister.Test] = Reach.Unknown;
    }

    /// <summary>What the instruction leaves in registers and in the state.</summary>
    public void Apply(HostState state, in Instruction instruction, int place)
    {
        Reach result = Result(state, instruction);
        int to = instruction.OpCount > 0 && instruction.Op0Kind == OpKind.Register && instruction.Op0Register.IsGPR() ? HostEvaluator.Number(instruction.Op0Register) : -1;
        InstructionInfo info = _factory.GetInfo(instruction);
        Reach stored = instruction.Code == Code.Mov_rm64_r64 && instruction.Op0Kind == OpKind.Memory ? state.Reaches[HostEvaluator.Number(instruction.Op1Register)] : Reach.Unknown;
        foreach (UsedMemory used in info.GetUsedMemory())
        {
            if (used.Base == Register.RSP && used.Access is not (OpAccess.Read or OpAccess.CondRead or OpAccess.NoMemAccess))
            {
                Store(state, (long)used.Displacement, used.MemorySize.GetSize(), stored, place);
            }
        }

        foreach (UsedRegister used in info.GetUsedRegisters())
        {
            if (used.Register.IsGPR() && used.Access is OpAccess.Write or OpAccess.ReadWrite or OpAccess.CondWrite or OpAccess.ReadCondWrite)
            {
                int number = HostEvaluator.Number(used.Register);
                bool isKnown = number == to || (number == HostRegister.Rax && instruction.Mnemonic is Mnemonic.Cdqe or Mnemonic.Cwde)
                    || (number == HostRegister.Rdx && instruction.Mnemonic is Mnemonic.Cdq or Mnemonic.Cqo);
                state.Reaches[number] = isKnown && result.Root != Reach.Nothing ? result : state.FreshReach(place, number);
            }
        }
    }

    private static void Store(HostState state, long offset, int size, Reach value, int place)
    {
        for (int i = 0; i < s_fields.Length; i++)
        {
            if (offset < s_fields[i] + 8 && offset + size > s_fields[i])
            {
                bool isWhole = offset == s_fields[i] && value.Kind == ReachKind.Linear && value.Root != Reach.Nothing;
                state.Reaches[16 + i] = isWhole ? value : state.FreshReach(place, 16 + i);
            }
        }
    }

    /// <summary>The first operand's value afterwards, where that is all that is written.</summary>
    private static Reach Result(HostState state, in Instruction instruction)
    {
        switch (instruction.Code)
        {
            case Code.Lea_r64_m:
                return Address(state, instruction) is { Kind: ReachKind.Linear or ReachKind.Host } sum ? sum : Reach.Unknown;
            case Code.Mov_r64_rm64 or Code.Mov_rm64_r64:
                return Moved(state, instruction);
            case Code.VEX_Shrx_r64_rm64_r64 when instruction.Op2Register == Register.RSP:
                // The lowest bits of RSP are the count: see StateLayout.Bias.
                Reach source = Operand(state, instruction, 1);
                return source.Kind == ReachKind.Linear && source.Root != Reach.Nothing ? source with { Kind = ReachKind.Index } : new Reach(ReachKind.Index, int.MaxValue, 0, 0);
            case Code.Cdqe:
                return state.Reaches[HostRegister.Rax].IsSigned32 ? state.Reaches[HostRegister.Rax] : Reach.AnySigned32;
            case Code.Cwde or Code.Cdq:
                return Reach.Any32;
            case Code.Cqo:
                return Reach.Between(-1, 0);
        }

        if (instruction.OpCount == 0 || instruction.Op0Kind != OpKind.Register)
        {
            return Reach.Unknown;
        }

        Register to = instruction.Op0Register;
        return to.IsGPR64() ? Of64(state, instruction) : to.IsGPR32() ? Of32(state, instruction) : to.IsGPR() ? OfPart(state, instruction) : Reach.Unknown;
    }

    private static Reach Moved(HostState state, in Instruction instruction)
    {
        bool isTable = instruction.Op1Kind == OpKind.Memory && instruction.MemoryBase == Register.RSP && (int)instruction.MemoryDisplacement64 == StateLayout.Regions;
        if (!isTable)
        {
            Reach moved = Operand(state, instruction, 1);
            return moved;
        }

        // Every entry that is no region's leads to no address at all.
        Reach index = instruction.MemoryIndex == Register.None ? new Reach(ReachKind.Index, 0, 0, 0) : state.Reaches[HostEvaluator.Number(instruction.MemoryIndex)];
        return index.Kind == ReachKind.Index ? index with { Kind = ReachKind.Distance } : Reach.Unknown;
    }

    /// <summary>A register of 64 bits, a field of the state, or a constant.</summary>
    private static Reach Operand(HostState state, in Instruction instruction, int operand)
    {
        switch (instruction.GetOpKind(operand))
        {
            case OpKind.Register when instruction.GetOpRegister(operand).IsGPR():
                return state.Reaches[HostEvaluator.Number(instruction.GetOpRegister(operand))];
            case OpKind.Memory when instruction.MemoryBase == Register.RSP && instruction.MemoryIndex == Register.None:
                int field = Array.IndexOf(s_fields, (int)instruction.MemoryDisplacement64);
                return field < 0 ? Reach.Unknown : state.Reaches[16 + field];
            case OpKind.Immediate32:
                return Reach.Constant((int)instruction.Immediate32);
            case OpKind.Immediate8 or OpKind.Immediate8to32 or OpKind.Immediate8to64 or OpKind.Immediate32to64 or OpKind.Immediate64:
                return Reach.Constant((long)instruction.GetImmediate(operand));
            default:
                return Reach.Unknown;
        }
    }

    private static Reach Of64(HostState state, in Instruction instruction)
    {
        Reach first = state.Reaches[HostEvaluator.Number(instruction.Op0Register)];
        Reach second = instruction.OpCount > 1 ? Operand(state, instruction, 1) : Reach.Unknown;
        bool isSame = instruction.OpCount == 2 && instruction.Op1Kind == OpKind.Register && instruction.Op1Register == instruction.Op0Register;
        int count = instruction.OpCount > 1 && instruction.Op1Kind == OpKind.Immediate8 ? instruction.Immediate8 & 63 : -1;
        return instruction.Mnemonic switch
        {
            Mnemonic.Mov => second,
            Mnemonic.Xor or Mnemonic.Sub when isSame => Reach.Constant(0),
            Mnemonic.Movzx or Mnemonic.Movsx => Extended(instruction),
            Mnemonic.Movsxd => second.IsSigned32 ? second : Reach.AnySigned32,
            Mnemonic.Add => Linear(Reach.Sum(first, second)),
            Mnemonic.Sub => Reach.Difference(first, second),
            Mnemonic.Inc => Linear(Reach.Sum(first, Reach.Constant(1))),
            Mnemonic.Dec => Linear(Reach.Sum(first, Reach.Constant(-1))),
            Mnemonic.Neg => first.Multiplied(-1),
            Mnemonic.Imul when instruction.OpCount == 3 => second.Multiplied((long)instruction.GetImmediate(2)),
            Mnemonic.Popcnt or Mnemonic.Tzcnt or Mnemonic.Lzcnt => Reach.Between(0, 64),
            Mnemonic.And => Masked(first, second),
            Mnemonic.Shl when count is >= 0 and < 22 => first.Multiplied(1L << count),
            Mnemonic.Shr when count >= 0 => first is { IsNumber: true, Low: >= 0 } ? Reach.Between(first.Low >> count, first.High >> count)
                : count > 24 ? Reach.Between(0, (long)(ulong.MaxValue >> count)) : count == 0 ? first : Reach.Unknown,
            Mnemonic.Sar when count >= 0 => first.IsNumber ? Reach.Between(first.Low >> count, first.High >> count)
                : count > 24 ? Reach.Between(long.MinValue >> count, long.MaxValue >> count) : count == 0 ? first : Reach.Unknown,
            _ => instruction.Mnemonic.ToString().StartsWith("Cmov", StringComparison.Ordinal) ? Linear(Reach.Either(first, second)) : Reach.Unknown,
        };
    }

    private static Reach Linear(Reach reach) => reach.Kind == ReachKind.Linear ? reach : Reach.Unknown;

    private static Reach Extended(in Instruction instruction)
    {
        InstructionCodeSize source = instruction.Code is Code.Movzx_r64_rm8 or Code.Movsx_r64_rm8 or Code.Movzx_r32_rm8 ? InstructionCodeSize.Byte : InstructionCodeSize.Word;
        long values = source == InstructionCodeSize.Byte ? 1 << 8 : 1 << 16;
        return instruction.Mnemonic == Mnemonic.Movzx ? Reach.Between(0, values - 1) : Reach.Between(-values / 2, (values / 2) - 1);
    }

    private enum InstructionCodeSize
    {
        Byte,
        Word,
    }

    /// <summary>x AND mask: at most the mask, or x less what the mask's lowest bits may take away.</summary>
    private static Reach Masked(Reach value, Reach mask)
    {
        if (!mask.IsNumber || value.Kind != ReachKind.Linear)
        {
            return Reach.Unknown;
        }

        if (mask.Low >= 0)
        {
            return Reach.Between(0, value is { IsNumber: true, Low: >= 0 } ? Math.Min(mask.High, value.High) : mask.High);
        }

        return mask.Low == mask.High && value.Root != Reach.Nothing ? Reach.Sum(value, Reach.Between(mask.Low + 1, 0)) : Reach.Unknown;
    }

    /// <summary>What writes 32 bits clears the others: these do, whatever their operands.</summary>
    private static Reach Of32(HostState state, in Instruction instruction)
    {
        Reach first = state.Reaches[HostEvaluator.Number(instruction.Op0Register)];
        Reach second = instruction.OpCount > 1 ? Operand(state, instruction, 1) : Reach.Unknown;
        bool isImmediate = instruction.OpCount > 1 && instruction.Op1Kind is not (OpKind.Register or OpKind.Memory);
        bool isSame = instruction.OpCount == 2 && instruction.Op1Kind == OpKind.Register && instruction.Op1Register == instruction.Op0Register;
        switch (instruction.Mnemonic)
        {
            case Mnemonic.Mov:
                return isImmediate ? Reach.Constant(instruction.Immediate32) : Word(second);
            case Mnemonic.Movzx:
                return Extended(instruction);
            case Mnemonic.Xor or Mnemonic.Sub when isSame:
                return Reach.Constant(0);
            case Mnemonic.And:
                return isImmediate && second.Low >= 0 ? Masked(first.IsUnsigned32 ? first : Reach.Any32, second) : Reach.Any32;
            case Mnemonic.Add when isImmediate:
                return Word(Reach.Sum(first, second));
            case Mnemonic.Sub when isImmediate:
                return Word(Reach.Difference(first, second));
            case Mnemonic.Inc or Mnemonic.Dec:
                return Word(Reach.Sum(first, Reach.Constant(instruction.Mnemonic == Mnemonic.Inc ? 1 : -1)));
            case Mnemonic.Shr when isImmediate:
                return Reach.Between(0, uint.MaxValue >> (instruction.Immediate8 & 31));
            case Mnemonic.Imul:
                return instruction.OpCount > 1 ? Reach.Any32 : Reach.Unknown;
            case Mnemonic.Lea or Mnemonic.Add or Mnemonic.Sub or Mnemonic.Adc or Mnemonic.Sbb or Mnemonic.Or or Mnemonic.Xor or Mnemonic.Not or Mnemonic.Neg
                or Mnemonic.Movsx or Mnemonic.Movsxd or Mnemonic.Bswap or Mnemonic.Popcnt or Mnemonic.Tzcnt or Mnemonic.Lzcnt or Mnemonic.Andn
                or Mnemonic.Bextr or Mnemonic.Bzhi or Mnemonic.Shlx or Mnemonic.Shrx or Mnemonic.Sarx or Mnemonic.Rorx or Mnemonic.Pext or Mnemonic.Pdep
                or Mnemonic.Shl or Mnemonic.Shr or Mnemonic.Sar or Mnemonic.Rol or Mnemonic.Ror or Mnemonic.Movd or Mnemonic.Vmovd
                or Mnemonic.Pmovmskb or Mnemonic.Vpmovmskb:
                return Reach.Any32;
            default:
                return instruction.Mnemonic.ToString().StartsWith("Cmov", StringComparison.Ordinal) ? Reach.Any32 : Reach.Unknown;
        }
    }

    private static Reach Word(Reach value) => value.IsUnsigned32 ? value : Reach.Any32;

    /// <summary>One or two of the lowest bytes are written.</summary>
    private static Reach OfPart(HostState state, in Instruction instruction)
    {
        Reach before = state.Reaches[HostEvaluator.Number(instruction.Op0Register)];
        return before.IsNumber ? Reach.Between(before.Low & ~0xFFFFL, before.High | 0xFFFF) : Reach.Unknown;
    }
}
