using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>What the system instructions share: access to descriptor tables and raising of faults.</summary>
internal sealed unsafe partial class SoftwareProcessor
{
    private bool IsLongMode => (State->Efer & Efer.LongModeActive) != 0;

    private bool Is64BitMode => (State->Mode & CodeMode.BitnessMask) == CodeMode.Bits64;

    private bool IsProtected => (State->Cr0 & Cr0.ProtectionEnable) != 0;

    private bool IsVirtual8086 => (State->Flags & Rflags.Virtual8086) != 0;

    private int Iopl => (int)(State->Flags >> Rflags.IoplShift) & 3;

    /// <summary>Raises a fault; always false, so that checks can return it.</summary>
    private bool Refuse(int vector, uint error = 0)
    {
        RaiseFault(State, vector, error);
        return false;
    }

    /// <summary>A linear address as the processor's own table accesses form it: 32 bits wide outside long mode.</summary>
    private ulong TableAddress(ulong linear) => IsLongMode ? linear : (uint)linear;

    /// <summary>Reads from a descriptor table or TSS.</summary>
    private bool TryReadTable<T>(ulong linear, out T value)
        where T : unmanaged => TryReadSystem(TableAddress(linear), out value) || SettleNonCanonical(ExceptionVector.GeneralProtection);

    /// <summary>Writes to a descriptor table or TSS.</summary>
    private bool TryWriteTable<T>(ulong linear, T value)
        where T : unmanaged => TryWriteSystem(TableAddress(linear), value) || SettleNonCanonical(ExceptionVector.GeneralProtection);

    /// <summary>Gives a non-canonical access its vector; false.</summary>
    private bool SettleNonCanonical(int vector, uint error = 0)
    {
        if (State->FaultVector == NonCanonicalFault)
        {
            RaiseFault(State, vector, error);
        }

        return false;
    }

    /// <summary>
    /// Reads the descriptor that a selector names; where it lies outside its table the given vector is raised with the
    /// selector as error code.
    /// </summary>
    private bool TryReadDescriptor(ushort selector, int vector, uint external, out Descriptor descriptor, out ulong address)
    {
        Segment* table = (selector & 4) != 0 ? &State->Ldtr : &State->Gdtr;
        uint offset = selector & 0xFFF8u;
        bool missing = (selector & 4) != 0 && (State->Ldtr.Attributes & SegmentAttributes.Present) == 0;
        descriptor = default;
        address = table->Base + offset;
        if (missing || offset + 7 > table->Limit)
        {
            return Refuse(vector, (selector & 0xFFFCu) | external);
        }

        if (!TryReadTable(address, out ulong raw))
        {
            return false;
        }

        descriptor = new Descriptor(raw);
        return true;
    }

    /// <summary>As <see cref="TryReadDescriptor"/>, without a fault where there is none; false with FaultVector set after a page fault.</summary>
    public bool TryPeekDescriptor(ushort selector, out Descriptor descriptor, out ulong upper)
    {
        upper = 0;
        if ((selector & 0xFFFC) == 0 || !TryReadDescriptor(selector, ExceptionVector.GeneralProtection, 0, out descriptor, out ulong address))
        {
            descriptor = default;
            if (State->FaultVector == ExceptionVector.GeneralProtection)
            {
                State->FaultVector = NothingPending;
            }

            return false;
        }

        // System descriptors of long mode take 16 bytes.
        return !IsLongMode || !descriptor.IsSystem || TryReadTable(address + 8, out upper);
    }

    /// <summary>Sets the accessed bit of a code or data descriptor in its table.</summary>
    private bool TrySetAccessed(ulong address, ref Descriptor descriptor)
    {
        if (!descriptor.IsAccessed)
        {
            descriptor = new Descriptor(descriptor.Raw | (1UL << 40));
            return TryWriteTable(address + 5, (byte)(descriptor.Raw >> 40));
        }

        return true;
    }

    private static void FillSegment(Segment* segment, ushort selector, Descriptor descriptor)
    {
        segment->Selector = selector;
        segment->Base = descriptor.Base;
        segment->Limit = descriptor.Limit;
        segment->Attributes = descriptor.Attributes;
    }

    /// <summary>A null selector: nothing can be reached through the register.</summary>
    private static void ClearSegment(Segment* segment, ushort selector) => *segment = new Segment { Selector = selector };

    /// <summary>A register of real mode (<paramref name="virtual8086"/> false) or virtual-8086 mode.</summary>
    private static void FillRealSegment(Segment* segment, ushort selector, bool virtual8086)
    {
        segment->Selector = selector;
        segment->Base = (ulong)selector << 4;
        if (virtual8086)
        {
            segment->Limit = 0xFFFF;
            segment->Attributes = 0xF3;
        }
        else if ((segment->Attributes & SegmentAttributes.Present) == 0)
        {
            segment->Limit = 0xFFFF;
            segment->Attributes = 0x93;
        }
    }

    /// <summary>Loads ES, SS, DS, FS or GS as MOV and POP do, with all checks. The caller updates the mode after SS.</summary>
    public bool TryLoadSegment(int index, ushort selector)
    {
        Segment* segment = CpuState.SegmentOf(State, index);
        if (!IsProtected || IsVirtual8086)
        {
            FillRealSegment(segment, selector, IsVirtual8086);
            return true;
        }

        bool stack = index == 2;
        if ((selector & 0xFFFC) == 0)
        {
            if (stack && !(Is64BitMode && State->Cpl != 3 && (selector & 3) == State->Cpl))
            {
                return Refuse(ExceptionVector.GeneralProtection);
            }

            ClearSegment(segment, selector);
            return true;
        }

        if (!TryReadDescriptor(selector, ExceptionVector.GeneralProtection, 0, out Descriptor descriptor, out ulong address))
        {
            return false;
        }

        uint error = selector & 0xFFFCu;
        if (!(stack ? IsUsableStack(descriptor, selector, State->Cpl) : IsUsableData(descriptor, selector, State->Cpl)))
        {
            return Refuse(ExceptionVector.GeneralProtection, error);
        }

        if (!descriptor.Present)
        {
            return Refuse(stack ? ExceptionVector.StackFault : ExceptionVector.SegmentNotPresent, error);
        }

        if (!TrySetAccessed(address, ref descriptor))
        {
            return false;
        }

        FillSegment(segment, selector, descriptor);
        return true;
    }

    private static bool IsUsableStack(Descriptor descriptor, ushort selector, int cpl) =>
        (selector & 3) == cpl && descriptor.IsWritableData && descriptor.Dpl == cpl;

    private static bool IsUsableData(Descriptor descriptor, ushort selector, int cpl) =>
        !descriptor.IsSystem && descriptor.IsReadable
        && (descriptor.IsConformingCode || (descriptor.Dpl >= cpl && descriptor.Dpl >= (selector & 3)));

    private void SetCode(ushort selector, Descriptor descriptor, int cpl)
    {
        FillSegment(&State->Cs, (ushort)((selector & ~3) | cpl), descriptor);
        State->Cpl = cpl;
    }

    /// <summary>
    /// After a return to an outer level: data segments that the new level must not use become null. Selector and rights go; the base stays,
    /// which 64-bit code of any level can use with FS and GS whatever their selectors are.
    /// </summary>
    private void DropInnerSegments()
    {
        DropInnerSegment(&State->Es);
        DropInnerSegment(&State->Ds);
        DropInnerSegment(&State->Fs);
        DropInnerSegment(&State->Gs);
    }

    private void DropInnerSegment(Segment* segment)
    {
        if (IsInner(segment) && ((segment->Attributes >> SegmentAttributes.DplShift) & 3) < State->Cpl)
        {
            segment->Selector = 0;
            segment->Attributes = 0;
        }
    }

    /// <summary>Whether a level above the descriptor's own must not use the segment.</summary>
    private static bool IsInner(Segment* segment)
    {
        int dpl = (segment->Attributes >> SegmentAttributes.DplShift) & 3;
        bool conforming = (segment->Attributes & 0xC) == 0xC;
        return (segment->Attributes & SegmentAttributes.Present) != 0 && dpl < 3 && !conforming;
    }

    /// <summary>Whether RIP may become this: canonical, or within the limit of the code segment.</summary>
    private bool IsReachable(Descriptor code, bool longMode, ulong rip) =>
        longMode && code.IsLong ? IsCanonical(rip) : rip <= code.Limit;
}
