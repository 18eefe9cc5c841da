using System.Numerics;
using Iced.Intel;

namespace Tutti.Cpu.Translator;

/// <summary>
/// The memory path: a linear address becomes a host address by the software TLB, without touching flags. All that emitted
/// code reaches in guest memory it reaches behind one of these lookups.
/// </summary>
internal sealed unsafe partial class BlockTranslator
{
    /// <summary>A lookup of the stack adds 1 - 4096 to the displacement: the sum must fit 32 bits, or other bytes than the operand's are looked up.</summary>
    private const long MinStackDisplacement = int.MinValue + 4096L;

    /// <summary>The same for a site's compare.</summary>
    private const long MaxSiteDisplacement = 1 << 30;

    /// <summary>Whether the operand's address is one that <see cref="EmitAddress"/> can form.</summary>
    private static bool IsAddressable(in Instruction instruction)
    {
        Register baseRegister = instruction.MemoryBase;
        Register index = instruction.MemoryIndex;
        long displacement = (long)instruction.MemoryDisplacement64;
        bool absolute = baseRegister == Register.None && index == Register.None;
        return baseRegister != Register.EIP && (index == Register.None || index.IsGPR())
            && (displacement == (int)displacement || baseRegister.IsGPR32() || index.IsGPR32())
            && !(absolute && instruction.MemoryDisplSize != 8);
    }

    /// <summary>
    /// Emits the lookup of an instruction's memory operand. Afterwards the operand is where the result says, RCX is free, and,
    /// unless the result names it, R14 too.
    /// </summary>
    private RmOperand Lookup(in Instruction instruction, int size, bool write, bool aligned)
    {
        if (UsesWindow)
        {
            return WindowOperand(instruction);
        }

        _region = default;
        GroupMember member = _members[_index];
        if (member.Group is { Slot: >= 0 } group)
        {
            if (group.Leader == _index)
            {
                LookupGroup(instruction, group, member.Displacement);
            }
            else if (_heldSlot != group.Slot)
            {
                _emit.Load(HostRegister.Distance, StateLayout.Slot(group.Slot));
            }

            _heldSlot = group.Slot;
            return RmOperand.InMemory(HostRegister.Distance, -1, member.Displacement - group.Low);
        }

        _heldSlot = -1;
        bool ordinary = instruction.MemorySegment is not (Register.FS or Register.GS);
        if (instruction.MemoryBase == Register.RSP && instruction.MemoryIndex == Register.None && ordinary
            && BitOperations.IsPow2(size) && size is >= 2 and <= 32 && (long)instruction.MemoryDisplacement64 >= MinStackDisplacement)
        {
            int displacement = (int)(long)instruction.MemoryDisplacement64;
            StackLookup(displacement, size, write, aligned);
            return RmOperand.InMemory(HostRegister.GuestRsp, HostRegister.Distance, displacement);
        }

        int info = ExitInfo.Pack(ExitKind.TlbMiss, _offset, size, write) | (aligned ? (int)ExitInfo.AlignedBit : 0);
        if (HasSite && BitOperations.IsPow2(size) && size <= 32)
        {
            (int from, int added) = EmitSiteAddress(instruction, 0);
            SiteLookup(from, added, size, info);
            return RmOperand.InMemory(from, HostRegister.Distance, added);
        }

        int address = EmitAddress(instruction);
        EmitGenericLookup(address, size, write, aligned ? size : 0, out long miss);
        AddLookup(new Stub(miss, info, _start, address, 0, 0, _set));
        _emit.LoadTable(HostRegister.Distance, HostRegister.Distance, StateLayout.Distances(_set, write));
        return RmOperand.InMemory(address, HostRegister.Distance, 0);
    }

    /// <summary>Looks up all bytes of a group at its first member; leaves the host address of the first one in R15 and in the group's slot.</summary>
    private void LookupGroup(in Instruction instruction, AccessGroup group, int displacement)
    {
        int size = group.High - group.Low;
        int alignment = group.NeedsAlignment ? 16 : 0;
        uint bits = ExitInfo.GroupBit | (group.NeedsAlignment ? ExitInfo.AlignedBit : 0);
        int info = ExitInfo.Pack(ExitKind.TlbMiss, _offset, size, group.IsWrite) | (int)bits;
        int address = HostRegister.Address;
        int added = 0;
        if (HasSite && !group.NeedsAlignment)
        {
            (address, added) = EmitSiteAddress(instruction, group.Low - displacement);
            if (group.IsOfStack && address == HostRegister.GuestRsp && Hot.TakeFrame() is >= 0 and int record)
            {
                FrameLookup(record, added, info);
                _emit.Store(StateLayout.Slot(group.Slot), HostRegister.Distance);
                return;
            }

            SiteLookup(address, added, size, info);
        }
        else
        {
            EmitAddress(instruction, group.Low - displacement);
            EmitGenericLookup(address, size, group.IsWrite, alignment, out long miss);
            AddLookup(new Stub(miss, info, _start, address, 0, 0, _set));
            _emit.LoadTable(HostRegister.Distance, HostRegister.Distance, StateLayout.Distances(_set, group.IsWrite));
        }

        _emit.Lea(HostRegister.Distance, HostRegister.Distance, address, 0, added);
        _emit.Store(StateLayout.Slot(group.Slot), HostRegister.Distance);
    }

    /// <summary>
    /// Compares RSP with what it was when the frame's bytes were looked up last; leaves the host address of the first one in R15. Nothing else in
    /// the bytes' address changes, so they have not moved. No mask is in this: it asks nobody for attention.
    /// </summary>
    /// <param name="displacement">Of the first byte from RSP.</param>
    private void FrameLookup(int record, int displacement, int info)
    {
        _emit.Load(HostRegister.Test, StateLayout.Sites + record);
        _emit.Lea(HostRegister.Test, HostRegister.Test, HostRegister.GuestRsp, 0, 0);
        long miss = _emit.JumpUnlessOneLater();
        int bits = info | (int)ExitInfo.SiteBit;
        _emit.Load(HostRegister.Distance, StateLayout.Sites + record + 8);
        AddLookup(new Stub(miss, bits, _start, HostRegister.GuestRsp, _emit.Here, displacement, _set) { Record = record, IsFrame = true });
    }

    /// <summary>Whether the instruction's access has a page of its own that it is compared with.</summary>
    private bool HasSite => _set == TlbSet.User && Hot.IsHot(_pagePhysical + (uint)_offset) && !Hot.IsSpread(_pagePhysical + (uint)_offset);

    /// <summary>Like <see cref="EmitAddress"/>, but a displacement from a register that has its own place is given back, not added.</summary>
    private (int From, int Added) EmitSiteAddress(in Instruction instruction, int moved)
    {
        long displacement = (long)instruction.MemoryDisplacement64 + moved;
        bool plain = instruction.MemoryBase.IsGPR64() && instruction.MemoryIndex == Register.None
            && instruction.MemorySegment is not (Register.FS or Register.GS) && Math.Abs(displacement) < MaxSiteDisplacement;
        int home = plain ? HostRegister.OfGuest(Number(instruction.MemoryBase)) : HostRegister.InState;
        return home == HostRegister.InState ? (EmitAddress(instruction, moved), 0) : (home, (int)displacement);
    }

    /// <summary>
    /// Compares an address with the page that this access reached last; leaves the distance in R15. Only naturally aligned operands hit,
    /// which cannot cross the page's end; of a group, and of an operand that is seldom aligned, both ends are compared.
    /// </summary>
    /// <param name="from">The register that <paramref name="added"/> is added to.</param>
    private void SiteLookup(int from, int added, int size, int info)
    {
        var packed = new ExitInfo((uint)info);
        int record = Hot.TakeSite(packed.IsWrite);
        _emit.Load(HostRegister.Test, StateLayout.Sites + record);
        if (packed.IsGroup || (!packed.NeedsAlignment && Hot.IsUneven(_pagePhysical + (uint)_offset)))
        {
            _emit.Lea(HostRegister.Test, HostRegister.Test, from, 0, added);
            _emit.Lea(HostRegister.Distance, HostRegister.Test, size - 1);
            _emit.Extract(HostRegister.Test, HostRegister.Test, StateLayout.PageMask);
            _emit.Extract(HostRegister.Distance, HostRegister.Distance, StateLayout.PageMask);

            // The second is the first, or 1 more, or 0: a request for attention clears the mask at any time, between the two as well. First
            // plus first plus second is 3 where both are 1, and only there; their plain sum is also 2 where the first is 2 and the second
            // has been cleared, which would reach the page behind the site's.
            _emit.Lea(HostRegister.Test, HostRegister.Distance, HostRegister.Test, 1, -2);
        }
        else
        {
            _emit.Lea(HostRegister.Test, HostRegister.Test, from, 0, added + (size == 1 ? 0 : 1 - 4096));
            _emit.Extract(HostRegister.Test, HostRegister.Test, StateLayout.AlignedMask(BitOperations.Log2((uint)size)));
        }

        _hasPolled = true;
        long miss = _emit.JumpUnlessOneLater();
        _emit.Load(HostRegister.Distance, StateLayout.Sites + record + 8);
        AddLookup(new Stub(miss, info | (int)ExitInfo.SiteBit, _start, from, _emit.Here, added, _set) { Record = record });
    }

    /// <summary>Adds the slow way of a lookup that the instruction begins with: it knows what R14 has to have behind it.</summary>
    private void AddLookup(in Stub stub) => _stubs.Add(stub with { Cached = _cachedAtStart + 1, CachedOnResume = _cachedGuest + 1 });

    /// <summary>Goes to where R14 has the guest's register that a stub says.</summary>
    private void JumpCached(long target, int cached)
    {
        if (cached != 0)
        {
            _emit.Load(HostRegister.Address, StateLayout.Gpr(cached - 1));
        }

        _emit.Jump(target);
    }

    /// <summary>The TLB itself is asked, and the site's page is what it says from now on. R15 is what the fast path would have found.</summary>
    private void EmitSiteStub(in Stub stub, ExitInfo info)
    {
        _emit.Lea(HostRegister.Address, stub.Address, stub.Displacement);
        _emit.Call(stub.IsFrame ? _common.FrameLookup(info.IsWrite) : _common.SiteLookup(info.IsWrite, info.NeedsAlignment ? info.Size : 0));
        long resume = _emit.JumpLater();
        _emit.Patch(resume, stub.Resume);
        _emit.Int32(stub.Record);
        _emit.Int32(info.NeedsAlignment ? 1 - 4096 : info.Size - 1);
        _emit.Int32(stub.Info);
        JumpCached(stub.Retry, stub.Cached);
        if (stub.CachedOnResume != 0)
        {
            // The routine has used R14.
            _emit.PatchHere(resume);
            JumpCached(stub.Resume, stub.CachedOnResume);
        }
    }

    private static int MaskOf(int alignment) =>
        alignment > 0 ? StateLayout.AlignedMask(BitOperations.Log2((uint)alignment)) : StateLayout.PageMask;

    /// <summary>Looks a linear address up; leaves the index in R15. The address register stays as it is.</summary>
    /// <param name="alignment">Bytes that the operand, or each of a group, must be aligned to; 0 where none.</param>
    private void EmitGenericLookup(int address, int size, bool write, int alignment, out long miss)
    {
        _emit.Extract(HostRegister.Distance, address, StateLayout.TlbIndexMask);
        _emit.LoadTable(HostRegister.Test, HostRegister.Distance, StateLayout.Tags(_set, write));

        // The tag is 4096 minus the page's address: the sum is 4096 and the offset in the page, of which the mask leaves 1. The index
        // comes from the first byte and the compare from the last, so what crosses a page's end never hits. Aligned operands cannot
        // cross it: the mask has the bits that must be clear too, and what it leaves is 1 again. Of several in a row the last one decides.
        bool aligned = alignment > 0;
        _hasPolled = true;
        _emit.Lea(HostRegister.Test, HostRegister.Test, address, 0, aligned ? size - alignment + 1 - 4096 : size - 1);
        _emit.Extract(HostRegister.Test, HostRegister.Test, MaskOf(alignment));
        miss = _emit.JumpUnlessOneLater();
    }

    /// <summary>
    /// Looks [guest RSP + displacement] up in the one page that the stack was last written in; leaves the distance in R15.
    /// Only naturally aligned operands hit, which cannot cross the page's end. R14 is left alone.
    /// </summary>
    /// <param name="isAccessedNext">Nothing of the guest's is changed between the lookup and the access.</param>
    private void StackLookup(int displacement, int size, bool write, bool aligned = false, bool isAccessedNext = false)
    {
        if (isAccessedNext && UsesWindow)
        {
            BringDistance(_origins[Number(Register.RSP)].Plus(displacement), HostRegister.GuestRsp);
            return;
        }

        _region = default;

        _hasPolled = true;
        _emit.Load(HostRegister.Test, StateLayout.StackTag(_set));
        _emit.Lea(HostRegister.Test, HostRegister.Test, HostRegister.GuestRsp, 0, displacement + 1 - 4096);
        _emit.Extract(HostRegister.Test, HostRegister.Test, StateLayout.AlignedMask(BitOperations.Log2((uint)size)));
        long miss = _emit.JumpUnlessOneLater();
        _emit.Load(HostRegister.Distance, StateLayout.StackDistance(_set));
        int info = ExitInfo.Pack(ExitKind.TlbMiss, _offset, size, write) | (aligned ? (int)ExitInfo.AlignedBit : 0);
        AddLookup(new Stub(miss, info, _start, HostRegister.Address, _emit.Here, displacement, _set));
    }

    /// <summary>The TLB itself is asked, by a routine that all blocks share.</summary>
    private void EmitStackStub(in Stub stub, ExitInfo info)
    {
        _emit.Call(_common.StackLookup(stub.Set, info));
        long resume = _emit.JumpLater();
        _emit.Patch(resume, stub.Resume);
        _emit.Int32(stub.Displacement);
        _emit.Int32(stub.Info);
        JumpCached(stub.Retry, stub.Cached);
    }

    /// <summary>Brings the operand's linear address to a register: that of the base, where that is all, else one that is given.</summary>
    /// <param name="moved">Added to the displacement; the address is then in the register given.</param>
    /// <param name="to">The register; without a segment's base it may be one that the address is made of.</param>
    private int EmitAddress(in Instruction instruction, int? moved = null, int to = HostRegister.Address)
    {
        int cached = _cachedGuest;
        _cachedGuest = NoRegister;
        Register baseRegister = instruction.MemoryBase;
        Register indexRegister = instruction.MemoryIndex;
        bool is32 = baseRegister.IsGPR32() || indexRegister.IsGPR32();
        int displacement = (int)(long)instruction.MemoryDisplacement64 + (moved ?? 0);
        bool segmented = instruction.MemorySegment is Register.FS or Register.GS;

        // R15 may have the distance of a region.
        int spare = _hasWindow ? HostRegister.Test : HostRegister.Distance;
        if (baseRegister == Register.RIP)
        {
            _emit.Load(to, StateLayout.CodePage);
            _emit.Lea(to, to, displacement);
        }
        else if (indexRegister == Register.None && baseRegister == Register.None)
        {
            _emit.LeaAbsolute(to, displacement, !is32);
        }
        else
        {
            bool isCached = baseRegister != Register.None && Number(baseRegister) == cached;
            int found = baseRegister == Register.None ? -1 : isCached ? HostRegister.Address : FromGuest(Number(baseRegister), HostRegister.Address);
            if (indexRegister != Register.None)
            {
                int index = FromGuest(Number(indexRegister), spare);
                int scale = BitOperations.Log2((uint)instruction.MemoryIndexScale);
                if (found < 0)
                {
                    _emit.LeaIndex(to, index, scale, displacement, !is32);
                }
                else
                {
                    _emit.Lea(to, found, index, scale, displacement, !is32);
                }
            }
            else if (is32)
            {
                _emit.Rex(false, to, 0, found);
                _emit.Byte(0x8D);
                _emit.Operand(to, found, displacement);
            }
            else if (displacement != 0)
            {
                _emit.Lea(to, found, displacement);
            }
            else if (!segmented && moved == null)
            {
                _cachedGuest = found == HostRegister.Address ? Number(baseRegister) : cached;
                return found;
            }
            else
            {
                _emit.Move(to, found);
            }
        }

        if (segmented)
        {
            _emit.Load(spare, instruction.MemorySegment == Register.FS ? StateLayout.FsBase : StateLayout.GsBase);
            _emit.Lea(to, to, spare, 0, 0);
        }

        return to;
    }

    /// <summary>The host register that holds a guest register: its home, or <paramref name="scratch"/> after a load.</summary>
    private int FromGuest(int guest, int scratch)
    {
        int home = HostRegister.OfGuest(guest);
        if (home != HostRegister.InState)
        {
            return home;
        }

        _emit.Load(scratch, StateLayout.Gpr(guest));
        return scratch;
    }

    private void MoveFromGuest(int to, int guest)
    {
        int home = HostRegister.OfGuest(guest);
        if (home != HostRegister.InState)
        {
            _emit.Move(to, home);
        }
        else
        {
            _emit.Load(to, StateLayout.Gpr(guest));
        }
    }

    /// <summary>Where to make a guest register's new value, for <see cref="MoveToGuest"/> to keep: its home, or R14.</summary>
    private static int HomeOrScratch(int guest)
    {
        int home = HostRegister.OfGuest(guest);
        return home == HostRegister.InState ? HostRegister.Address : home;
    }

    private void MoveToGuest(int guest, int from)
    {
        int home = HostRegister.OfGuest(guest);
        if (home != HostRegister.InState)
        {
            _emit.Move(home, from);
        }
        else
        {
            _emit.Store(StateLayout.Gpr(guest), from);
        }
    }

    private static int Number(Register register) => register.GetFullRegister() - Register.RAX;
}
