using System.Globalization;
using Iced.Intel;

namespace Tutti.Cpu.Translator.Tests.Emitted;

/// <summary>Emitted code: where it may be entered, and where else it may go.</summary>
/// <param name="Start">Address of the first byte, which is <paramref name="Bytes"/>[0]; jumps by linear address enter here.</param>
/// <param name="NearEntry">Where jumps from the same page enter.</param>
/// <param name="Others">Entries of other blocks.</param>
internal sealed record EmittedBlock(byte[] Bytes, ulong Start, ulong NearEntry, TlbSet Set, CommonCode Common, Predicate<ulong> Others)
{
    /// <summary>Where else other blocks jump into it.</summary>
    public IReadOnlyList<ulong> Entries { get; init; } = [];

    /// <summary>Where it is gone on at after a fault of a window, the guest's register that R14 has there, and that of whose region R15 has the distance.</summary>
    public IReadOnlyDictionary<ulong, (int Cached, int Region)> Retries { get; init; } = new Dictionary<ulong, (int Cached, int Region)>();
}

/// <summary>
/// Holds emitted code to the rules that keep it inside the guest's RAM and its own state, by following what is known of the
/// registers along every way through the block. Nothing of the translator is asked but where the state's fields lie.
/// </summary>
internal sealed class EmittedCodeChecker
{
    private const int MaxSteps = 1_000_000;

    private readonly EmittedBlock _block;
    private readonly HostEvaluator _evaluator;
    private readonly MemoryRules _memory;
    private readonly CallRules _calls;
    private readonly ReturnRules _returns;
    private readonly ReachRules _reaches = new();
    private readonly Dictionary<ulong, Instruction> _code = [];
    private readonly HashSet<ulong> _labels = [];
    private readonly Dictionary<ulong, HostState> _states = [];
    private readonly Dictionary<ulong, HashSet<int>> _merged = [];
    private bool _hasMerged;
    private readonly Queue<ulong> _open = [];
    private readonly HashSet<ulong> _reached = [];
    private readonly HashSet<string> _violations = [];

    private EmittedCodeChecker(EmittedBlock block)
    {
        _block = block;
        _calls = new CallRules(block with { Set = block.Set.Tables() }, Report);
        _evaluator = new HostEvaluator(block.Set.Tables(), _calls.Frames);
        _returns = new ReturnRules(block, Report);
        _memory = new MemoryRules(block.Set.Tables(), _evaluator, block.Set == TlbSet.UserWindow, _returns.Landings, Report);
    }

    /// <summary>All violations, each with the host instruction; none where the code is as it should be.</summary>
    public static IReadOnlyCollection<string> Check(EmittedBlock block)
    {
        var checker = new EmittedCodeChecker(block);
        checker.Decode();
        if (checker._violations.Count == 0)
        {
            checker.Follow();
        }

        return checker._violations;
    }

    private ulong End => _block.Start + (ulong)_block.Bytes.Length;

    private void Report(string rule, in Instruction instruction) =>
        _violations.Add(string.Create(CultureInfo.InvariantCulture, $"+{instruction.IP - _block.Start:x} {instruction}: {rule}"));

    private Instruction DecodeAt(ulong address)
    {
        int offset = (int)(address - _block.Start);
        var decoder = Decoder.Create(64, new ByteArrayCodeReader(_block.Bytes, offset, _block.Bytes.Length - offset));
        decoder.IP = address;
        Instruction instruction = decoder.Decode();
        if (instruction.MemoryBase == Register.RSP)
        {
            // From here on an offset in the state, whatever the instruction: RSP never changes.
            instruction.MemoryDisplacement64 += (ulong)StateLayout.Bias;
        }

        return instruction;
    }

    /// <summary>From the first byte to the last: every instruction, and every place that a branch leads to.</summary>
    private void Decode()
    {
        Instruction before = default;
        int data = 0;
        Code resume = Code.INVALID;
        for (ulong at = _block.Start; at < End;)
        {
            Instruction instruction = DecodeAt(at);
            if (instruction.IsInvalid)
            {
                Report("is no instruction", instruction);
                return;
            }

            Add(instruction);

            // A slow lookup comes back to a jump, of a return to PUSH and RET: its data stand behind that.
            at = instruction.NextIP;
            if (data < 0 && !ReturnRules.IsPush(instruction))
            {
                at += (ulong)-data;
                data = 0;
                if (instruction.Code != resume)
                {
                    Report("is not the jump that a slow lookup comes back to", instruction);
                }
            }

            if (instruction.FlowControl == FlowControl.Call && !_returns.TryAdd(instruction))
            {
                data = _calls.Check(instruction, before);
                resume = _calls.ResumeOf(instruction);
                at += (ulong)Math.Max(data, 0);
            }

            if (instruction.Mnemonic == Mnemonic.Loop)
            {
                AddHidden(instruction);
            }

            before = instruction;
        }

        _labels.Add(_block.NearEntry);
        _labels.UnionWith(_block.Entries);
        foreach (Instruction instruction in _code.Values)
        {
            CheckBranch(instruction);
        }

        _labels.UnionWith(_returns.Landings);
        _returns.Check(_code, _labels);
    }

    private void Add(in Instruction instruction)
    {
        _code.Add(instruction.IP, instruction);
        if (!ReturnRules.IsOne(instruction) && ForbiddenInstructions.Reason(instruction) is { } reason)
        {
            Report(reason, instruction);
        }
    }

    /// <summary>The jump of a lookup that misses stands in the NOP behind its LOOP, as index and displacement.</summary>
    private void AddHidden(in Instruction loop)
    {
        ulong target = loop.NearBranch64;
        if (target != loop.NextIP + 3 || target + 5 > End)
        {
            Report("leads elsewhere than into the NOP behind it", loop);
            return;
        }

        Instruction nop = DecodeAt(loop.NextIP);
        Instruction jump = DecodeAt(target);
        if (nop.Mnemonic != Mnemonic.Nop || jump.Code != Code.Jmp_rel32_64 || jump.NextIP != nop.NextIP)
        {
            Report("has no NOP with a jump in it behind it", loop);
            return;
        }

        Add(jump);
    }

    private void CheckBranch(in Instruction instruction)
    {
        switch (instruction.FlowControl)
        {
            case FlowControl.UnconditionalBranch or FlowControl.ConditionalBranch:
                ulong target = instruction.NearBranch64;
                if (_code.ContainsKey(target))
                {
                    _labels.Add(target);
                }
                else if ((target >= _block.Start && target < End) || !_block.Others(target))
                {
                    Report("leads into an instruction or to no block", instruction);
                }

                break;
            case FlowControl.Next or FlowControl.Call or FlowControl.Return:
                break;
            case FlowControl.IndirectBranch when instruction.MemoryBase == Register.RSP && instruction.MemoryIndex != Register.None:
                break;
            default:
                Report("leads who knows where", instruction);
                break;
        }
    }

    /// <summary>
    /// Along all ways, and anew when two of them bring different numbers to a place: the register is a number of its own there from the
    /// start, or what is known of others in terms of it would be lost.
    /// </summary>
    private void Follow()
    {
        do
        {
            _hasMerged = false;
            _states.Clear();
            _open.Clear();
            _violations.Clear();
            FollowOnce();
        }
        while (_hasMerged);

        // The stub of a jump that has its target is not used.
        foreach (Instruction instruction in _code.Values.Where(instruction => !_reached.Contains(instruction.IP) && !_calls.IsLink(instruction)))
        {
            Report("is never reached, so nothing is known of it", instruction);
        }
    }

    private void FollowOnce()
    {
        Enter(_block.Start, HostState.Unknown(0));
        foreach (ulong entry in (ReadOnlySpan<ulong>)[_block.NearEntry, .. _block.Entries])
        {
            Enter(entry, HostState.Unknown(Place(entry)));
        }

        int steps = 0;
        while (!_hasMerged && _open.TryDequeue(out ulong label))
        {
            HostState state = _states[label].Copy();
            ulong? at = label;
            while (at is { } address)
            {
                if (!_code.TryGetValue(address, out Instruction instruction) || ++steps > MaxSteps)
                {
                    _violations.Add(string.Create(CultureInfo.InvariantCulture, $"+{address - _block.Start:x}: control runs out of the code, or does not settle"));
                    _hasMerged = false;
                    return;
                }

                at = Step(state, instruction);
                if (at is { } next && (_labels.Contains(next) || next == _block.Start))
                {
                    Enter(next, state);
                    at = null;
                }
            }
        }
    }

    private int Place(ulong address) => (int)(address - _block.Start);

    private void Enter(ulong address, HostState state)
    {
        if (!_merged.TryGetValue(address, out HashSet<int>? merged))
        {
            _merged[address] = merged = [];
        }

        if (!_states.TryGetValue(address, out HostState? known))
        {
            known = state.Copy();
            known.Merge(merged, Place(address));
            _states.Add(address, known);
            _open.Enqueue(address);
        }
        else
        {
            int count = merged.Count;
            if (known.Meet(state, Place(address), merged))
            {
                _open.Enqueue(address);
            }

            _hasMerged |= merged.Count != count;
        }
    }

    /// <summary>One instruction; gives where control goes on, null where it goes elsewhere.</summary>
    private ulong? Step(HostState state, in Instruction instruction)
    {
        _reached.Add(instruction.IP);
        int place = Place(instruction.IP);
        if (instruction.FlowControl == FlowControl.Call)
        {
            return AfterCall(state, instruction, place);
        }

        if (_block.Retries.TryGetValue(instruction.IP, out (int Cached, int Region) retry))
        {
            ReachRules.Retry(state, retry.Cached, retry.Region, place);
        }

        _memory.Check(state, instruction);
        if (instruction.FlowControl == FlowControl.ConditionalBranch)
        {
            HostState taken = state.Copy();
            HostValue tested = state.Registers[HostRegister.Test];
            Apply(taken, instruction, place);
            Apply(state, instruction, place);
            if (instruction.Code == Code.Loop_rel8_64_RCX && tested.Kind == HostValueKind.Check)
            {
                AddFact(state, tested);
            }
            else if (instruction.Code == Code.Jrcxz_rel8_64 && tested.Kind is HostValueKind.CheckLessOne or HostValueKind.Masked)
            {
                AddFact(taken, tested.Kind == HostValueKind.Masked ? tested : tested with { Kind = HostValueKind.Check });
            }

            EnterTarget(instruction, taken);
            return instruction.NextIP;
        }

        if (instruction.FlowControl == FlowControl.UnconditionalBranch)
        {
            EnterTarget(instruction, state);
            return null;
        }

        Apply(state, instruction, place);
        return instruction.FlowControl == FlowControl.Next ? instruction.NextIP : null;
    }

    private void Apply(HostState state, in Instruction instruction, int place)
    {
        _reaches.Apply(state, instruction, place);
        _evaluator.Apply(state, instruction, place);
    }

    private void EnterTarget(in Instruction branch, HostState state)
    {
        if (_code.ContainsKey(branch.NearBranch64))
        {
            Enter(branch.NearBranch64, state);
        }
    }

    private ulong? AfterCall(HostState state, in Instruction call, int place)
    {
        if (_returns.Landings.Contains(call.NextIP))
        {
            // Whoever comes back there, much has been done in between.
            Enter(call.NextIP, HostState.Unknown(Place(call.NextIP)));
            return call.NearBranch64;
        }

        ulong? retry = _calls.RetryOf(call);
        if (retry is { } again && _code.ContainsKey(again))
        {
            // Once the miss is mended: registers hold whatever they may, but for the guest's, of which lookups take nothing for granted.
            HostState mended = state.Copy();
            mended.ForgetRegisters(place, keepsGuest: true);
            _labels.Add(again);
            Enter(again, mended);
        }

        foreach (int register in _calls.Changed(call))
        {
            state.Reaches[register] = state.FreshReach(place, register);
        }

        return _calls.Apply(state, call, place) ? call.NextIP : null;
    }

    /// <summary>The newest comparison of one entry is the one that counts.</summary>
    private void AddFact(HostState state, HostValue fact)
    {
        bool isSingle = _evaluator.IsSingle(fact.Table);
        state.Facts.RemoveWhere(old => old.Table == fact.Table && (isSingle || (old.Root == fact.Root && old.Low == fact.Low)));
        state.Facts.Add(fact);
    }
}
