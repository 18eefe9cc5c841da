using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>
/// Far JMP and CALL, call gates among them. Sources: Intel SDM volume 2; AMD APM volume 2, section "Control-Transfer Privilege Checks".
/// </summary>
public sealed unsafe class FarTransfers
{
    private readonly CpuState* _state;
    private readonly OperatingMode _mode;
    private readonly DescriptorTables _tables;
    private readonly SegmentLoader _segments;
    private readonly StackFrames _frames;
    private readonly TaskSwitch _tasks;

    internal FarTransfers(CpuState* state, OperatingMode mode, DescriptorTables tables, SegmentLoader segments, StackFrames frames, TaskSwitch tasks)
    {
        _state = state;
        _mode = mode;
        _tables = tables;
        _segments = segments;
        _frames = frames;
        _tasks = tasks;
    }

    /// <summary>Far JMP. False after a fault.</summary>
    public bool TryJumpFar(ushort selector, ulong offset, ulong nextRip)
    {
        if (!_state->IsProtected || _state->IsVirtual8086)
        {
            return TryEnterRealCode(selector, offset);
        }

        if (!TryReadTransferTarget(selector, out Descriptor target, out ulong address))
        {
            return false;
        }

        if (!target.IsSystem)
        {
            return TryCheckDirectTarget(selector, target, offset) && TryEnterCode(selector, ref target, address, offset, _state->Cpl);
        }

        return target.Type switch
        {
            SystemDescriptorType.CallGate => TryJumpThroughGate(selector, target, address),
            SystemDescriptorType.CallGate16 when !_state->IsLongMode => TryJumpThroughGate(selector, target, address),
            _ => _tasks.TryTransferToTask(selector, target, TaskSwitchCause.Jump, nextRip),
        };
    }

    /// <summary>Far CALL; <paramref name="size"/> is the operand size in bytes. False after a fault.</summary>
    public bool TryCallFar(ushort selector, ulong offset, int size, ulong nextRip)
    {
        // SAFETY: each callee is told how many items there are; a call gate has 31 parameters at most.
        ulong* items = stackalloc ulong[2] { _state->Cs.Selector, nextRip };
        ulong rsp;
        if (!_state->IsProtected || _state->IsVirtual8086)
        {
            if (offset > _state->Cs.Limit)
            {
                return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
            }

            if (!_frames.TryPushItems(&_state->Ss, _state->StackMask, _state->Gpr[4], items, 2, size, false, 0, out rsp))
            {
                return false;
            }

            Stack.SetPointer(_state, rsp);
            return TryEnterRealCode(selector, offset);
        }

        if (!TryReadTransferTarget(selector, out Descriptor target, out ulong address))
        {
            return false;
        }

        if (target.IsSystem)
        {
            return target.Type switch
            {
                SystemDescriptorType.CallGate => TryCallThroughGate(selector, target, address, nextRip),
                SystemDescriptorType.CallGate16 when !_state->IsLongMode => TryCallThroughGate(selector, target, address, nextRip),
                _ => _tasks.TryTransferToTask(selector, target, TaskSwitchCause.Call, nextRip),
            };
        }

        if (!TryCheckDirectTarget(selector, target, offset)
            || !_tables.TrySetAccessed(address, ref target)
            || !_frames.TryPushItems(&_state->Ss, _state->StackMask, _state->Gpr[4], items, 2, size, false, 0, out rsp))
        {
            return false;
        }

        Stack.SetPointer(_state, rsp);
        return TryEnterCode(selector, ref target, address, offset, _state->Cpl);
    }

    internal bool TryEnterRealCode(ushort selector, ulong offset)
    {
        if (offset > _state->Cs.Limit)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        _state->Cs.Selector = selector;
        _state->Cs.Base = (ulong)selector << 4;
        _state->Rip = offset;
        return true;
    }

    private bool TryReadTransferTarget(ushort selector, out Descriptor target, out ulong address)
    {
        target = default;
        address = 0;
        return (selector & 0xFFFC) == 0
            ? Faults.Refuse(_state, ExceptionVector.GeneralProtection)
            : _tables.TryReadDescriptor(selector, ExceptionVector.GeneralProtection, 0, out target, out address);
    }

    /// <summary>A code segment that JMP or CALL names without a gate.</summary>
    private bool TryCheckDirectTarget(ushort selector, Descriptor code, ulong offset)
    {
        uint error = selector & 0xFFFCu;
        bool permitted = code.IsConformingCode
            ? code.Dpl <= _state->Cpl
            : code.Dpl == _state->Cpl && (selector & 3) <= _state->Cpl;
        if (!code.IsCode || !permitted || (_state->IsLongMode && code.IsLong && code.IsBig))
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection, error);
        }

        if (!code.Present)
        {
            return Faults.Refuse(_state, ExceptionVector.SegmentNotPresent, error);
        }

        return _segments.IsReachable(code, _state->IsLongMode, offset) || Faults.Refuse(_state, ExceptionVector.GeneralProtection);
    }

    internal bool TryEnterCode(ushort selector, ref Descriptor code, ulong address, ulong rip, int cpl)
    {
        if (!_tables.TrySetAccessed(address, ref code))
        {
            return false;
        }

        _segments.SetCode(selector, code, cpl);
        _state->Rip = rip;
        _mode.Update();
        return true;
    }

    /// <summary>Checks a call gate and the code segment behind it; <paramref name="call"/> may go to an inner level.</summary>
    private bool TryReadCallGate(ushort selector, Descriptor gate, ulong gateAddress, bool call, out Descriptor code, out ulong address, out ulong rip)
    {
        code = default;
        address = 0;
        rip = 0;
        uint error = selector & 0xFFFCu;
        if (gate.Dpl < _state->Cpl || gate.Dpl < (selector & 3))
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection, error);
        }

        if (!gate.Present)
        {
            return Faults.Refuse(_state, ExceptionVector.SegmentNotPresent, error);
        }

        rip = gate.Type == SystemDescriptorType.CallGate ? gate.GateOffset : (ushort)gate.GateOffset;
        if (_state->IsLongMode)
        {
            if (!_tables.TryReadTable(gateAddress + 8, out ulong upper))
            {
                return false;
            }

            // The upper half must look like no descriptor of its own.
            if (((upper >> 40) & 0x1F) != 0)
            {
                return Faults.Refuse(_state, ExceptionVector.GeneralProtection, error);
            }

            rip |= upper << 32;
        }

        if ((gate.GateSelector & 0xFFFC) == 0)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        if (!_tables.TryReadDescriptor(gate.GateSelector, ExceptionVector.GeneralProtection, 0, out code, out address))
        {
            return false;
        }

        uint codeError = gate.GateSelector & 0xFFFCu;
        bool permitted = call || code.IsConformingCode ? code.Dpl <= _state->Cpl : code.Dpl == _state->Cpl;
        if (!code.IsCode || !permitted || (_state->IsLongMode && (!code.IsLong || code.IsBig)))
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection, codeError);
        }

        if (!code.Present)
        {
            return Faults.Refuse(_state, ExceptionVector.SegmentNotPresent, codeError);
        }

        return _segments.IsReachable(code, _state->IsLongMode, rip) || Faults.Refuse(_state, ExceptionVector.GeneralProtection);
    }

    private bool TryJumpThroughGate(ushort selector, Descriptor gate, ulong gateAddress) =>
        TryReadCallGate(selector, gate, gateAddress, false, out Descriptor code, out ulong address, out ulong rip)
        && TryEnterCode(gate.GateSelector, ref code, address, rip, _state->Cpl);

    private bool TryCallThroughGate(ushort selector, Descriptor gate, ulong gateAddress, ulong nextRip)
    {
        if (!TryReadCallGate(selector, gate, gateAddress, true, out Descriptor code, out ulong address, out ulong rip)
            || !_tables.TrySetAccessed(address, ref code))
        {
            return false;
        }

        int size = _state->IsLongMode ? 8 : gate.Type == SystemDescriptorType.CallGate ? 4 : 2;
        if (!code.IsConformingCode && code.Dpl < _state->Cpl)
        {
            return TryCallInward(gate, code, size, rip, nextRip);
        }

        ulong* items = stackalloc ulong[2] { _state->Cs.Selector, nextRip };
        if (!_frames.TryPushItems(&_state->Ss, _state->StackMask, _state->Gpr[4], items, 2, size, false, 0, out ulong rsp))
        {
            return false;
        }

        Stack.SetPointer(_state, rsp);
        _segments.SetCode(gate.GateSelector, code, _state->Cpl);
        _state->Rip = rip;
        _mode.Update();
        return true;
    }

    /// <summary>A call gate to an inner level: a new stack from the TSS, parameters copied.</summary>
    private bool TryCallInward(Descriptor gate, Descriptor code, int size, ulong rip, ulong nextRip)
    {
        int cpl = code.Dpl;
        int parameters = _state->IsLongMode ? 0 : gate.GateParameterCount;
        ulong* items = stackalloc ulong[4 + 32];
        items[0] = _state->Ss.Selector;
        items[1] = _state->Gpr[4];
        for (int i = 0; i < parameters; i++)
        {
            // The last parameter lies highest and is pushed first.
            if (!_frames.TryPeekStack(size, parameters - 1 - i, out items[2 + i]))
            {
                return false;
            }
        }

        items[2 + parameters] = _state->Cs.Selector;
        items[3 + parameters] = nextRip;
        if (!_frames.TryFindInnerStack(cpl, 0, out Segment stack, out ulong mask, out ulong top)
            || !_frames.TryPushItems(&stack, mask, top, items, 4 + parameters, size, true, stack.Selector & 0xFFFCu, out top))
        {
            return false;
        }

        _frames.EnterInnerLevel(gate.GateSelector, code, cpl, stack, mask, top);
        _state->Rip = rip;
        _mode.Update();
        return true;
    }
}
