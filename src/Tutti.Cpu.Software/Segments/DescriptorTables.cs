using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>Access to descriptor tables and task-state segments, with the processor's own rights.</summary>
public sealed unsafe class DescriptorTables
{
    /// <summary>Offset of the I/O map base in a 32-bit or 64-bit TSS.</summary>
    public const uint IoMapBase = 102;

    private readonly CpuState* _state;
    private readonly LoadStoreUnit _loadStore;

    internal DescriptorTables(CpuState* state, LoadStoreUnit loadStore)
    {
        _state = state;
        _loadStore = loadStore;
    }

    /// <summary>A linear address as the processor's own table accesses form it: 32 bits wide outside long mode.</summary>
    private ulong TableAddress(ulong linear) => _state->IsLongMode ? linear : (uint)linear;

    /// <summary>Reads from a descriptor table or TSS.</summary>
    internal bool TryReadTable<T>(ulong linear, out T value)
        where T : unmanaged => _loadStore.TryReadSystem(TableAddress(linear), out value) || Faults.Settle(_state, ExceptionVector.GeneralProtection);

    /// <summary>Writes to a descriptor table or TSS.</summary>
    internal bool TryWriteTable<T>(ulong linear, T value)
        where T : unmanaged => _loadStore.TryWriteSystem(TableAddress(linear), value) || Faults.Settle(_state, ExceptionVector.GeneralProtection);

    /// <summary>
    /// Reads the descriptor that a selector names; where it lies outside its table the given vector is raised with the
    /// selector as error code.
    /// </summary>
    internal bool TryReadDescriptor(ushort selector, int vector, uint external, out Descriptor descriptor, out ulong address)
    {
        Segment* table = (selector & 4) != 0 ? &_state->Ldtr : &_state->Gdtr;
        uint offset = selector & 0xFFF8u;
        bool missing = (selector & 4) != 0 && (_state->Ldtr.Attributes & SegmentAttributes.Present) == 0;
        descriptor = default;
        address = table->Base + offset;
        if (missing || offset + 7 > table->Limit)
        {
            return Faults.Refuse(_state, vector, (selector & 0xFFFCu) | external);
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
            if (_state->FaultVector == ExceptionVector.GeneralProtection)
            {
                _state->FaultVector = Faults.None;
            }

            return false;
        }

        // System descriptors of long mode take 16 bytes.
        return !_state->IsLongMode || !descriptor.IsSystem || TryReadTable(address + 8, out upper);
    }

    /// <summary>Sets the accessed bit of a code or data descriptor in its table.</summary>
    internal bool TrySetAccessed(ulong address, ref Descriptor descriptor)
    {
        if (!descriptor.IsAccessed)
        {
            descriptor = new Descriptor(descriptor.Raw | (1UL << 40));
            return TryWriteTable(address + 5, (byte)(descriptor.Raw >> 40));
        }

        return true;
    }

    /// <summary>Reads and checks the code segment of an interrupt or trap gate.</summary>
    internal bool TryReadGateTarget(ushort selector, uint external, out Descriptor code)
    {
        code = default;
        if ((selector & 0xFFFC) == 0)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection, external);
        }

        if (!TryReadDescriptor(selector, ExceptionVector.GeneralProtection, external, out code, out ulong address))
        {
            return false;
        }

        uint error = (selector & 0xFFFCu) | external;
        if (!code.IsCode || code.Dpl > _state->Cpl)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection, error);
        }

        if (!code.Present)
        {
            return Faults.Refuse(_state, ExceptionVector.SegmentNotPresent, error);
        }

        return TrySetAccessed(address, ref code);
    }
}
