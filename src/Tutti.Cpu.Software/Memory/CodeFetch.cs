using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>Where the code at RIP lies.</summary>
public sealed unsafe class CodeFetch
{
    private readonly CpuState* _state;
    private readonly GuestMemory _memory;
    private readonly Tlb _tlb;
    private readonly CodeWatch _watch;

    internal CodeFetch(CpuState* state, GuestMemory memory, Tlb tlb, CodeWatch watch)
    {
        _state = state;
        _memory = memory;
        _tlb = tlb;
        _watch = watch;
    }

    /// <summary>The linear address of the instruction at RIP.</summary>
    public ulong Linear =>
        (_state->Mode & CodeMode.BitnessMask) == CodeMode.Bits64 ? _state->Rip : (uint)(_state->Cs.Base + _state->Rip);

    /// <summary>Where the instruction at RIP lies; false when the fetch faulted.</summary>
    public bool TryGetPhysical(out ulong physical)
    {
        _watch.NoteThread();
        ulong linear = Linear;
        if ((_state->Mode & CodeMode.BitnessMask) == CodeMode.Bits64)
        {
            if (!CpuState.IsCanonical(_state, linear))
            {
                physical = 0;
                Faults.Raise(_state, ExceptionVector.GeneralProtection, 0);
                return false;
            }
        }
        else if (_state->Rip > _state->Cs.Limit)
        {
            physical = 0;
            Faults.Raise(_state, ExceptionVector.GeneralProtection, 0);
            return false;
        }

        return _tlb.TryTranslateFetch(linear, out physical);
    }

    /// <summary>Where the instruction at RIP lies and the host's address of its page; false when the fetch faulted or the code is not in RAM.</summary>
    public bool TryFindCode(out ulong physical, out byte* page)
    {
        page = null;
        if (!TryGetPhysical(out physical))
        {
            return false;
        }

        page = _memory.GetPointer(physical & ~0xFFFUL);
        return page != null;
    }

    /// <summary>Whether a run of instruction bytes from RIP on ends within the limit of CS.</summary>
    public bool FitsCodeSegment(int length) =>
        (_state->Mode & CodeMode.BitnessMask) == CodeMode.Bits64 || _state->Rip + (ulong)length - 1 <= _state->Cs.Limit;
}
