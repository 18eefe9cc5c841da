using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>
/// Loads of segment registers and what descriptors must be for them. Sources: Intel SDM volume 3, chapter "Protection"; AMD APM volume 2,
/// chapter 4.
/// </summary>
public sealed unsafe class SegmentLoader
{
    private readonly CpuState* _state;
    private readonly DescriptorTables _tables;

    internal SegmentLoader(CpuState* state, DescriptorTables tables)
    {
        _state = state;
        _tables = tables;
    }

    /// <summary>Loads ES, SS, DS, FS or GS as MOV and POP do, with all checks. The caller updates the mode after SS.</summary>
    public bool TryLoadSegment(int index, ushort selector)
    {
        Segment* segment = CpuState.SegmentOf(_state, index);
        if (!_state->IsProtected || _state->IsVirtual8086)
        {
            FillRealSegment(segment, selector, _state->IsVirtual8086);
            return true;
        }

        bool stack = index == 2;
        if ((selector & 0xFFFC) == 0)
        {
            if (stack && !(_state->Is64BitMode && _state->Cpl != 3 && (selector & 3) == _state->Cpl))
            {
                return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
            }

            ClearSegment(segment, selector);
            return true;
        }

        if (!_tables.TryReadDescriptor(selector, ExceptionVector.GeneralProtection, 0, out Descriptor descriptor, out ulong address))
        {
            return false;
        }

        uint error = selector & 0xFFFCu;
        if (!(stack ? IsUsableStack(descriptor, selector, _state->Cpl) : IsUsableData(descriptor, selector, _state->Cpl)))
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection, error);
        }

        if (!descriptor.Present)
        {
            return Faults.Refuse(_state, stack ? ExceptionVector.StackFault : ExceptionVector.SegmentNotPresent, error);
        }

        if (!_tables.TrySetAccessed(address, ref descriptor))
        {
            return false;
        }

        FillSegment(segment, selector, descriptor);
        return true;
    }

    internal static bool IsUsableStack(Descriptor descriptor, ushort selector, int cpl) =>
        (selector & 3) == cpl && descriptor.IsWritableData && descriptor.Dpl == cpl;

    internal static bool IsUsableData(Descriptor descriptor, ushort selector, int cpl) =>
        !descriptor.IsSystem && descriptor.IsReadable
        && (descriptor.IsConformingCode || (descriptor.Dpl >= cpl && descriptor.Dpl >= (selector & 3)));

    internal void SetCode(ushort selector, Descriptor descriptor, int cpl)
    {
        FillSegment(&_state->Cs, (ushort)((selector & ~3) | cpl), descriptor);
        _state->Cpl = cpl;
    }

    /// <summary>
    /// After a return to an outer level: data segments that the new level must not use become null. Selector and rights go; the base stays,
    /// which 64-bit code of any level can use with FS and GS whatever their selectors are.
    /// </summary>
    internal void DropInnerSegments()
    {
        DropInnerSegment(&_state->Es);
        DropInnerSegment(&_state->Ds);
        DropInnerSegment(&_state->Fs);
        DropInnerSegment(&_state->Gs);
    }

    private void DropInnerSegment(Segment* segment)
    {
        if (IsInner(segment) && ((segment->Attributes >> SegmentAttributes.DplShift) & 3) < _state->Cpl)
        {
            segment->Selector = 0;
            segment->Attributes = 0;
        }
    }

    /// <summary>Whether a level above the descriptor's own must not use the segment.</summary>
    internal static bool IsInner(Segment* segment)
    {
        int dpl = (segment->Attributes >> SegmentAttributes.DplShift) & 3;
        bool conforming = (segment->Attributes & 0xC) == 0xC;
        return (segment->Attributes & SegmentAttributes.Present) != 0 && dpl < 3 && !conforming;
    }

    /// <summary>Whether RIP may become this: canonical, or within the limit of the code segment.</summary>
    internal bool IsReachable(Descriptor code, bool longMode, ulong rip) =>
        longMode && code.IsLong ? CpuState.IsCanonical(_state, rip) : rip <= code.Limit;

    internal static void FillSegment(Segment* segment, ushort selector, Descriptor descriptor)
    {
        segment->Selector = selector;
        segment->Base = descriptor.Base;
        segment->Limit = descriptor.Limit;
        segment->Attributes = descriptor.Attributes;
    }

    /// <summary>A null selector: nothing can be reached through the register.</summary>
    internal static void ClearSegment(Segment* segment, ushort selector) => *segment = new Segment { Selector = selector };

    /// <summary>A register of real mode (<paramref name="virtual8086"/> false) or virtual-8086 mode.</summary>
    internal static void FillRealSegment(Segment* segment, ushort selector, bool virtual8086)
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
}
