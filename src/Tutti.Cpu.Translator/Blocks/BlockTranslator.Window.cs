using Iced.Intel;
using Tutti.Host;

namespace Tutti.Cpu.Translator;

/// <summary>
/// Accesses of user code by the host's page tables: nothing is looked up but the region of the address, or of what it comes from. What the
/// host's tables do not show faults, and the instruction is tried again, or interpreted.
/// </summary>
internal sealed unsafe partial class BlockTranslator
{
    /// <summary>How far an address may be from the one whose region's distance it is reached by: 4 GiB less than is unreadable around a region.</summary>
    private const long MaxReach = AddressWindow.Guard - (4L << 30);

    private readonly List<ulong> _accesses = [];
    private readonly Origins _origins = new();

    /// <summary>The block's accesses go by the window.</summary>
    private bool _hasWindow;

    /// <summary>R15 has the distance of the region in which a number of this origin and between these bounds lies.</summary>
    private OriginValue _region;

    /// <summary>Where the block's accesses are that may fault: see <see cref="WindowBlock.Accesses"/>.</summary>
    public IReadOnlyList<ulong> Accesses => _accesses;

    /// <summary>Whether the instruction's accesses go by the window.</summary>
    private bool UsesWindow => _hasWindow && !Hot.IsHidden(_pagePhysical + (uint)_offset);

    /// <summary>Brings what must be added to an operand's address to R15, and gives the operand. RCX is free afterwards, and R14 unless the operand names it.</summary>
    private RmOperand WindowOperand(in Instruction instruction)
    {
        OriginValue address = _origins.AddressOf(instruction);
        bool isSegmented = instruction.MemorySegment is Register.FS or Register.GS;
        bool isAbsolute = instruction.MemoryBase == Register.None && instruction.MemoryIndex == Register.None;
        if (isAbsolute && !isSegmented && address.IsKnown)
        {
            BringDistance(address, HostRegister.Address);
            return RmOperand.InMemory(HostRegister.Distance, -1, (int)(long)instruction.MemoryDisplacement64);
        }

        int from;
        int displacement = (int)(long)instruction.MemoryDisplacement64;
        if (isSegmented ? isAbsolute : instruction.MemoryBase == Register.RIP)
        {
            _cachedGuest = NoRegister;
            from = HostRegister.Address;
            _emit.Load(from, !isSegmented ? StateLayout.CodePage : instruction.MemorySegment == Register.FS ? StateLayout.FsBase : StateLayout.GsBase);
        }
        else if (!isSegmented && instruction.MemoryBase.IsGPR64() && instruction.MemoryIndex == Register.None)
        {
            from = HostRegister.OfGuest(Number(instruction.MemoryBase));
            if (from == HostRegister.InState)
            {
                from = HostRegister.Address;
                if (_cachedGuest != Number(instruction.MemoryBase))
                {
                    _cachedGuest = Number(instruction.MemoryBase);
                    _emit.Load(from, StateLayout.Gpr(_cachedGuest));
                }
            }
        }
        else
        {
            from = EmitAddress(instruction);
            displacement = 0;
        }

        BringDistance(address, from);
        return RmOperand.InMemory(from, HostRegister.Distance, displacement);
    }

    /// <summary>Brings what must be added to an address to R15, and notes the instruction as one that may fault.</summary>
    /// <param name="address">What is known of it.</param>
    /// <param name="from">The register with the address, or, where that is known, with whatever it comes from.</param>
    private void BringDistance(OriginValue address, int from)
    {
        int closest = address.IsNear(_region, MaxReach) ? _origins.FindClosest(address, MaxReach) : -1;
        if (closest >= 0)
        {
            // Whoever goes on after a fault has the region of that one: it counts for all that follow, too.
            NoteAccess(closest);
            _region = _region.Or(_origins[closest]);
            return;
        }

        NoteAccess(-1);
        if (address.IsNear(OriginValue.Number(0, 0), MaxReach))
        {
            _region = OriginValue.Number(0, 0);
            _emit.Load(HostRegister.Distance, StateLayout.Regions);
            return;
        }

        int oldest = address.IsKnown ? _origins.FindOldest(address, MaxReach) : -1;
        if (oldest < 0 || (from == HostRegister.Address && oldest == _cachedGuest))
        {
            _region = oldest < 0 ? address : _origins[oldest];
            _emit.ShiftRight(HostRegister.Distance, from, HostRegister.State);
        }
        else
        {
            _region = _origins[oldest];
            EmitRegionOf(oldest);
        }

        _emit.LoadTable(HostRegister.Distance, HostRegister.Distance, StateLayout.Regions);
    }

    private void EmitRegionOf(int place)
    {
        int home = place < Origins.CodePage ? HostRegister.OfGuest(place) : HostRegister.InState;
        if (home != HostRegister.InState)
        {
            _emit.ShiftRight(HostRegister.Distance, home, HostRegister.State);
            return;
        }

        int offset = place switch
        {
            Origins.CodePage => StateLayout.CodePage,
            Origins.Fs => StateLayout.FsBase,
            Origins.Gs => StateLayout.GsBase,
            _ => StateLayout.Gpr(place),
        };
        _emit.ShiftRightState(HostRegister.Distance, offset, HostRegister.State);
    }

    /// <summary>Whether an instruction that is not copied leaves R15 alone but for what its operand says.</summary>
    private static bool KeepsRegion(in Instruction instruction) => instruction.Code is Code.Lea_r32_m or Code.Lea_r64_m
        or Code.Push_r64 or Code.Push_rm64 or Code.Pushq_imm32 or Code.Pushq_imm8 or Code.Pop_r64 or Code.Leaveq;

    /// <summary>Notes the instruction as one that may fault.</summary>
    /// <param name="region">The register of whose region R15 must have the distance where the instruction begins; less than 0 for none.</param>
    private void NoteAccess(int region)
    {
        // The first of an instruction's accesses says what R15 must be where it begins: what comes to it later is made in between.
        ulong access = WindowBlock.Pack((int)(_start - FarEntry), _offset, _cachedAtStart, region);
        if (_accesses.Count == 0 || WindowBlock.DistanceOf(_accesses[^1]) != WindowBlock.DistanceOf(access))
        {
            _accesses.Add(access);
        }
    }
}
