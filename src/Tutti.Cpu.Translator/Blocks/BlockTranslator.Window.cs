using Iced.Intel;

namespace Tutti.Cpu.Translator;

/// <summary>
/// Accesses of user code by the host's page tables: nothing is looked up but the region of the address. What the host's
/// tables do not show faults, and the instruction is tried again, or interpreted.
/// </summary>
internal sealed unsafe partial class BlockTranslator
{
    /// <summary>Displacements that are left to the access itself: they reach no farther than a region's guard.</summary>
    private const long MaxWindowDisplacement = 1 << 30;

    private readonly List<uint> _accesses = [];

    /// <summary>The block's accesses go by the window.</summary>
    private bool _hasWindow;

    /// <summary>Where the block's accesses are that may fault: see <see cref="WindowBlock.Accesses"/>.</summary>
    public IReadOnlyList<uint> Accesses => _accesses;

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

        WindowDistance(from);
        return RmOperand.InMemory(from, HostRegister.Distance, (int)displacement);
    }

    /// <summary>Brings what must be added to the address in a register to R15. Notes the instruction as one that may fault.</summary>
    private void WindowDistance(int from)
    {
        NoteAccess();
        _emit.MoveImmediate(HostRegister.Test, StateLayout.RegionShift);
        _emit.ShiftRight(HostRegister.Distance, from, HostRegister.Test);
        _emit.LoadTable(HostRegister.Distance, HostRegister.Distance, StateLayout.Regions);
    }

    private void NoteAccess()
    {
        uint access = WindowBlock.Pack((int)(_start - FarEntry), _offset, _cachedAtStart);
        if (_accesses.Count == 0 || _accesses[^1] != access)
        {
            _accesses.Add(access);
        }
    }
}
