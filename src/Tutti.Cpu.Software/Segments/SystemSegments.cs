using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>LLDT and LTR.</summary>
public sealed unsafe class SystemSegments
{
    private readonly CpuState* _state;
    private readonly DescriptorTables _tables;
    private readonly ControlRegisters _control;

    internal SystemSegments(CpuState* state, DescriptorTables tables, ControlRegisters control)
    {
        _state = state;
        _tables = tables;
        _control = control;
    }

    /// <summary>LLDT; false after a fault.</summary>
    public bool TryLoadLdtr(ushort selector)
    {
        if ((selector & 0xFFFC) == 0)
        {
            SegmentLoader.ClearSegment(&_state->Ldtr, selector);
            return true;
        }

        if (!TryReadSystemDescriptor(selector, out Descriptor descriptor, out ulong address, out ulong tableBase))
        {
            return false;
        }

        uint error = selector & 0xFFFCu;
        if (!descriptor.IsSystem || descriptor.Type != SystemDescriptorType.LocalDescriptorTable)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection, error);
        }

        if (!descriptor.Present)
        {
            return Faults.Refuse(_state, ExceptionVector.SegmentNotPresent, error);
        }

        SegmentLoader.FillSegment(&_state->Ldtr, selector, descriptor);
        _state->Ldtr.Base = tableBase;
        return true;
    }

    /// <summary>LTR, which marks the task busy; false after a fault.</summary>
    public bool TryLoadTr(ushort selector)
    {
        if ((selector & 0xFFFC) == 0)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        if (!TryReadSystemDescriptor(selector, out Descriptor descriptor, out ulong address, out ulong tableBase))
        {
            return false;
        }

        uint error = selector & 0xFFFCu;
        bool is16 = descriptor.Type == SystemDescriptorType.AvailableTss16 && !_state->IsLongMode;
        if (!descriptor.IsSystem || (descriptor.Type != SystemDescriptorType.AvailableTss && !is16))
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection, error);
        }

        if (!descriptor.Present)
        {
            return Faults.Refuse(_state, ExceptionVector.SegmentNotPresent, error);
        }

        // Busy is bit 1 of the type.
        descriptor = new Descriptor(descriptor.Raw | (1UL << 41));
        if (!_tables.TryWriteTable(address + 5, (byte)(descriptor.Raw >> 40)))
        {
            return false;
        }

        SegmentLoader.FillSegment(&_state->Tr, selector, descriptor);
        _state->Tr.Base = tableBase;
        return true;
    }

    /// <summary>Reads an LDT or TSS descriptor from the GDT, 16 bytes in long mode.</summary>
    private bool TryReadSystemDescriptor(ushort selector, out Descriptor descriptor, out ulong address, out ulong segmentBase)
    {
        descriptor = default;
        address = 0;
        segmentBase = 0;
        uint error = selector & 0xFFFCu;
        bool isLong = _state->IsLongMode;
        if ((selector & 4) != 0 || (selector & 0xFFF8u) + (isLong ? 15u : 7u) > _state->Gdtr.Limit)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection, error);
        }

        if (!_tables.TryReadDescriptor(selector, ExceptionVector.GeneralProtection, 0, out descriptor, out address))
        {
            return false;
        }

        segmentBase = descriptor.Base;
        if (isLong)
        {
            if (!_tables.TryReadTable(address + 8, out ulong upper))
            {
                return false;
            }

            segmentBase |= upper << 32;
            if (!_control.IsLoadable(segmentBase))
            {
                return Faults.Refuse(_state, ExceptionVector.GeneralProtection, error);
            }
        }

        return true;
    }
}
