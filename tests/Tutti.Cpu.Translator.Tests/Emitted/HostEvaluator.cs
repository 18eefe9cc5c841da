using Iced.Intel;

namespace Tutti.Cpu.Translator.Tests.Emitted;

/// <summary>Follows the values that lookups are made of through one instruction; everything else becomes a number of its own.</summary>
/// <param name="set">The tables of the block.</param>
/// <param name="frames">What the records of its frames are filled for.</param>
internal sealed class HostEvaluator(TlbSet set, IReadOnlyDictionary<int, (int Size, bool Write)> frames)
{
    /// <summary>As the scale of one byte's comparison: another byte of the same record has been compared before it.</summary>
    private const int Second = -1;

    private readonly InstructionInfoFactory _factory = new();

    public static int Number(Register register) => register.GetFullRegister() - Register.RAX;

    /// <summary>What the instruction leaves in the registers that it writes.</summary>
    public void Apply(HostState state, in Instruction instruction, int place)
    {
        HostValue? known = instruction.Code switch
        {
            Code.Mov_rm64_r64 or Code.Mov_r64_rm64 when instruction.Op0Kind == OpKind.Register => Move(state, instruction),
            Code.Lea_r64_m when instruction.MemoryBase == Register.RIP => new HostValue(HostValueKind.Code, Low: (long)instruction.MemoryDisplacement64),
            Code.Lea_r64_m => EffectiveAddress(state, instruction),
            Code.VEX_Pext_r64_r64_rm64 => Extract(state, instruction),
            Code.Add_rm64_imm8 or Code.Add_rm64_imm32 or Code.Sub_rm64_imm8 or Code.Sub_rm64_imm32 or Code.Add_RAX_imm32 or Code.Sub_RAX_imm32
                or Code.Inc_rm64 or Code.Dec_rm64 when instruction.Op0Kind == OpKind.Register => Moved(state, instruction),
            _ => null,
        };
        if (known is { } value && value.Kind != HostValueKind.None)
        {
            state.Registers[Number(instruction.Op0Register)] = value;
            return;
        }

        HostValue run = instruction.Code == Code.Lea_r64_m ? RunEnd(state, instruction) : default;
        bool isTlbIndex = instruction.Code == Code.VEX_Pext_r64_r64_rm64 && IsState(instruction, StateLayout.TlbIndexMask);
        bool isRingIndex = instruction.Code == Code.VEX_Pext_r64_r64_rm64 && (IsState(instruction, StateLayout.RingMask) || IsState(instruction, StateLayout.RingIndexMask));
        bool isJumpIndex = instruction.Code == Code.VEX_Pext_r64_r64_rm64 && IsState(instruction, StateLayout.JumpMask);
        foreach (UsedRegister used in _factory.GetInfo(instruction).GetUsedRegisters())
        {
            if (used.Register.IsGPR() && used.Access is OpAccess.Write or OpAccess.ReadWrite or OpAccess.CondWrite or OpAccess.ReadCondWrite)
            {
                int number = Number(used.Register);
                HostValue fresh = state.Fresh(place, number);
                state.Registers[number] = isTlbIndex ? fresh with { Kind = HostValueKind.TlbIndex }
                    : isRingIndex ? fresh with { Kind = HostValueKind.RingIndex, Table = (int)instruction.MemoryDisplacement64 }
                    : isJumpIndex ? fresh with { Kind = HostValueKind.JumpIndex }
                    : run.Count == 0 ? fresh : run with { Root = fresh.Root };
            }
        }
    }

    public static bool IsState(in Instruction instruction, int offset) =>
        instruction.MemoryBase == Register.RSP && instruction.MemoryIndex == Register.None && (int)instruction.MemoryDisplacement64 == offset;

    /// <summary>What is known of base + index * scale + displacement.</summary>
    public HostValue EffectiveAddress(HostState state, in Instruction instruction)
    {
        if (!instruction.MemoryBase.IsGPR64() || instruction.MemoryBase == Register.RSP || instruction.MemoryIndex.IsGPR32())
        {
            return default;
        }

        HostValue one = state.Registers[Number(instruction.MemoryBase)];
        long displacement = (long)instruction.MemoryDisplacement64;
        if (instruction.MemoryIndex == Register.None)
        {
            return one.Kind switch
            {
                HostValueKind.Linear when displacement == 0 => one,
                HostValueKind.Linear => new HostValue(HostValueKind.Linear, one.Root, one.Low + displacement),
                HostValueKind.Host => Shift(one, displacement),
                HostValueKind.Check when displacement == -1 => one with { Kind = HostValueKind.CheckLessOne },
                HostValueKind.Sum when SiteOf(one.Table) >= 0 => one with { Low = one.Low + displacement, High = one.High + displacement },
                _ => default,
            };
        }

        HostValue two = instruction.MemoryIndex.IsGPR64() ? state.Registers[Number(instruction.MemoryIndex)] : default;
        if (instruction.MemoryIndexScale != 1)
        {
            bool isWeighed = instruction.MemoryIndexScale == 2 && displacement == -2;
            return isWeighed && one.Kind == HostValueKind.Check && two.Kind == HostValueKind.Check ? BothEnds(two, one) : default;
        }

        if (one.Kind == HostValueKind.Linear)
        {
            (one, two) = (two, one);
        }

        return (one.Kind, two.Kind) switch
        {
            (HostValueKind.Tag, HostValueKind.Linear) when IsFrame(one.Table) =>
                two == state.Registers[HostRegister.GuestRsp] && displacement == 0 ? two with { Kind = HostValueKind.Check, High = two.Low, Table = one.Table } : default,
            (HostValueKind.Tag, HostValueKind.Linear) => AddTag(one, two, displacement),
            (HostValueKind.Distance, HostValueKind.Linear) when one.Root == two.Root =>
                Shift(one with { Kind = HostValueKind.Host, Root = 0 }, two.Low + displacement),
            _ => default,
        };
    }

    /// <summary>
    /// Twice the page number of a first byte and that of a last one, both less that of the page before a site's: 1 more than 2 where both are
    /// 1, and only there. The second is the first, 1 more, or 0 where another thread has cleared the mask in between; so the plain sum of both
    /// says nothing.
    /// </summary>
    private static HostValue BothEnds(HostValue first, HostValue last)
    {
        bool isNear = SiteOf(first.Table) >= 0 && first.Table == last.Table && first.Root == last.Root && first.Scale == 0 && last.Scale == Second
            && first.High == first.Low + 1 && last.High == last.Low + 1 && last.Low - first.Low is >= 0 and < 4096;
        return isNear ? first with { High = last.High } : default;
    }

    /// <summary>The comparison that a tag read from the state's stack entry or from a table is meant for.</summary>
    private HostValue AddTag(HostValue tag, HostValue address, long constant)
    {
        if (IsJumpTags(tag.Table))
        {
            return constant == 0 ? tag with { Kind = HostValueKind.Check } : default;
        }

        if (IsRingTags(tag.Table))
        {
            return constant == 2 ? tag with { Kind = HostValueKind.Check } : default;
        }

        if (SiteOf(tag.Table) >= 0)
        {
            return tag with { Kind = HostValueKind.Sum, Root = address.Root, Low = address.Low + constant, High = address.Low + constant };
        }

        if (tag.Table == StateLayout.StackTag(set))
        {
            // Good where the address plus the constant, less 1 - 4096, is in the page.
            long first = address.Low + constant + 4095;
            return tag with { Kind = HostValueKind.Sum, Root = address.Root, Low = first, High = first };
        }

        if (address.Root == tag.Root)
        {
            return tag with { Kind = HostValueKind.Sum, High = address.Low + constant };
        }

        bool isRun = address.Count != 0 && address.Low == 0 && address.Table == tag.Root && address.High == tag.Low && constant == 0;
        return isRun ? tag with { Kind = HostValueKind.Sum, High = tag.Low, Count = address.Count, CountLow = address.CountLow, Scale = address.Scale } : default;
    }

    private static HostValue Shift(HostValue value, long by) => value with { Low = value.Low - by, High = value.High - by };

    public static bool IsJumpTags(int table) => table == StateLayout.JumpTags(TlbSet.Supervisor) || table == StateLayout.JumpTags(TlbSet.User);

    private bool IsRingTags(int table) => table == StateLayout.RingTags(set);

    /// <summary>The address of a run's last byte: first + count * scale - 1.</summary>
    private static HostValue RunEnd(HostState state, in Instruction instruction)
    {
        if (!instruction.MemoryBase.IsGPR64() || !instruction.MemoryIndex.IsGPR64() || (long)instruction.MemoryDisplacement64 != -1)
        {
            return default;
        }

        HostValue first = state.Registers[Number(instruction.MemoryBase)];
        HostValue count = state.Registers[Number(instruction.MemoryIndex)];
        return first.Kind == HostValueKind.Linear && count.Kind == HostValueKind.Linear
            ? new HostValue(HostValueKind.Linear, High: first.Low, Table: first.Root, Count: count.Root, CountLow: count.Low, Scale: instruction.MemoryIndexScale)
            : default;
    }

    /// <summary>A register plus a constant.</summary>
    private static HostValue Moved(HostState state, in Instruction instruction)
    {
        long constant = instruction.OpCount == 1 ? 1 : (long)instruction.GetImmediate(1);
        long by = instruction.Mnemonic is Mnemonic.Add or Mnemonic.Inc ? constant : -constant;
        HostValue value = state.Registers[Number(instruction.Op0Register)];
        return value.Kind == HostValueKind.Linear && value.Table == 0 ? value with { Low = value.Low + by } : default;
    }

    private HostValue Move(HostState state, in Instruction instruction)
    {
        if (instruction.Op1Kind == OpKind.Register)
        {
            return state.Registers[Number(instruction.Op1Register)];
        }

        if (instruction.MemoryBase != Register.RSP)
        {
            return default;
        }

        int offset = (int)instruction.MemoryDisplacement64;
        if (instruction.MemoryIndex != Register.None)
        {
            return FromTable(state, state.Registers[Number(instruction.MemoryIndex)], offset);
        }

        if (offset == StateLayout.StackTag(set) || ((SiteOf(offset) >= 0 || IsFrame(offset)) && set == TlbSet.User))
        {
            return new HostValue(HostValueKind.Tag, Table: offset);
        }

        if (offset == StateLayout.StackDistance(set))
        {
            HostValue hit = state.Facts.FirstOrDefault(fact => fact.Table == StateLayout.StackTag(set));
            return hit.Kind == HostValueKind.None ? default : Distance(hit, true);
        }

        int site = SiteOf(offset - 8);
        if (site >= 0)
        {
            HostValue hit = state.Facts.FirstOrDefault(fact => fact.Table == offset - 8);
            return hit.Kind == HostValueKind.None ? default : Distance(hit, site >= StateLayout.SiteCount);
        }

        if (IsFrame(offset - 8) && frames.TryGetValue(offset - 8, out (int Size, bool Write) frame) && state.Facts.Any(fact => fact.Table == offset - 8))
        {
            return new HostValue(HostValueKind.Host, High: frame.Size, Write: frame.Write);
        }

        int slot = SlotOf(offset);
        return slot < 0 ? default : state.Slots[slot];
    }

    /// <summary>Whether there is one comparison only that a fact about this tag can be of: the newest.</summary>
    public bool IsSingle(int table) => table == StateLayout.StackTag(set) || SiteOf(table) >= 0 || IsFrame(table);

    /// <summary>Whether a frame's record begins at an offset in the state: they stand behind those of the sites.</summary>
    public static bool IsFrame(int offset)
    {
        int distance = offset - StateLayout.Sites - (2 * StateLayout.SiteCount * StateLayout.SiteSize);
        return distance >= 0 && distance < StateLayout.SiteCount * StateLayout.SiteSize && distance % StateLayout.SiteSize == 0;
    }

    /// <summary>Whose record begins at an offset in the state: access sites for reads come first; -1 for none.</summary>
    public static int SiteOf(int offset)
    {
        int distance = offset - StateLayout.Sites;
        return distance >= 0 && distance < 2 * StateLayout.SiteCount * StateLayout.SiteSize && distance % StateLayout.SiteSize == 0
            ? distance / StateLayout.SiteSize
            : -1;
    }

    /// <summary>Which slot lies at an offset in the state, or -1.</summary>
    public static int SlotOf(int offset)
    {
        for (int i = 0; i < StateLayout.SlotCount; i++)
        {
            if (StateLayout.Slot(i) == offset)
            {
                return i;
            }
        }

        return offset == StateLayout.Saved ? HostState.Saved : -1;
    }

    private HostValue FromTable(HostState state, HostValue index, int offset)
    {
        if (index.Kind == HostValueKind.JumpIndex)
        {
            return IsJumpTags(offset) ? new HostValue(HostValueKind.Tag, index.Root, Table: offset) : default;
        }

        if (index.Kind == HostValueKind.RingIndex)
        {
            return IsRingTags(offset) ? new HostValue(HostValueKind.Tag, index.Root, Table: offset) : default;
        }

        foreach (bool write in (ReadOnlySpan<bool>)[false, true])
        {
            if (offset == StateLayout.Tags(set, write))
            {
                return new HostValue(HostValueKind.Tag, index.Root, index.Low, Table: offset);
            }

            if (offset == StateLayout.Distances(set, write))
            {
                HostValue hit = state.Facts.FirstOrDefault(fact => fact.Kind == HostValueKind.Check
                    && fact.Table == StateLayout.Tags(set, write) && fact.Root == index.Root && fact.Low == index.Low);
                return hit.Kind == HostValueKind.None ? default : Distance(hit, write);
            }
        }

        return default;
    }

    private static HostValue Distance(HostValue hit, bool write) => hit with { Kind = HostValueKind.Distance, Table = 0, Write = write };

    private HostValue Extract(HostState state, in Instruction instruction)
    {
        HostValue source = state.Registers[Number(instruction.Op1Register)];
        int mask = (int)instruction.MemoryDisplacement64;
        if (instruction.MemoryBase != Register.RSP || instruction.MemoryIndex != Register.None)
        {
            return default;
        }

        if (mask == StateLayout.TlbIndexMask && source.Kind == HostValueKind.Linear)
        {
            return new HostValue(HostValueKind.TlbIndex, source.Root, source.Low);
        }

        if (mask == StateLayout.LargeCountMask || mask == StateLayout.BitMask(4) || mask == StateLayout.BitMask(8))
        {
            return source.Kind == HostValueKind.Linear ? new HostValue(HostValueKind.Masked, source.Root, source.Low, Table: mask) : default;
        }

        if (source.Kind != HostValueKind.Sum)
        {
            return default;
        }

        if (SiteOf(source.Table) >= 0)
        {
            return ExtractOfSite(state, source, mask);
        }

        bool isStack = source.Table == StateLayout.StackTag(set);
        if (mask == StateLayout.PageMask)
        {
            // The first byte gives the index, the last one is compared: nothing is said where they are a page apart.
            bool near = !isStack && source.High - source.Low is >= 0 and < 4096;
            return near ? source with { Kind = HostValueKind.Check, High = source.High + 1 } : default;
        }

        for (int log2 = 1; log2 < 7; log2++)
        {
            if (mask == StateLayout.AlignedMask(log2) && source.Count == 0)
            {
                long end = (isStack ? source.High : source.High + 4095) + (1 << log2);
                return end - source.Low is > 0 and <= 4096 ? source with { Kind = HostValueKind.Check, High = end } : default;
            }
        }

        return default;
    }

    private static HostValue ExtractOfSite(HostState state, HostValue source, int mask)
    {
        if (mask == StateLayout.PageMask)
        {
            bool isSecond = state.Registers.Any(value => value.Kind == HostValueKind.Check && value.Table == source.Table);
            return source with { Kind = HostValueKind.Check, High = source.Low + 1, Scale = isSecond ? Second : 0 };
        }

        for (int log2 = 1; log2 < 7; log2++)
        {
            if (mask == StateLayout.AlignedMask(log2))
            {
                // Aligned to its size, and good where the address plus the constant, less 1 - 4096, is in the page.
                long first = source.Low + 4095;
                return source with { Kind = HostValueKind.Check, Low = first, High = first + (1 << log2) };
            }
        }

        return default;
    }
}
