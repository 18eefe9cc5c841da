using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>Far RET, and what it shares with IRET: the code and the stack that a return goes back to.</summary>
public sealed unsafe class FarReturns
{
    private readonly CpuState* _state;
    private readonly OperatingMode _mode;
    private readonly DescriptorTables _tables;
    private readonly SegmentLoader _segments;
    private readonly StackFrames _frames;
    private readonly FarTransfers _transfers;

    internal FarReturns(
        CpuState* state, OperatingMode mode, DescriptorTables tables, SegmentLoader segments, StackFrames frames, FarTransfers transfers)
    {
        _state = state;
        _mode = mode;
        _tables = tables;
        _segments = segments;
        _frames = frames;
        _transfers = transfers;
    }

    /// <summary>Far RET; drops bytes behind the return address (of both stacks when the level changes). False after a fault.</summary>
    public bool TryReturnFar(int size, ushort drop)
    {
        if (!_frames.TryPeekStack(size, 0, out ulong rip) || !_frames.TryPeekStack(size, 1, out ulong cs))
        {
            return false;
        }

        ushort selector = (ushort)cs;
        if (!_state->IsProtected || _state->IsVirtual8086)
        {
            if (rip > _state->Cs.Limit)
            {
                return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
            }

            Stack.Move(_state, (2 * size) + drop);
            return _transfers.TryEnterRealCode(selector, rip);
        }

        if (!TryReadReturnCode(selector, out Descriptor code, out ulong address))
        {
            return false;
        }

        if ((selector & 3) > _state->Cpl)
        {
            return TryReturnOutward(size, drop, rip, selector, code, address);
        }

        if (!_segments.IsReachable(code, _state->IsLongMode, rip))
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        if (!_tables.TrySetAccessed(address, ref code))
        {
            return false;
        }

        Stack.Move(_state, (2 * size) + drop);
        return _transfers.TryEnterCode(selector, ref code, address, rip, _state->Cpl);
    }

    private bool TryReturnOutward(int size, ushort drop, ulong rip, ushort selector, Descriptor code, ulong address)
    {
        if (!_frames.TryPeekStackBytes(size, (2 * size) + drop, out ulong rsp)
            || !_frames.TryPeekStackBytes(size, (3 * size) + drop, out ulong ss)
            || !TryReadReturnStack((ushort)ss, selector, code, out Descriptor stack, out ulong stackAddress))
        {
            return false;
        }

        if (!_segments.IsReachable(code, _state->IsLongMode, rip))
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        if (!_tables.TrySetAccessed(address, ref code) || (stack.Raw != 0 && !_tables.TrySetAccessed(stackAddress, ref stack)))
        {
            return false;
        }

        _segments.SetCode(selector, code, selector & 3);
        SetReturnStack((ushort)ss, stack, rsp + drop);
        _segments.DropInnerSegments();
        _state->Rip = rip;
        _mode.Update();
        return true;
    }

    /// <summary>The code segment that IRET and far RET go back to.</summary>
    internal bool TryReadReturnCode(ushort selector, out Descriptor code, out ulong address)
    {
        code = default;
        address = 0;
        if ((selector & 0xFFFC) == 0)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        if (!_tables.TryReadDescriptor(selector, ExceptionVector.GeneralProtection, 0, out code, out address))
        {
            return false;
        }

        uint error = selector & 0xFFFCu;
        int rpl = selector & 3;
        if (!code.IsCode || rpl < _state->Cpl
            || (code.IsConformingCode ? code.Dpl > rpl : code.Dpl != rpl)
            || (_state->IsLongMode && code.IsLong && code.IsBig))
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection, error);
        }

        return code.Present || Faults.Refuse(_state, ExceptionVector.SegmentNotPresent, error);
    }

    /// <summary>The stack segment that a return brings; a null one is for 64-bit code above level 3.</summary>
    internal bool TryReadReturnStack(ushort selector, ushort codeSelector, Descriptor code, out Descriptor stack, out ulong address)
    {
        stack = default;
        address = 0;
        int cpl = codeSelector & 3;
        if ((selector & 0xFFFC) == 0)
        {
            return (_state->IsLongMode && code.IsLong && cpl != 3 && (selector & 3) == cpl) || Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        if (!_tables.TryReadDescriptor(selector, ExceptionVector.GeneralProtection, 0, out stack, out address))
        {
            return false;
        }

        uint error = selector & 0xFFFCu;
        if (!SegmentLoader.IsUsableStack(stack, selector, cpl))
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection, error);
        }

        return stack.Present || Faults.Refuse(_state, ExceptionVector.StackFault, error);
    }

    /// <summary>Loads SS and the stack pointer in the width of the new code and stack.</summary>
    internal void SetReturnStack(ushort selector, Descriptor stack, ulong rsp)
    {
        if ((selector & 0xFFFC) == 0)
        {
            SegmentLoader.ClearSegment(&_state->Ss, selector);
        }
        else
        {
            SegmentLoader.FillSegment(&_state->Ss, selector, stack);
        }

        bool to64 = _state->IsLongMode && (_state->Cs.Attributes & SegmentAttributes.Long) != 0;
        _state->Gpr[4] = to64 ? rsp : stack.IsBig ? (uint)rsp : (_state->Gpr[4] & ~0xFFFFUL) | (ushort)rsp;
    }
}
