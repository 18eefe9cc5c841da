using Iced.Intel;
using Tutti.Cpu.Interpreter;

namespace Tutti.Cpu.Translator;

/// <summary>A direct jump within the page that a block ends or leaves with.</summary>
/// <param name="Site">Where the jump's rel32 stands (run address).</param>
/// <param name="Stub">Where it leads while it has no target.</param>
/// <param name="TargetOffset">Where in the page it goes.</param>
/// <param name="Set">The tables that the target uses: STAC and CLAC change them.</param>
internal readonly record struct DirectJump(long Site, long Stub, int TargetOffset, TlbSet Set);

/// <summary>
/// Translates one block: instructions from an entry until an unconditional jump, the end of the page or something for the
/// interpreter. docs/translator.md tells the rules.
/// </summary>
internal sealed unsafe partial class BlockTranslator
{
    /// <summary>Instructions in a block at most.</summary>
    public const int MaxInstructions = 96;

    /// <summary>Jumps within the page that a block goes along.</summary>
    private const int MaxFollowed = 3;

    /// <summary>Host bytes that a block takes at most, with room to spare: about 200 for the longest instruction and its stub.</summary>
    public const int MaxBytes = 64 << 10;

    private readonly Emitter _emit;
    private readonly CommonCode _common;
    private readonly CodeWords[] _readers = new CodeWords[1 + MaxFollowed];
    private readonly GuestDecoder[] _decoders = new GuestDecoder[1 + MaxFollowed];
    private readonly AccessGroups _groups = new();

    /// <summary>Indexes in the block of the jumps that it goes along.</summary>
    private readonly int[] _followed = new int[MaxFollowed];

    private int _followedCount;

    /// <summary>How many of them have been translated.</summary>
    private int _passedCount;

    /// <summary>The block's instructions, and what of them the decoder alone knows.</summary>
    private readonly Instruction[] _instructions = new Instruction[MaxInstructions + 1];

    private readonly ConstantOffsets[] _constants = new ConstantOffsets[MaxInstructions + 1];
    private readonly GroupMember[] _members = new GroupMember[MaxInstructions + 1];
    private readonly List<Stub> _stubs = [];
    private int _decoded;

    /// <summary>Behind the decoded instructions stands one that crosses the page's end.</summary>
    private bool _isCut;

    /// <summary>Index in the block of the instruction being translated.</summary>
    private int _index;

    private ulong _pagePhysical;
    private readonly List<DirectJump> _jumps = [];
    private TlbSet _set;

    /// <summary>Offset in the page of the instruction being translated.</summary>
    private int _offset;

    /// <summary>Where the host code of the instruction begins. It can be run again until its end, where the guest's state changes.</summary>
    private long _start;

    /// <summary>A lookup of memory has been emitted, which misses when something asks for attention, or a poll.</summary>
    private bool _hasPolled;

    private bool _ends;

    /// <summary>The slot of a group whose host address R15 holds too; -1 for none.</summary>
    private int _heldSlot;

    /// <summary>The guest's register in the state whose value R14 has too; <see cref="NoRegister"/> for none.</summary>
    private int _cachedGuest;

    /// <summary>The same behind an instruction that is not copied.</summary>
    private int _cachedAfter;

    /// <summary>The same where the instruction begins: who tries it again must bring that register back.</summary>
    private int _cachedAtStart;

    /// <summary>Where jumps back to the block's own start go that need not load registers again; 0 where there are none to load.</summary>
    private long _loopEntry;

    /// <summary>Offset in the page of the block's first instruction.</summary>
    private int _blockOffset;

    /// <summary>Where the instructions begin that are translated now: the block, or what its last jump has led to.</summary>
    private int _runOffset;

    /// <summary>Offsets of the block's lowest byte, and one past the highest of those that a jump has ended.</summary>
    private int _low;

    private int _high;
    private TlbSet _loopSet;
    private StateUnit _loaded;
    private bool _loadedX87;

    public BlockTranslator(Emitter emit, CommonCode common)
    {
        _emit = emit;
        _common = common;
        for (int i = 0; i < _readers.Length; i++)
        {
            _readers[i] = new CodeWords();
            _decoders[i] = new GuestDecoder(64, _readers[i]);
        }

        _targetDecoder = new GuestDecoder(64, _targetReader);
    }

    /// <summary>What an exit or a slow path needs to know that is emitted behind the block.</summary>
    /// <param name="Site">The rel32 of the jump that leads to it.</param>
    /// <param name="Info">See <see cref="ExitInfo"/>.</param>
    /// <param name="Retry">Where to go on, or 0.</param>
    /// <param name="Address">The register with the address that missed.</param>
    /// <param name="Resume">Not 0: where the fast path of a stack access or an access site goes on behind its compare.</param>
    /// <param name="Displacement">Of a stack access from RSP, of a site's from the register.</param>
    private readonly record struct Stub(long Site, int Info, long Retry, int Address, long Resume, int Displacement, TlbSet Set)
    {
        /// <summary>A site's record, in bytes from the first one.</summary>
        public int Record { get; init; }

        /// <summary>The record is a frame's.</summary>
        public bool IsFrame { get; init; }

        /// <summary>The guest's register, plus 1, that R14 must have where the instruction is tried again; 0 for none.</summary>
        public int Cached { get; init; }

        /// <summary>The same where the fast path goes on.</summary>
        public int CachedOnResume { get; init; }

        /// <summary>A far jump that is taken seldom or often: it stands behind the block. <see cref="Displacement"/> is its target.</summary>
        public bool IsTaken { get; init; }

        /// <summary>It looks for attention first.</summary>
        public bool Polls { get; init; }

        /// <summary>A lookup of the jump cache: it goes on at <see cref="Retry"/> when the second entry is the one.</summary>
        public bool IsJump { get; init; }

        /// <summary>The routine that loads a unit which the block needs; 0 for none.</summary>
        public long Load { get; init; }

        /// <summary>A RET that its ring has not helped.</summary>
        public bool IsReturn { get; init; }
    }

    /// <summary>Where the guest's time goes, as far as that is known.</summary>
    public HotCode Hot { get; } = new();

    /// <summary>Guest physical addresses of instructions whose operands, grouped, have crossed a page's end: they stay alone.</summary>
    public HashSet<ulong> Ungrouped { get; } = [];

    /// <summary>Where jumps from elsewhere enter, with the linear address in R14.</summary>
    public long FarEntry { get; private set; }

    /// <summary>Where jumps from the same page enter.</summary>
    public long NearEntry { get; private set; }

    /// <summary>Bytes of guest code from the first instruction on; those of an instruction that crosses the page's end do not count.</summary>
    public int ByteLength { get; private set; }

    /// <summary>Bytes from the lowest one to the first instruction.</summary>
    public int BytesBefore { get; private set; }

    public int InstructionCount { get; private set; }

    /// <summary>The block's jumps within the page, none of them linked yet.</summary>
    public IReadOnlyList<DirectJump> Jumps => _jumps;

    /// <summary>Translates into the emitter, which has room for <see cref="MaxBytes"/>; false when the first instruction crosses the page's end.</summary>
    /// <param name="page">The guest's page of code, as the host sees it.</param>
    /// <param name="physical">Where the block begins.</param>
    /// <param name="isKnown">Whether there is a block that begins, or can be entered, at an offset in the page.</param>
    public bool TryTranslate(byte* page, ulong physical, TlbSet set, Func<int, bool> isKnown)
    {
        _isKnown = isKnown;
        int offset = (int)(physical & 0xFFF);
        _pagePhysical = physical - (uint)offset;
        _hasWindow = set == TlbSet.UserWindow;
        _page = page;
        Decode(page, offset);
        Begin(offset, set);
        BeginLoop();
        while (!_ends)
        {
            TranslateNext();
        }

        EndForwardJumps();
        SetLength();
        EmitStubs();
        return ByteLength > 0;
    }

    /// <summary>Translates one instruction that crosses the end of its page.</summary>
    /// <param name="bytes">Its first bytes and what follows them in the next page: 15 bytes.</param>
    /// <param name="physical">Where it begins.</param>
    public void TranslateCrossing(byte* bytes, ulong physical, TlbSet set)
    {
        int offset = (int)(physical & 0xFFF);
        _pagePhysical = physical - (uint)offset;
        _hasWindow = false;
        _page = null;
        _readers[0].Start(bytes, GuestDecoder.MaxLength);
        _decoders[0].IP = (ulong)offset;
        _decoders[0].Decode(out _instructions[0]);
        _constants[0] = _decoders[0].GetConstantOffsets(_instructions[0]);
        _members[0] = default;
        _decoded = 1;
        _followedCount = 0;
        _joins = false;
        _isLabel[0] = false;
        Begin(offset, set);
        TranslateNext();
        if (!_ends)
        {
            ContinueFar(_offset);
        }

        SetLength();
        EmitStubs();
    }

    private void SetLength()
    {
        ByteLength = Math.Max(_high, _offset) - _blockOffset;
        BytesBefore = _blockOffset - _low;
    }

    /// <summary>Decodes what may become the block: emission may end it earlier.</summary>
    private void Decode(byte* page, int offset)
    {
        _decoded = 0;
        _followedCount = 0;
        _isCut = false;
        _joins = false;
        int next = DecodeRun(page, offset);
        while (next >= 0 && _followedCount < MaxFollowed)
        {
            _followed[_followedCount++] = _decoded - 1;
            next = DecodeRun(page, next);
        }

        FindLabels();
        if (_hasWindow)
        {
            Array.Clear(_members, 0, _decoded);
        }
        else
        {
            _groups.Find(_instructions.AsSpan(0, _decoded), _members, CanGroup, _isLabel);
        }
    }

    /// <summary>Decodes to the next unconditional jump; gives where in the page that leads, or -1 where the block cannot go along.</summary>
    private int DecodeRun(byte* page, int offset)
    {
        _readers[_followedCount].Start(page + offset, 4096 - offset);
        GuestDecoder decoder = _decoders[_followedCount];
        decoder.IP = (ulong)offset;
        while (_decoded < MaxInstructions)
        {
            if (_decoded > 0 && _isKnown((int)decoder.IP))
            {
                _joins = true;
                return -1;
            }

            ref Instruction instruction = ref _instructions[_decoded];
            decoder.Decode(out instruction);
            if (instruction.IsInvalid)
            {
                // What is not an instruction has no group; one that crosses the page's end is a block of its own.
                _isCut = decoder.HasRunOut;
                return -1;
            }

            _constants[_decoded++] = decoder.GetConstantOffsets(instruction);
            if (instruction.FlowControl is not (FlowControl.Next or FlowControl.ConditionalBranch))
            {
                bool isJump = instruction.Code.IsJmpShortOrNear() && instruction.Op0Kind == OpKind.NearBranch64;
                return isJump && instruction.NearBranch64 < 4096 && IndexOf((int)instruction.NearBranch64) < 0 && !_isKnown((int)instruction.NearBranch64)
                    ? (int)instruction.NearBranch64
                    : -1;
            }
        }

        return -1;
    }

    private bool CanGroup(int index) => Ungrouped.Count == 0 || !Ungrouped.Contains(_pagePhysical + _instructions[index].IP);

    private void Begin(int offset, TlbSet set)
    {
        _stubs.Clear();
        _jumps.Clear();
        _forward.Clear();
        _entries.Clear();
        _accesses.Clear();
        _set = set = set.Tables();
        _ends = false;
        _loaded = StateUnit.None;
        _loadedX87 = false;
        _offset = offset;
        _hasPolled = false;
        _heldSlot = -1;
        _region = default;
        _origins.Clear();
        _cachedGuest = _cachedAtStart = NoRegister;
        _loopEntry = 0;
        _blockOffset = _runOffset = _low = _high = offset;
        _passedCount = 0;
        _loopSet = set;
        InstructionCount = 0;
        FarEntry = _emit.Here;
        EmitFarEntry(offset);
        NearEntry = _emit.Here;
    }

    /// <summary>Takes note of the page in which code runs whose linear address is in R14.</summary>
    /// <param name="offset">Of that address in the page.</param>
    public void EmitFarEntry(int offset)
    {
        _emit.Lea(HostRegister.Address, HostRegister.Address, -offset);
        _emit.Store(StateLayout.CodePage, HostRegister.Address);
    }

    /// <summary>
    /// A block that jumps back to its own start has the registers that it uses loaded before that: what is loaded stays so while it goes
    /// round, and nothing needs to look for it each time.
    /// </summary>
    private void BeginLoop()
    {
        int start = _offset;
        int jump = 0;
        while (jump < _decoded && !IsJumpTo(_instructions[jump], start))
        {
            jump++;
        }

        if (jump == _decoded)
        {
            return;
        }

        for (int i = 0; i < jump; i++)
        {
            CopyRule rule = CopyRule.Of(_instructions[i]);
            if (rule.CanCopy && rule.Unit != StateUnit.None)
            {
                EnsureLoaded(rule.Unit);
                _loopEntry = _emit.Here;
            }
        }
    }

    private static bool IsJumpTo(in Instruction instruction, int target) =>
        (instruction.Code.IsJccShortOrNear() || instruction.Code.IsJmpShortOrNear()) && instruction.Op0Kind == OpKind.NearBranch64
        && (int)(long)instruction.NearBranch64 == target;

    /// <summary>Ends the block with a jump by linear address to what follows, here or in the next page.</summary>
    private void ContinueFar(int offset)
    {
        if (offset >= 4096)
        {
            JumpOut(offset);
            return;
        }

        _emit.Load(HostRegister.Address, StateLayout.CodePage);
        _emit.Lea(HostRegister.Address, HostRegister.Address, offset);
        FarJump(ExitInfo.Pack(ExitKind.Attention, offset));
    }

    /// <summary>Ends the block where it has no more instructions; true where it has.</summary>
    private bool TryEnd()
    {
        _index = InstructionCount;
        if (_offset >= 4096)
        {
            ContinueFar(_offset);
        }
        else if (_index == MaxInstructions || (_index == _decoded && _joins))
        {
            NearJump(_offset);
            _ends = true;
        }
        else if (_index == _decoded && _isCut)
        {
            // It crosses the page's end: a block of its own, which is found by linear address only.
            ContinueFar(_offset);
        }
        else if (_index == _decoded)
        {
            Interpret();
            InstructionCount++;
            _offset++;
        }
        else
        {
            return false;
        }

        return true;
    }

    private void TranslateNext()
    {
        if (TryEnd())
        {
            return;
        }

        InstructionCount++;
        if (_isLabel[_index])
        {
            BeginLabel();
        }

        _start = _emit.Here;
        Instruction instruction = _instructions[_index];
        if (_passedCount < _followedCount && _followed[_passedCount] == _index)
        {
            Follow(instruction);
            return;
        }

        int held = _heldSlot;
        int cached = _cachedGuest;
        _cachedGuest = _cachedAtStart = _cachedAfter = NoRegister;
        _heldSlot = _members[_index].Group is { Slot: >= 0 } && AccessGroups.StackAccess(instruction) != null ? held : -1;
        if (!TryTranslateBranch(instruction) && !TryTranslateSpecial(instruction) && !TryTranslateSystem(instruction)
            && !TryTranslateArithmetic(instruction))
        {
            // What is copied knows what becomes of R14 and R15.
            _heldSlot = held;
            _cachedGuest = _cachedAtStart = cached;
            TranslateCopy(instruction);
        }
        else if (instruction.FlowControl == FlowControl.ConditionalBranch)
        {
            _heldSlot = held;
            _cachedGuest = cached;
        }
        else
        {
            // Whatever its lookups have brought there: it has gone on from that.
            _cachedGuest = _cachedAfter;
            _region = KeepsRegion(instruction) ? _region : default;
        }

        if (_hasWindow)
        {
            _origins.Apply(instruction, CopyRule.Of(instruction));
        }

        _offset += instruction.Length;
    }

    /// <summary>Goes on where a jump leads; who has jumped backwards must have looked for attention.</summary>
    private void Follow(in Instruction jump)
    {
        int target = (int)(long)jump.NearBranch64;
        if (NeedsPoll(target))
        {
            Poll(ExitInfo.Pack(ExitKind.Attention, target));
            _hasPolled = true;
        }

        _high = Math.Max(_high, _offset + jump.Length);
        _low = Math.Min(_low, target);
        _passedCount++;
        _runOffset = _offset = target;
    }
}
