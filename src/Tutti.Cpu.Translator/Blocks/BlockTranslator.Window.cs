using Iced.Intel;

namespace Tutti.Cpu.Translator;

/// <summary>
/// Accesses of user code by the host's page tables: nothing is looked up but the region of the address. What the host's
/// tables do not show faults, and the instruction is tried again, or interpreted.
/// </summary>
internal sealed unsafe partial class BlockTranslator
{
    /// <summary>Displacements that are left to the access itself, with what has been added to the register since: they reach no farther than a region's guard.</summary>
    private const long MaxWindowDisplacement = 1 << 30;

    /// <summary>Of which register's region R15 has the distance, as the register was.</summary>
    /// <param name="Guest">Its number, plus 1; 0 for none.</param>
    /// <param name="Version">Counts the register's values that are no constants added to the one before.</param>
    /// <param name="Moved">Those constants, in all.</param>
    private readonly record struct HeldRegion(int Guest, int Version, int Moved);

    private readonly List<ulong> _accesses = [];

    /// <summary>The block's accesses go by the window.</summary>
    private bool _hasWindow;

    private HeldRegion _region;

    /// <summary>The same where the instruction begins.</summary>
    private HeldRegion _regionAtStart;

    /// <summary>Where the block's accesses are that may fault: see <see cref="WindowBlock.Accesses"/>.</summary>
    public IReadOnlyList<ulong> Accesses => _accesses;

    /// <summary>Whether the instruction's accesses go by the window.</summary>
    private bool UsesWindow => _hasWindow && !Hot.IsHidden(_pagePhysical + (uint)_offset);

    /// <summary>Brings what must be added to an operand's address to R15, and gives the operand. RCX is free afterwards, and R14 unless the operand names it.</summary>
    private RmOperand WindowOperand(in Instruction instruction)
    {
        long displacement = (long)instruction.MemoryDisplacement64;
        bool isPlain = instruction.MemoryBase.IsGPR64() && instruction.MemoryIndex == Register.None
            && instruction.MemorySegment is not (Register.FS or Register.GS) && Math.Abs(displacement) < MaxWindowDisplacement;
        if (!isPlain)
        {
            int address = EmitAddress(instruction);
            WindowDistance(address);
            return RmOperand.InMemory(address, HostRegister.Distance, 0);
        }

        int guest = Number(instruction.MemoryBase);
        int from = HostRegister.OfGuest(guest);
        if (from == HostRegister.InState)
        {
            from = HostRegister.Address;
            if (_cachedGuest != guest)
            {
                _emit.Load(from, StateLayout.Gpr(guest));
                _cachedGuest = guest;
            }
        }

        GroupMember member = _members[_index];
        var region = new HeldRegion(guest + 1, member.Version, member.Moved);
        if (region with { Moved = _region.Moved } == _region && Math.Abs(displacement + region.Moved - _region.Moved) < MaxWindowDisplacement)
        {
            NoteAccess();
        }
        else
        {
            WindowDistance(from);
            _region = member.HasVersion ? region : default;
        }

        return RmOperand.InMemory(from, HostRegister.Distance, (int)displacement);
    }

    /// <summary>Brings what must be added to the address in a register to R15. Notes the instruction as one that may fault.</summary>
    private void WindowDistance(int from)
    {
        NoteAccess();
        _region = default;
        _emit.ShiftRight(HostRegister.Distance, from, HostRegister.State);
        _emit.LoadTable(HostRegister.Distance, HostRegister.Distance, StateLayout.Regions);
    }

    /// <summary>Whether an instruction that is not copied leaves R15 alone but for what its operand says.</summary>
    private static bool KeepsRegion(in Instruction instruction) =>
        instruction.Code is Code.Lea_r32_m or Code.Lea_r64_m or Code.Push_r64 or Code.Pushq_imm32 or Code.Pushq_imm8 or Code.Pop_r64;

    private void NoteAccess()
    {
        ulong access = WindowBlock.Pack((int)(_start - FarEntry), _offset, _cachedAtStart, _regionAtStart.Guest - 1);
        if (_accesses.Count == 0 || _accesses[^1] != access)
        {
            _accesses.Add(access);
        }
    }
}
