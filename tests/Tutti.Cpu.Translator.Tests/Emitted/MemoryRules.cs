using Iced.Intel;

namespace Tutti.Cpu.Translator.Tests.Emitted;

/// <summary>Reports a violation of a rule by an instruction.</summary>
internal delegate void Violation(string rule, in Instruction instruction);

/// <summary>
/// What an instruction may do to memory: read the state, write the few fields of it that are the code's to write, and reach
/// the guest's RAM by an address that a lookup has just made.
/// </summary>
/// <param name="landings">Where code goes on behind the block's calls of its own code.</param>
internal sealed class MemoryRules(TlbSet set, HostEvaluator evaluator, bool hasWindow, IReadOnlySet<ulong> landings, Violation report)
{
    private readonly InstructionInfoFactory _factory = new();

    /// <summary>Fields that code may write with any value; slots have a rule of their own.</summary>
    private readonly HashSet<int> _plain =
    [
        .. Enumerable.Range(0, 16).Select(StateLayout.Gpr), StateLayout.CodePage, StateLayout.Address, StateLayout.Saved,
        StateLayout.RflagsOffset, StateLayout.Privilege, StateLayout.FsBase, StateLayout.GsBase, StateLayout.KernelGsBase,
    ];

    public void Check(HostState state, in Instruction instruction)
    {
        if (instruction.IsStringInstruction)
        {
            CheckRun(state, instruction);
            return;
        }

        if (ReturnRules.IsOne(instruction))
        {
            if (ReturnRules.IsPop(instruction) || ReturnRules.IsPush(instruction))
            {
                CheckRing(state, instruction, state.Registers[HostEvaluator.Number(instruction.MemoryIndex)]);
            }

            return;
        }

        foreach (UsedMemory used in _factory.GetInfo(instruction).GetUsedMemory())
        {
            if (used.Access == OpAccess.NoMemAccess)
            {
                continue;
            }

            bool writes = used.Access is not (OpAccess.Read or OpAccess.CondRead);
            bool isOperand = used.Base == instruction.MemoryBase && used.Index == instruction.MemoryIndex;
            int size = used.MemorySize.GetSize();
            if (!isOperand || size == 0 || used.AddressSize != CodeSize.Code64)
            {
                report("reaches memory that no operand of known size names", instruction);
            }
            else if (used.Base != Register.RSP)
            {
                CheckGuest(state, instruction, size, writes);
            }
            else if (used.Index == Register.None)
            {
                CheckState(state, instruction, (long)used.Displacement, size, writes);
            }
            else
            {
                CheckTable(state, instruction, writes);
            }
        }
    }

    private void CheckGuest(HostState state, in Instruction instruction, int size, bool writes)
    {
        HostValue place = evaluator.EffectiveAddress(state, instruction);
        bool isBitString = instruction.Mnemonic is Mnemonic.Bt or Mnemonic.Bts or Mnemonic.Btr or Mnemonic.Btc && instruction.Op1Kind == OpKind.Register;
        Reach reach = hasWindow && !isBitString ? ReachRules.Address(state, instruction) : Reach.Unknown;
        if (reach.Kind == ReachKind.Host)
        {
            if (!ReachRules.IsNear(reach, size))
            {
                report("reaches past what has been looked up", instruction);
            }
        }
        else if (place.Kind != HostValueKind.Host || place.Count != 0)
        {
            report("reaches memory without a lookup", instruction);
        }
        else if (place.Low > 0 || size > place.High)
        {
            report("reaches past what has been looked up", instruction);
        }
        else if (writes && !place.Write)
        {
            report("writes behind a lookup for reads", instruction);
        }
        else if (isBitString && !IsBounded(state.Registers[HostEvaluator.Number(instruction.Op1Register)], size))
        {
            report("has a bit offset that is not bounded", instruction);
        }
    }

    private static bool IsBounded(HostValue bit, int size) => bit.Kind == HostValueKind.Masked && bit.Table == StateLayout.BitMask(size);

    private void CheckState(HostState state, in Instruction instruction, long offset, int size, bool writes)
    {
        if (offset < 0 || offset + size > StateLayout.Size)
        {
            report("reaches outside the state", instruction);
            return;
        }

        if (!writes)
        {
            return;
        }

        // What is written is a register as a whole, but for the fields that may hold anything.
        int field = (int)offset;
        bool isStore = instruction.Code == Code.Mov_rm64_r64;
        HostValue value = isStore ? state.Registers[HostEvaluator.Number(instruction.Op1Register)] : default;
        int slot = HostEvaluator.SlotOf(field);
        if (_plain.Contains(field) && size <= 8)
        {
            if (slot >= 0)
            {
                state.Slots[slot] = value;
            }
        }
        else if (slot >= 0)
        {
            state.Slots[slot] = value;
            if (value.Kind != HostValueKind.Host)
            {
                report("keeps what is no host address for a group", instruction);
            }
        }
        else
        {
            report("writes a field of the state that is not its own", instruction);
        }
    }

    /// <summary>[RSP + index * 8 + table]: only what a mask has bounded is an index, and each table has its own.</summary>
    private void CheckTable(HostState state, in Instruction instruction, bool writes)
    {
        HostValue index = state.Registers[HostEvaluator.Number(instruction.MemoryIndex)];
        int table = (int)instruction.MemoryDisplacement64;
        if (index.Kind == HostValueKind.RingIndex)
        {
            CheckRing(state, instruction, index);
        }
        else if (writes || instruction.MemoryIndexScale != 8)
        {
            report("does more than read an entry of a table", instruction);
        }
        else if (index.Kind == HostValueKind.TlbIndex && instruction.Code == Code.Mov_r64_rm64)
        {
            bool isOwn = table == StateLayout.ReadTags(set) || table == StateLayout.WriteTags(set)
                || table == StateLayout.Distances(set, false) || table == StateLayout.Distances(set, true);
            if (!isOwn)
            {
                report("reads a table that is not the block's", instruction);
            }
        }
        else if (hasWindow && state.Reaches[HostEvaluator.Number(instruction.MemoryIndex)].Kind == ReachKind.Index)
        {
            if (table != StateLayout.Regions || instruction.Code != Code.Mov_r64_rm64)
            {
                report("reads a table that regions do not have", instruction);
            }
        }
        else if (index.Kind == HostValueKind.JumpIndex && instruction.Code == Code.Jmp_rm64)
        {
            if (!IsJumpTarget(state, index, table))
            {
                report("jumps by an entry that has not been compared", instruction);
            }
        }
        else if (index.Kind != HostValueKind.JumpIndex || instruction.Code != Code.Mov_r64_rm64 || !HostEvaluator.IsJumpTags(table))
        {
            report("reads a table with an index that no mask has bounded", instruction);
        }
    }

    /// <summary>Whether a jump to the entry of the jump cache leads to what the address has been compared with.</summary>
    private static bool IsJumpTarget(HostState state, HostValue index, int table) => index.Kind == HostValueKind.JumpIndex
        && state.Facts.Any(fact => fact.Kind == HostValueKind.Check && fact.Root == index.Root && HostEvaluator.IsJumpTags(fact.Table)
            && table == StateLayout.JumpTargets(fact.Table == StateLayout.JumpTags(TlbSet.User) ? TlbSet.User : TlbSet.Supervisor));

    /// <summary>
    /// [RSP + index * 8 + table] of a return ring: tags are read, and written behind an entry that is not the first; landings are read where the tag has
    /// been compared, and written with the address behind a call.
    /// </summary>
    private void CheckRing(HostState state, in Instruction instruction, HostValue index)
    {
        int table = (int)instruction.MemoryDisplacement64;
        bool isKept = index.Table == StateLayout.RingIndexMask;
        HostValue value = instruction.Code == Code.Mov_rm64_r64 ? state.Registers[HostEvaluator.Number(instruction.Op1Register)] : default;
        bool isRight = index.Kind == HostValueKind.RingIndex && instruction.MemoryIndexScale == 8 && instruction.Code switch
        {
            Code.Mov_r64_rm64 => table == StateLayout.RingTags(set),
            Code.Mov_rm64_r64 when table == StateLayout.RingLandings(set) + 8 => isKept && value.Kind == HostValueKind.Code && landings.Contains((ulong)value.Low),
            Code.Mov_rm64_r64 => isKept && table == StateLayout.RingTags(set) + 8,
            Code.Pop_rm64 => isKept && table == StateLayout.RingLandings(set) + 8,
            Code.Push_rm64 => table == StateLayout.RingLandings(set)
                && state.Facts.Any(fact => fact.Kind == HostValueKind.Check && fact.Root == index.Root && fact.Table == StateLayout.RingTags(set)),
            _ => false,
        };
        if (!isRight && !(instruction.Code == Code.Push_rm64 && instruction.MemoryIndexScale == 8 && IsJumpTarget(state, index, table)))
        {
            report("does to the return ring what is not for it", instruction);
        }
    }

    /// <summary>REP MOVS and REP STOS: as many elements as were looked up, and too few to overflow an address.</summary>
    private void CheckRun(HostState state, in Instruction instruction)
    {
        const int Rsi = 6;
        const int Rdi = 7;
        bool moves = instruction.Mnemonic is Mnemonic.Movsb or Mnemonic.Movsw or Mnemonic.Movsd or Mnemonic.Movsq;
        bool stores = instruction.Mnemonic is Mnemonic.Stosb or Mnemonic.Stosw or Mnemonic.Stosd or Mnemonic.Stosq;
        HostValue count = state.Registers[HostRegister.Rcx];
        int size = instruction.MemorySize.GetSize();
        bool isShort = count.Kind == HostValueKind.Linear
            && state.Facts.Contains(new HostValue(HostValueKind.Masked, count.Root, count.Low, Table: StateLayout.LargeCountMask));
        if (!(moves || stores) || !instruction.HasRepPrefix || !isShort || instruction.Op0Kind is not OpKind.MemoryESRDI)
        {
            report("is no run that emitted code may hold", instruction);
        }
        else if (!IsRun(state.Registers[Rdi], count, size) || !state.Registers[Rdi].Write || (moves && !IsRun(state.Registers[Rsi], count, size)))
        {
            report("runs over bytes that have not been looked up", instruction);
        }
    }

    private static bool IsRun(HostValue pointer, HostValue count, int size) =>
        pointer is { Kind: HostValueKind.Host, Low: 0 } && pointer.Count == count.Root && pointer.CountLow == count.Low && pointer.Scale == size;
}
