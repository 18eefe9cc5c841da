using System.Buffers.Binary;
using Iced.Intel;

namespace Tutti.Cpu.Translator.Tests.Emitted;

/// <summary>
/// What emitted code may call, which is <see cref="CommonCode"/> only; what stands as data behind each call, and what is known when it
/// comes back. The routines themselves are taken at their word.
/// </summary>
internal sealed class CallRules
{
    private const int WordLength = 4;
    private const int ResumeLength = 5;

    /// <summary>Behind the info of a jump without a target: the distance to the jump, and the next one with the same target.</summary>
    private const int LinkLength = 6;

    /// <summary>Displacement and info.</summary>
    private const int StackDataLength = 8;

    /// <summary>Record, what the compare adds, info.</summary>
    private const int SiteDataLength = 12;

    /// <summary>Behind the resuming jump of a second look at the jump cache: its info.</summary>
    private const int JumpDataLength = WordLength;

    private readonly EmittedBlock _block;
    private readonly Violation _report;
    private readonly HashSet<long> _loads;
    private readonly HashSet<long> _counters;
    private readonly Dictionary<long, TlbSet> _secondJumps;
    private readonly HashSet<long> _farLinks;
    private readonly HashSet<long> _returns;
    private readonly HashSet<long> _misses;
    private readonly Dictionary<long, (int Size, bool Write)> _stackLookups = [];
    private readonly Dictionary<long, (int Alignment, bool Write)> _siteLookups = [];
    private readonly Dictionary<long, bool> _frameLookups = [];

    public CallRules(EmittedBlock block, Violation report)
    {
        _block = block;
        _report = report;
        _loads = [block.Common.LoadSse, block.Common.LoadAvx, block.Common.LoadX87];
        _counters = [block.Common.ReadCounter, block.Common.ReadCounterOrdered];
        _secondJumps = new() { [block.Common.SecondJump(TlbSet.User)] = TlbSet.User, [block.Common.SecondJump(TlbSet.Supervisor)] = TlbSet.Supervisor };
        _farLinks = [block.Common.FarLink(TlbSet.User), block.Common.FarLink(TlbSet.Supervisor)];
        _returns = [block.Common.Return(TlbSet.User), block.Common.Return(TlbSet.Supervisor)];
        _misses = [.. Enumerable.Range(0, 16).Where(register => register != HostRegister.State).Select(block.Common.Miss)];
        foreach (bool write in (ReadOnlySpan<bool>)[false, true])
        {
            foreach (int size in (ReadOnlySpan<int>)[2, 4, 8, 16, 32])
            {
                int info = ExitInfo.Pack(ExitKind.TlbMiss, 0, size, write);
                _stackLookups[block.Common.StackLookup(block.Set, new ExitInfo((uint)info))] = (size, write);
                _stackLookups[block.Common.StackLookup(block.Set, new ExitInfo((uint)info | ExitInfo.AlignedBit))] = (size, write);
            }

            _frameLookups[block.Common.FrameLookup(write)] = write;
            foreach (int alignment in (ReadOnlySpan<int>)[0, 1, 2, 4, 8, 16, 32, 64])
            {
                _siteLookups[block.Common.SiteLookup(write, alignment)] = (alignment, write);
            }
        }
    }

    /// <summary>What the frames of the block are looked up for, by the offset of their records in the state.</summary>
    public Dictionary<int, (int Size, bool Write)> Frames { get; } = [];

    /// <summary>Gives the bytes of data behind the call; negative where a jump stands between.</summary>
    public int Check(in Instruction call, in Instruction before)
    {
        long target = (long)call.NearBranch64;
        if (target == _block.Common.ExitInline || _misses.Contains(target))
        {
            ExitKind kind = InfoAt(call.NextIP).Kind;
            if ((kind == ExitKind.TlbMiss) != _misses.Contains(target))
            {
                _report("leaves with an info of another kind", call);
            }

            return kind == ExitKind.Link ? WordLength + LinkLength : WordLength;
        }

        if (_farLinks.Contains(target))
        {
            if (InfoAt(call.NextIP + Emitter.JumpTableLength) is not { Kind: ExitKind.Link, IsFar: true } || target != _block.Common.FarLink(_block.Set))
            {
                _report("leaves with an info of another kind", call);
            }

            return -(WordLength + LinkLength);
        }

        if (_returns.Contains(target))
        {
            if (InfoAt(call.NextIP + Emitter.ReturnTableLength) is not { Kind: ExitKind.Jump, StackChange: >= 8 } || target != _block.Common.Return(_block.Set))
            {
                _report("leaves with an info of another kind", call);
            }

            return -WordLength;
        }

        if (_stackLookups.TryGetValue(target, out (int Size, bool Write) lookup))
        {
            ExitInfo info = InfoAt(call.NextIP + ResumeLength + WordLength);
            if (info.Size != lookup.Size || info.IsWrite != lookup.Write || info.Kind != ExitKind.TlbMiss)
            {
                _report("looks up other bytes than its info says", call);
            }

            return -StackDataLength;
        }

        if (_siteLookups.TryGetValue(target, out (int Alignment, bool Write) site))
        {
            CheckSite(call, site.Alignment, site.Write);
            return -SiteDataLength;
        }

        if (_frameLookups.TryGetValue(target, out bool writes))
        {
            CheckFrame(call, writes);
            return -SiteDataLength;
        }

        if (_secondJumps.ContainsKey(target))
        {
            if (InfoAt(call.NextIP + ResumeLength).Kind == ExitKind.TlbMiss)
            {
                _report("leaves with an info of another kind", call);
            }

            return -JumpDataLength;
        }

        bool saysWhy = before.Code == Code.Mov_r32_imm32 && before.Op0Register == Register.ECX && before.NextIP == call.IP;
        bool isExit = target == _block.Common.Exit && new ExitInfo(before.Immediate32).Kind != ExitKind.TlbMiss;
        bool isRoutine = _loads.Contains(target) || _counters.Contains(target) || (IsReturn(target) && _block.Set == TlbSet.Supervisor);
        if (!saysWhy || !(isExit || isRoutine))
        {
            _report("calls what is no exit, or does not say why", call);
        }

        return 0;
    }

    private void CheckSite(in Instruction call, int alignment, bool write)
    {
        ulong data = call.NextIP + ResumeLength;
        int site = HostEvaluator.SiteOf(StateLayout.Sites + (int)WordAt(data));
        int added = (int)WordAt(data + WordLength);
        ExitInfo info = InfoAt(data + WordLength + WordLength);
        bool isAligned = alignment != 0;
        if (_block.Set != TlbSet.User || site < 0 || site >= StateLayout.SiteCount != write)
        {
            _report("fills a record that is not for it", call);
        }

        if (info.IsWrite != write || info.Kind != ExitKind.TlbMiss || info.NeedsAlignment != isAligned || !info.IsSite
            || (isAligned && info.Size != alignment) || added != (isAligned ? 1 - 4096 : info.Size - 1))
        {
            _report("looks up other bytes than its info says", call);
        }
    }

    private void CheckFrame(in Instruction call, bool write)
    {
        ulong data = call.NextIP + ResumeLength;
        int record = StateLayout.Sites + (int)WordAt(data);
        ExitInfo info = InfoAt(data + WordLength + WordLength);
        if (_block.Set != TlbSet.User || !HostEvaluator.IsFrame(record) || !Frames.TryAdd(record, (info.Size, write)))
        {
            _report("fills a record that is not for it", call);
        }

        if (info.IsWrite != write || info.Kind != ExitKind.TlbMiss || info.NeedsAlignment || !info.IsSite || (int)WordAt(data + WordLength) != info.Size - 1)
        {
            _report("looks up other bytes than its info says", call);
        }
    }

    public bool IsLink(in Instruction call) =>
        call.FlowControl == FlowControl.Call && (long)call.NearBranch64 == _block.Common.ExitInline && InfoAt(call.NextIP).Kind == ExitKind.Link;

    /// <summary>How the way on looks to which a lookup comes back that has its data behind that.</summary>
    public Code ResumeOf(in Instruction call) => _farLinks.Contains((long)call.NearBranch64) ? Code.Jmp_rm64
        : _returns.Contains((long)call.NearBranch64) ? Code.Retnq
        : Code.Jmp_rel32_64;

    /// <summary>Where the instruction is tried again after a TLB miss; null where there is none.</summary>
    public ulong? RetryOf(in Instruction call)
    {
        long target = (long)call.NearBranch64;
        return _misses.Contains(target) ? call.NextIP + WordLength
            : _siteLookups.ContainsKey(target) || _frameLookups.ContainsKey(target) ? call.NextIP + ResumeLength + SiteDataLength
            : _stackLookups.ContainsKey(target) ? call.NextIP + ResumeLength + StackDataLength
            : IsReturn(target) ? call.NextIP : null;
    }

    /// <summary>The registers that a routine which comes back changes.</summary>
    public ReadOnlySpan<int> Changed(in Instruction call) => _loads.Contains((long)call.NearBranch64) ? [HostRegister.Test]
        : _counters.Contains((long)call.NearBranch64) ? [HostRegister.Rax, HostRegister.Rdx, HostRegister.Test, HostRegister.GuestRcx, HostRegister.Address, HostRegister.Distance]
        : [HostRegister.Test, HostRegister.Address, HostRegister.Distance];

    /// <summary>IRETQ comes back to be tried again only.</summary>
    private bool IsReturn(long target) => target == _block.Common.InterruptReturn;

    /// <summary>Takes note of what a routine leaves; false when it does not come back to right behind the call.</summary>
    public bool Apply(HostState state, in Instruction call, int place)
    {
        long target = (long)call.NearBranch64;
        if (_loads.Contains(target))
        {
            state.Registers[HostRegister.Test] = state.Fresh(place, HostRegister.Test);
            return true;
        }

        if (_siteLookups.ContainsKey(target))
        {
            NoteSite(state, call, place);
            return true;
        }

        if (_frameLookups.ContainsKey(target))
        {
            NoteFrame(state, call, place);
            return true;
        }

        if (_counters.Contains(target))
        {
            foreach (int register in (ReadOnlySpan<int>)[HostRegister.Rax, HostRegister.Rdx, HostRegister.Test, HostRegister.GuestRcx])
            {
                state.Registers[register] = state.Fresh(place, register);
            }

            return true;
        }

        if (_secondJumps.TryGetValue(target, out TlbSet jumps))
        {
            // It has compared R14 with the entry whose index it leaves, which takes the first one's place: nothing else may stem from that.
            HostValue index = state.Registers[HostRegister.Distance];
            if (index.Kind != HostValueKind.JumpIndex)
            {
                _report("looks for the second entry of what is no index", call);
                return false;
            }

            for (int register = 0; register < state.Registers.Length; register++)
            {
                bool isStale = register == HostRegister.Test || (register != HostRegister.Distance && state.Registers[register].Root == index.Root);
                state.Registers[register] = isStale ? state.Fresh(place, register) : state.Registers[register];
            }

            state.Facts.RemoveWhere(fact => fact.Root == index.Root);
            state.Facts.Add(new HostValue(HostValueKind.Check, index.Root, Table: StateLayout.JumpTags(jumps)));
            return true;
        }

        if (_farLinks.Contains(target) || _returns.Contains(target))
        {
            // The index of the entry that has the address in R14, whichever of the two it is.
            state.Registers[HostRegister.Test] = state.Fresh(place, HostRegister.Test);
            HostValue found = state.Fresh(place, HostRegister.Distance) with { Kind = HostValueKind.JumpIndex };
            state.Registers[HostRegister.Distance] = found;
            state.Facts.Add(new HostValue(HostValueKind.Check, found.Root, Table: StateLayout.JumpTags(_block.Set)));
            return true;
        }

        if (!_stackLookups.TryGetValue(target, out (int Size, bool Write) lookup))
        {
            return false;
        }

        // A write makes its page the stack's: what was known of that is over.
        state.Facts.RemoveWhere(fact => fact.Table == StateLayout.StackTag(_block.Set));
        HostValue stack = state.Registers[HostRegister.GuestRsp];
        long first = stack.Low + (int)WordAt(call.NextIP + ResumeLength);
        state.Registers[HostRegister.Test] = state.Fresh(place, HostRegister.Test);
        HostValue other = state.Fresh(place, HostRegister.Distance);
        state.Registers[HostRegister.Distance] = stack.Kind == HostValueKind.Linear
            ? new HostValue(HostValueKind.Distance, stack.Root, first, first + lookup.Size, Write: lookup.Write)
            : other;
        return true;
    }

    /// <summary>R15 has the distance of the page that the address in R14 lies in. The record may have another, or none: the access may be on trial.</summary>
    private void NoteSite(HostState state, in Instruction call, int place)
    {
        ulong data = call.NextIP + ResumeLength;
        int record = StateLayout.Sites + (int)WordAt(data);
        int size = InfoAt(data + WordLength + WordLength).Size;
        bool writes = _siteLookups[(long)call.NearBranch64].Write;
        state.Facts.RemoveWhere(fact => fact.Table == record);
        state.Registers[HostRegister.Test] = state.Fresh(place, HostRegister.Test);
        HostValue fresh = state.Fresh(place, HostRegister.Distance);
        HostValue address = state.Registers[HostRegister.Address];
        state.Registers[HostRegister.Distance] = address.Kind == HostValueKind.Linear
            ? new HostValue(HostValueKind.Distance, address.Root, address.Low, address.Low + size, Write: writes)
            : fresh;
    }

    /// <summary>R15 has the host's address of the bytes from R14 on, which must come from RSP alone: its record may say so as long as RSP is what it is now.</summary>
    private void NoteFrame(HostState state, in Instruction call, int place)
    {
        int record = StateLayout.Sites + (int)WordAt(call.NextIP + ResumeLength);
        HostValue stack = state.Registers[HostRegister.GuestRsp];
        HostValue address = state.Registers[HostRegister.Address];
        if (stack.Kind != HostValueKind.Linear || address.Kind != HostValueKind.Linear || address.Root != stack.Root)
        {
            _report("looks up a frame that is not the stack's", call);
        }

        state.Facts.RemoveWhere(fact => fact.Table == record);
        foreach (int register in (ReadOnlySpan<int>)[HostRegister.Test, HostRegister.Address, HostRegister.Distance])
        {
            state.Registers[register] = state.Fresh(place, register);
        }

        (int size, bool write) = Frames[record];
        state.Registers[HostRegister.Distance] = new HostValue(HostValueKind.Host, High: size, Write: write);
    }

    private ExitInfo InfoAt(ulong address) => new(WordAt(address));

    private uint WordAt(ulong address)
    {
        int offset = (int)(address - _block.Start);
        return offset + WordLength <= _block.Bytes.Length ? BinaryPrimitives.ReadUInt32LittleEndian(_block.Bytes.AsSpan(offset)) : 0;
    }
}
