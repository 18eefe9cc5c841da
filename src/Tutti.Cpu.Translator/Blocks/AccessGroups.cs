using Iced.Intel;
using Tutti.Cpu.Interpreter;

namespace Tutti.Cpu.Translator;

/// <summary>Memory operands of a block that lie near each other: one lookup serves all.</summary>
internal sealed class AccessGroup
{
    /// <summary>Index in the block of the instruction whose lookup serves the others.</summary>
    public int Leader { get; init; }

    /// <summary>The first byte: a displacement from the base, as it is at the leader.</summary>
    public int Low { get; set; }

    /// <summary>One past the last byte.</summary>
    public int High { get; set; }

    public bool IsWrite { get; init; }

    /// <summary>All operands have 16 bytes and must be aligned to that.</summary>
    public bool NeedsAlignment { get; init; }

    /// <summary>All operands are addressed by RSP alone.</summary>
    public bool IsOfStack { get; init; }

    public int Members { get; set; } = 1;

    /// <summary>Where in the state the host address of <see cref="Low"/> is kept; -1 where the group has no other members or no place.</summary>
    public int Slot { get; set; } = -1;
}

/// <summary>What an instruction has of a group.</summary>
/// <param name="Displacement">Of its operand, from the base as it is at the leader.</param>
internal readonly record struct GroupMember(AccessGroup? Group, int Displacement);

/// <summary>
/// Finds the groups of a block before it is emitted: operands with the same base and index registers, not changed in between, whose
/// displacements are near. Reads may be served by a write's lookup, never the other way round: that would ask for rights too early.
/// </summary>
internal sealed class AccessGroups
{
    /// <summary>Bytes that a group spans at most. A group that crosses a page's end costs an exit, so it is not wide.</summary>
    private const int MaxSpan = 192;

    private const int Rax = 1 << 0;
    private const int Rcx = 1 << 1;
    private const int Rdx = 1 << 2;
    private const int All = 0xFFFF;

    /// <summary>Changes of a register by constants that are followed, in all.</summary>
    private const int MaxMoved = 1 << 20;

    private const int Alignment = 16;

    /// <summary>Displacements from here on stay alone: sums and differences of the others, and what has been added, fit 32 bits.</summary>
    private const long MaxDisplacement = 1 << 28;

    private readonly record struct Key(Register Base, int BaseVersion, Register Index, int IndexVersion, int Scale, bool NeedsAlignment);

    /// <summary>What is addressed by RSP alone.</summary>
    private static readonly Key s_stack = new(Register.RSP, 0, Register.None, 0, 1, false);

    private readonly Dictionary<Key, (AccessGroup? Reads, AccessGroup? Writes)> _open = [];
    private readonly List<AccessGroup> _groups = [];
    private readonly int[] _versions = new int[16];

    /// <summary>What constants have been added to a register since its version began.</summary>
    private readonly int[] _moved = new int[16];

    /// <summary>Fills <paramref name="members"/> for the instructions given.</summary>
    /// <param name="canGroup">Whether the instruction at an index may be served by, or serve, another one.</param>
    /// <param name="isLabel">Whether jumps lead to the instruction at an index: no group goes on over it.</param>
    public void Find(ReadOnlySpan<Instruction> instructions, Span<GroupMember> members, Func<int, bool> canGroup, ReadOnlySpan<bool> isLabel)
    {
        _open.Clear();
        _groups.Clear();
        Array.Clear(_versions);
        Array.Clear(_moved);
        for (int i = 0; i < instructions.Length; i++)
        {
            if (isLabel[i])
            {
                _open.Clear();
            }

            ref readonly Instruction instruction = ref instructions[i];
            CopyRule rule = CopyRule.Of(instruction);
            if (StackAccess(instruction) is { } stack && canGroup(i))
            {
                members[i] = Join(i, s_stack with { BaseVersion = Version(Register.RSP) }, stack.Displacement + Moved(Register.RSP), 8, stack.IsWrite);
            }
            else
            {
                members[i] = IsEligible(instruction, rule) && canGroup(i) ? Enter(i, instruction, rule) : default;
            }

            Note(instruction, rule);
        }

        int slots = 0;
        foreach (AccessGroup group in _groups)
        {
            if (group.Members > 1 && slots < StateLayout.SlotCount)
            {
                group.Slot = slots++;
            }
        }
    }

    private static bool IsEligible(in Instruction instruction, CopyRule rule)
    {
        if (!rule.CanCopy || !(rule.ReadsMemory || rule.WritesMemory) || !HasMemory(instruction))
        {
            return false;
        }

        int size = instruction.MemorySize.GetSize();
        bool bitString = instruction.Mnemonic is Mnemonic.Bt or Mnemonic.Bts or Mnemonic.Btr or Mnemonic.Btc;
        return size is > 0 and <= 32 && !bitString && !(rule.NeedsAlignment && size > Alignment) && instruction.Mnemonic is not Mnemonic.Cmpxchg16b
            && instruction.MemoryBase.IsGPR64() && (instruction.MemoryIndex == Register.None || instruction.MemoryIndex.IsGPR64())
            && instruction.MemorySegment is not (Register.FS or Register.GS)
            && (long)instruction.MemoryDisplacement64 is > -MaxDisplacement and < MaxDisplacement;
    }

    /// <summary>Where from RSP, as it is before it, an instruction reaches the stack, and nothing else in memory.</summary>
    public static (int Displacement, bool IsWrite)? StackAccess(in Instruction instruction) => instruction.Code switch
    {
        Code.Push_r64 or Code.Pushq_imm32 or Code.Pushq_imm8 or Code.Call_rel32_64 => (-8, true),
        Code.Pop_r64 or Code.Retnq or Code.Retnq_imm16 => (0, false),
        _ => null,
    };

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

    private GroupMember Enter(int index, in Instruction instruction, CopyRule rule)
    {
        Register second = instruction.MemoryIndex;
        int size = instruction.MemorySize.GetSize();
        bool aligned = rule.NeedsAlignment && size == Alignment;
        int secondVersion = second == Register.None ? 0 : Version(second);
        int secondMoved = second == Register.None ? 0 : Moved(second) * instruction.MemoryIndexScale;
        var key = new Key(instruction.MemoryBase, Version(instruction.MemoryBase), second, secondVersion, instruction.MemoryIndexScale, aligned);
        int low = (int)(long)instruction.MemoryDisplacement64 + Moved(instruction.MemoryBase) + secondMoved;
        return Join(index, key, low, size, rule.WritesMemory);
    }

    private GroupMember Join(int index, Key key, int low, int size, bool write)
    {
        int high = low + size;
        _open.TryGetValue(key, out (AccessGroup? Reads, AccessGroup? Writes) open);
        AccessGroup? group = TryJoin(open.Writes, low, high) ?? (write ? null : TryJoin(open.Reads, low, high));
        if (group == null)
        {
            group = new AccessGroup { Leader = index, Low = low, High = high, IsWrite = write, NeedsAlignment = key.NeedsAlignment, IsOfStack = key.Base == Register.RSP && key.Index == Register.None };
            _groups.Add(group);
            _open[key] = write ? (open.Reads, group) : (group, open.Writes);
        }

        return new GroupMember(group, low);
    }

    private static AccessGroup? TryJoin(AccessGroup? group, int low, int high)
    {
        bool fits = group != null && Math.Max(group.High, high) - Math.Min(group.Low, low) <= MaxSpan
            && (!group.NeedsAlignment || (low - group.Low) % Alignment == 0);
        if (!fits)
        {
            return null;
        }

        group!.Low = Math.Min(group.Low, low);
        group.High = Math.Max(group.High, high);
        group.Members++;
        return group;
    }

    private int Version(Register register) => _versions[register - Register.RAX];

    private int Moved(Register register) => _moved[register - Register.RAX];

    /// <summary>Takes note of the registers that an instruction changes.</summary>
    private void Note(in Instruction instruction, CopyRule rule)
    {
        switch (instruction.Code)
        {
            case Code.Push_r64 or Code.Push_rm64 or Code.Pushq_imm32 or Code.Pushq_imm8 or Code.Pushfq:
                Move(Register.RSP, -8);
                return;
            case Code.Pop_r64:
                Move(Register.RSP, 8);
                Change(Bit(instruction.Op0Register));
                return;
            case Code.Sub_rm64_imm8 or Code.Sub_rm64_imm32 when instruction.Op0Kind == OpKind.Register:
                Move(instruction.Op0Register, -(long)instruction.GetImmediate(1));
                return;
            case Code.Add_rm64_imm8 or Code.Add_rm64_imm32 when instruction.Op0Kind == OpKind.Register:
                Move(instruction.Op0Register, (long)instruction.GetImmediate(1));
                return;
            case Code.Sub_RAX_imm32:
                Move(Register.RAX, -(long)instruction.GetImmediate(1));
                return;
            case Code.Add_RAX_imm32:
                Move(Register.RAX, (long)instruction.GetImmediate(1));
                return;
            case Code.Inc_rm64 or Code.Dec_rm64 when instruction.Op0Kind == OpKind.Register:
                Move(instruction.Op0Register, instruction.Mnemonic == Mnemonic.Inc ? 1 : -1);
                return;
            case Code.Lea_r64_m when instruction.MemoryBase == instruction.Op0Register && instruction.MemoryIndex == Register.None:
                Move(instruction.Op0Register, (long)instruction.MemoryDisplacement64);
                return;
            default:
                Change(Written(instruction, rule));
                return;
        }
    }

    private void Move(Register register, long distance)
    {
        long moved = Moved(register) + distance;
        if (Math.Abs(moved) < MaxMoved)
        {
            _moved[register - Register.RAX] = (int)moved;
        }
        else
        {
            Change(Bit(register));
        }
    }

    private static int Bit(Register register) => 1 << (register.GetFullRegister() - Register.RAX);

    private void Change(int mask)
    {
        for (int i = 0; i < 16; i++)
        {
            if (((mask >> i) & 1) != 0)
            {
                _versions[i]++;
                _moved[i] = 0;
            }
        }
    }

    /// <summary>The general registers that an instruction changes, as bits; all of them where it is not copied. Stack instructions and those that end a block are not asked for.</summary>
    public static int Written(in Instruction instruction, CopyRule rule)
    {
        if (rule.IsNothing || instruction.FlowControl == FlowControl.ConditionalBranch || instruction.Code.IsJmpShortOrNear())
        {
            return 0;
        }

        if (instruction.Code is Code.Lea_r32_m or Code.Lea_r64_m)
        {
            return Bit(instruction.Op0Register);
        }

        if (!rule.CanCopy)
        {
            return All;
        }

        int mask = (rule.TouchesRax ? Rax : 0) | (rule.WritesRcx ? Rcx : 0);
        mask |= instruction.Mnemonic switch
        {
            Mnemonic.Mul or Mnemonic.Imul or Mnemonic.Cqo or Mnemonic.Cdq or Mnemonic.Cwd or Mnemonic.Cmpxchg16b or Mnemonic.Cmpxchg8b => Rax | Rdx,
            Mnemonic.Cbw or Mnemonic.Cwde or Mnemonic.Cdqe or Mnemonic.Lahf or Mnemonic.Cmpxchg => Rax,
            _ => 0,
        };
        for (int i = 0; i < instruction.OpCount; i++)
        {
            // More than is written does no harm: every general register that is an operand, but for those that are only read for sure.
            if (instruction.GetOpKind(i) == OpKind.Register && instruction.GetOpRegister(i).IsGPR() && !IsOnlyRead(rule, instruction, i))
            {
                mask |= Bit(instruction.GetOpRegister(i));
            }
        }

        return mask;
    }

    private static bool IsOnlyRead(CopyRule rule, in Instruction instruction, int operand) =>
        InstructionForm.Of(instruction.Code).KindOf(operand) switch
        {
            OpCodeOperandKind.r8_reg or OpCodeOperandKind.r16_reg or OpCodeOperandKind.r32_reg or OpCodeOperandKind.r64_reg => !rule.Reg.IsWritten,
            OpCodeOperandKind.r8_or_mem or OpCodeOperandKind.r16_or_mem or OpCodeOperandKind.r32_or_mem or OpCodeOperandKind.r64_or_mem
                or OpCodeOperandKind.r16_rm or OpCodeOperandKind.r32_rm or OpCodeOperandKind.r64_rm or OpCodeOperandKind.r8_opcode
                or OpCodeOperandKind.r16_opcode or OpCodeOperandKind.r32_opcode or OpCodeOperandKind.r64_opcode => !rule.Rm.IsWritten,
            OpCodeOperandKind.r32_vvvv or OpCodeOperandKind.r64_vvvv => !rule.Vvvv.IsWritten,
            OpCodeOperandKind.cl => true,
            _ => false,
        };
}
