using Iced.Intel;

namespace Tutti.Cpu.Translator;

/// <summary>A place inside a block where jumps from elsewhere may enter, too.</summary>
/// <param name="Offset">Of the instruction, in its page.</param>
internal readonly record struct BlockEntry(int Offset, long Host);

/// <summary>
/// Jumps inside the block, and where it ends so that no instruction is translated twice without need: code that is reached on several ways, as
/// most is, would else stand in the block of each.
/// </summary>
internal sealed unsafe partial class BlockTranslator
{
    /// <summary>A jump forward inside the block, whose target has not been emitted yet.</summary>
    private readonly record struct ForwardJump(long Site, int Target, StateUnit Loaded, bool LoadedX87);

    private readonly List<ForwardJump> _forward = [];
    private readonly List<BlockEntry> _entries = [];

    /// <summary>The instructions that jumps of the block lead forward to.</summary>
    private readonly bool[] _isLabel = new bool[MaxInstructions + 1];

    /// <summary>Behind the decoded instructions stands one that has, or is to have, a block of its own.</summary>
    private bool _joins;

    /// <summary>Whether there is a block that begins, or can be entered, at an offset in the page.</summary>
    private Func<int, bool> _isKnown = static _ => false;

    /// <summary>Where jumps may enter the block besides its start.</summary>
    public IReadOnlyList<BlockEntry> Entries => _entries;

    /// <summary>Finds where the block's jumps lead inside it. A loop that begins later ends the block: it is a block of its own, which loads registers before it.</summary>
    private void FindLabels()
    {
        Array.Clear(_isLabel, 0, _decoded + 1);
        int end = _decoded;
        for (int i = 0; i < end; i++)
        {
            int target = TargetOf(i);
            if (target > 0 && target <= i && target < end)
            {
                end = target;
            }
        }

        if (end < _decoded)
        {
            _decoded = end;
            _joins = true;
            _isCut = false;
            while (_followedCount > 0 && _followed[_followedCount - 1] >= end)
            {
                _followedCount--;
            }
        }

        for (int i = 0; i < end; i++)
        {
            int target = TargetOf(i);
            if (target > i && target < end)
            {
                _isLabel[target] = true;
            }
        }
    }

    /// <summary>The index of the instruction that a jump leads to; negative where that is none of the block's, or the instruction does not jump.</summary>
    private int TargetOf(int index)
    {
        ref readonly Instruction instruction = ref _instructions[index];
        bool jumps = instruction.FlowControl is FlowControl.ConditionalBranch or FlowControl.UnconditionalBranch && instruction.Op0Kind == OpKind.NearBranch64;
        return jumps && instruction.NearBranch64 < 4096 && Array.IndexOf(_followed, index, 0, _followedCount) < 0 ? IndexOf((int)instruction.NearBranch64) : -1;
    }

    private int IndexOf(int offset)
    {
        for (int i = 0; i < _decoded; i++)
        {
            if (_instructions[i].IP == (ulong)offset)
            {
                return i;
            }
        }

        return -1;
    }

    /// <summary>Lets a jump lead forward to an instruction of the block; false where that is not possible.</summary>
    private bool TryJumpForward(long site, int offset)
    {
        int target = IndexOf(offset);
        if (target <= _index || !_isLabel[target])
        {
            return false;
        }

        _forward.Add(new ForwardJump(site, target, _loaded, _loadedX87));
        return true;
    }

    /// <summary>Begins an instruction that jumps lead to: what is known there is what is known on all ways.</summary>
    private void BeginLabel()
    {
        _heldSlot = -1;
        _region = default;
        _origins.Clear();
        _cachedGuest = NoRegister;
        _hasPolled = false;
        for (int i = _forward.Count - 1; i >= 0; i--)
        {
            ForwardJump jump = _forward[i];
            if (jump.Target == _index)
            {
                _emit.PatchHere(jump.Site);
                _loaded = (StateUnit)Math.Min((int)_loaded, (int)jump.Loaded);
                _loadedX87 &= jump.LoadedX87;
                _forward.RemoveAt(i);
            }
        }

        if (_loaded == StateUnit.None && !_loadedX87)
        {
            _entries.Add(new BlockEntry(_offset, _emit.Here));
        }
    }

    /// <summary>Jumps to what the block has not come to leave it.</summary>
    private void EndForwardJumps()
    {
        foreach (ForwardJump jump in _forward)
        {
            AddLink(jump.Site, (int)_instructions[jump.Target].IP, _set);
        }

        _forward.Clear();
    }
}
