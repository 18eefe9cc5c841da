using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>Frames on the stacks of any level: pushed as a whole or not at all, and the stacks of inner levels, which the TSS names.</summary>
internal sealed unsafe class StackFrames
{
    private readonly CpuState* _state;
    private readonly LoadStoreUnit _loadStore;
    private readonly DescriptorTables _tables;
    private readonly SegmentLoader _segments;

    public StackFrames(CpuState* state, LoadStoreUnit loadStore, DescriptorTables tables, SegmentLoader segments)
    {
        _state = state;
        _loadStore = loadStore;
        _tables = tables;
        _segments = segments;
    }

    /// <summary>
    /// Pushes several items, or none: all are checked before the first is written. The stack need not be the current one.
    /// </summary>
    /// <param name="mask">Bits of the stack pointer that count; all 64 mean a flat stack without limit.</param>
    /// <param name="system">The stack belongs to a level above the current one.</param>
    /// <param name="error">Error code of #SS for an item outside the stack.</param>
    public bool TryPushItems(Segment* stack, ulong mask, ulong top, ulong* items, int count, int size, bool system, uint error, out ulong newTop)
    {
        Access access = system ? Access.Write | Access.System : Access.Write;
        newTop = top;
        for (int pass = 0; pass < 2; pass++)
        {
            newTop = top;
            for (int i = 0; i < count; i++)
            {
                newTop = (newTop - (ulong)size) & mask;
                bool flat = mask == ulong.MaxValue;
                ulong linear = flat ? newTop : (uint)(stack->Base + newTop);
                if (!flat && !Addressing.IsInside(stack, (uint)newTop, (uint)size))
                {
                    return Faults.Refuse(_state, ExceptionVector.StackFault, error);
                }

                ulong item = items[i];
                if (!_loadStore.TryAccess(linear, size, (byte*)&item, pass == 0 ? access | Access.Probe : access))
                {
                    return Faults.Settle(_state, ExceptionVector.StackFault, error);
                }
            }
        }

        return true;
    }

    /// <summary>
    /// Finds the stack of an inner level in the TSS and checks it, without loading it. In long mode the stack segment is null.
    /// </summary>
    public bool TryFindInnerStack(int cpl, uint external, out Segment stack, out ulong mask, out ulong top)
    {
        stack = new Segment { Selector = (ushort)cpl };
        mask = ulong.MaxValue;
        if (_state->IsLongMode)
        {
            return TryReadStackPointer64(4 + (8 * (uint)cpl), external, out top);
        }

        top = 0;
        bool is32 = (_state->Tr.Attributes & 8) != 0;
        uint offset = is32 ? 4 + (8 * (uint)cpl) : 2 + (4 * (uint)cpl);
        if (offset + (is32 ? 5u : 3u) > _state->Tr.Limit)
        {
            return Faults.Refuse(_state, ExceptionVector.InvalidTss, (_state->Tr.Selector & 0xFFFCu) | external);
        }

        ushort top16 = 0;
        uint top32 = 0;
        if (!(is32 ? _tables.TryReadTable(_state->Tr.Base + offset, out top32) : _tables.TryReadTable(_state->Tr.Base + offset, out top16))
            || !_tables.TryReadTable(_state->Tr.Base + offset + (is32 ? 4u : 2u), out ushort selector))
        {
            return false;
        }

        top = is32 ? top32 : top16;
        uint error = (selector & 0xFFFCu) | external;
        if ((selector & 0xFFFC) == 0)
        {
            return Faults.Refuse(_state, ExceptionVector.InvalidTss, error);
        }

        if (!_tables.TryReadDescriptor(selector, ExceptionVector.InvalidTss, external, out Descriptor descriptor, out ulong address))
        {
            return false;
        }

        if (!SegmentLoader.IsUsableStack(descriptor, selector, cpl))
        {
            return Faults.Refuse(_state, ExceptionVector.InvalidTss, error);
        }

        if (!descriptor.Present)
        {
            return Faults.Refuse(_state, ExceptionVector.StackFault, error);
        }

        if (!_tables.TrySetAccessed(address, ref descriptor))
        {
            return false;
        }

        mask = descriptor.IsBig ? uint.MaxValue : ushort.MaxValue;
        top &= mask;
        Segment found;
        SegmentLoader.FillSegment(&found, selector, descriptor);
        stack = found;
        return true;
    }

    /// <summary>Reads RSP0 to RSP2 or an IST entry of the 64-bit TSS.</summary>
    public bool TryReadStackPointer64(uint offset, uint external, out ulong stack)
    {
        stack = 0;
        if (offset + 7 > _state->Tr.Limit)
        {
            return Faults.Refuse(_state, ExceptionVector.InvalidTss, (_state->Tr.Selector & 0xFFFCu) | external);
        }

        return _tables.TryReadTable(_state->Tr.Base + offset, out stack)
            && (CpuState.IsCanonical(_state, stack) || Faults.Refuse(_state, ExceptionVector.StackFault, external));
    }

    /// <summary>Writes a whole frame with the rights of the level that will run on it.</summary>
    public bool TryPushFrame(ulong linear, byte* frame, int size, int cpl, uint external)
    {
        // The same level as the current one is checked as its own stores are, others as supervisor.
        if (cpl == _state->Cpl ? GuestAccess.WriteBytes(_state, linear, frame, size) : _loadStore.TryWriteSystem(linear, frame, size))
        {
            return true;
        }

        return Faults.Settle(_state, ExceptionVector.StackFault, external);
    }

    /// <summary>Loads CS, SS and the stack pointer of an inner level.</summary>
    public void EnterInnerLevel(ushort selector, Descriptor code, int cpl, Segment stack, ulong mask, ulong top)
    {
        _segments.SetCode(selector, code, cpl);
        _state->Ss = stack;
        _state->Gpr[4] = mask == ushort.MaxValue ? (_state->Gpr[4] & ~mask) | top : top;
    }

    /// <summary>Reads the stack at a distance in items, without moving it; #SS(0) outside it.</summary>
    public bool TryPeekStack(int size, int index, out ulong value) => TryPeekStackBytes(size, index * size, out value);

    public bool TryPeekStackBytes(int size, int distance, out ulong value)
    {
        bool done = size switch
        {
            2 => Stack.Peek<W16>(_state, distance, out value),
            4 => Stack.Peek<W32>(_state, distance, out value),
            _ => Stack.Peek<W64>(_state, distance, out value),
        };
        return done || Faults.Settle(_state, ExceptionVector.StackFault);
    }
}
