using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>Far JMP, CALL and RET, call gates among them. Sources: Intel SDM volume 2; AMD APM volume 2, section "Control-Transfer Privilege Checks".</summary>
internal sealed unsafe partial class SoftwareProcessor
{
    /// <summary>Far JMP. False after a fault.</summary>
    public bool TryJumpFar(ushort selector, ulong offset, ulong nextRip)
    {
        if (!IsProtected || IsVirtual8086)
        {
            return TryEnterRealCode(selector, offset);
        }

        if (!TryReadTransferTarget(selector, out Descriptor target, out ulong address))
        {
            return false;
        }

        if (!target.IsSystem)
        {
            return TryCheckDirectTarget(selector, target, offset) && TryEnterCode(selector, ref target, address, offset, State->Cpl);
        }

        return target.Type switch
        {
            SystemDescriptorType.CallGate => TryJumpThroughGate(selector, target, address),
            SystemDescriptorType.CallGate16 when !IsLongMode => TryJumpThroughGate(selector, target, address),
            _ => TryTransferToTask(selector, target, TaskSwitchCause.Jump, nextRip),
        };
    }

    /// <summary>Far CALL; <paramref name="size"/> is the operand size in bytes. False after a fault.</summary>
    public bool TryCallFar(ushort selector, ulong offset, int size, ulong nextRip)
    {
        // SAFETY: each callee is told how many items there are; a call gate has 31 parameters at most.
        ulong* items = stackalloc ulong[2] { State->Cs.Selector, nextRip };
        ulong rsp;
        if (!IsProtected || IsVirtual8086)
        {
            if (offset > State->Cs.Limit)
            {
                return Refuse(ExceptionVector.GeneralProtection);
            }

            if (!TryPushItems(&State->Ss, StackMask, State->Gpr[4], items, 2, size, false, 0, out rsp))
            {
                return false;
            }

            Stack.SetPointer(State, rsp);
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
                SystemDescriptorType.CallGate16 when !IsLongMode => TryCallThroughGate(selector, target, address, nextRip),
                _ => TryTransferToTask(selector, target, TaskSwitchCause.Call, nextRip),
            };
        }

        if (!TryCheckDirectTarget(selector, target, offset)
            || !TrySetAccessed(address, ref target)
            || !TryPushItems(&State->Ss, StackMask, State->Gpr[4], items, 2, size, false, 0, out rsp))
        {
            return false;
        }

        Stack.SetPointer(State, rsp);
        return TryEnterCode(selector, ref target, address, offset, State->Cpl);
    }

    /// <summary>Far RET; drops bytes behind the return address (of both stacks when the level changes). False after a fault.</summary>
    public bool TryReturnFar(int size, ushort drop)
    {
        if (!TryPeekStack(size, 0, out ulong rip) || !TryPeekStack(size, 1, out ulong cs))
        {
            return false;
        }

        ushort selector = (ushort)cs;
        if (!IsProtected || IsVirtual8086)
        {
            if (rip > State->Cs.Limit)
            {
                return Refuse(ExceptionVector.GeneralProtection);
            }

            Stack.Move(State, (2 * size) + drop);
            return TryEnterRealCode(selector, rip);
        }

        if (!TryReadReturnCode(selector, out Descriptor code, out ulong address))
        {
            return false;
        }

        if ((selector & 3) > State->Cpl)
        {
            return TryReturnOutward(size, drop, rip, selector, code, address);
        }

        if (!IsReachable(code, IsLongMode, rip))
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        if (!TrySetAccessed(address, ref code))
        {
            return false;
        }

        Stack.Move(State, (2 * size) + drop);
        return TryEnterCode(selector, ref code, address, rip, State->Cpl);
    }

    private bool TryReturnOutward(int size, ushort drop, ulong rip, ushort selector, Descriptor code, ulong address)
    {
        if (!TryPeekStackBytes(size, (2 * size) + drop, out ulong rsp)
            || !TryPeekStackBytes(size, (3 * size) + drop, out ulong ss)
            || !TryReadReturnStack((ushort)ss, selector, code, out Descriptor stack, out ulong stackAddress))
        {
            return false;
        }

        if (!IsReachable(code, IsLongMode, rip))
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        if (!TrySetAccessed(address, ref code) || (stack.Raw != 0 && !TrySetAccessed(stackAddress, ref stack)))
        {
            return false;
        }

        SetCode(selector, code, selector & 3);
        SetReturnStack((ushort)ss, stack, rsp + drop);
        DropInnerSegments();
        State->Rip = rip;
        UpdateMode();
        return true;
    }

    /// <summary>Which bits of the stack pointer count: 64, 32 or 16.</summary>
    private ulong StackMask => Is64BitMode ? ulong.MaxValue : (State->Mode & CodeMode.Stack32) != 0 ? uint.MaxValue : ushort.MaxValue;

    private bool TryEnterRealCode(ushort selector, ulong offset)
    {
        if (offset > State->Cs.Limit)
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        State->Cs.Selector = selector;
        State->Cs.Base = (ulong)selector << 4;
        State->Rip = offset;
        return true;
    }

    private bool TryReadTransferTarget(ushort selector, out Descriptor target, out ulong address)
    {
        target = default;
        address = 0;
        return (selector & 0xFFFC) == 0
            ? Refuse(ExceptionVector.GeneralProtection)
            : TryReadDescriptor(selector, ExceptionVector.GeneralProtection, 0, out target, out address);
    }

    /// <summary>A code segment that JMP or CALL names without a gate.</summary>
    private bool TryCheckDirectTarget(ushort selector, Descriptor code, ulong offset)
    {
        uint error = selector & 0xFFFCu;
        bool permitted = code.IsConformingCode
            ? code.Dpl <= State->Cpl
            : code.Dpl == State->Cpl && (selector & 3) <= State->Cpl;
        if (!code.IsCode || !permitted || (IsLongMode && code.IsLong && code.IsBig))
        {
            return Refuse(ExceptionVector.GeneralProtection, error);
        }

        if (!code.Present)
        {
            return Refuse(ExceptionVector.SegmentNotPresent, error);
        }

        return IsReachable(code, IsLongMode, offset) || Refuse(ExceptionVector.GeneralProtection);
    }

    private bool TryEnterCode(ushort selector, ref Descriptor code, ulong address, ulong rip, int cpl)
    {
        if (!TrySetAccessed(address, ref code))
        {
            return false;
        }

        SetCode(selector, code, cpl);
        State->Rip = rip;
        UpdateMode();
        return true;
    }

    /// <summary>Checks a call gate and the code segment behind it; <paramref name="call"/> may go to an inner level.</summary>
    private bool TryReadCallGate(ushort selector, Descriptor gate, ulong gateAddress, bool call, out Descriptor code, out ulong address, out ulong rip)
    {
        code = default;
        address = 0;
        rip = 0;
        uint error = selector & 0xFFFCu;
        if (gate.Dpl < State->Cpl || gate.Dpl < (selector & 3))
        {
            return Refuse(ExceptionVector.GeneralProtection, error);
        }

        if (!gate.Present)
        {
            return Refuse(ExceptionVector.SegmentNotPresent, error);
        }

        rip = gate.Type == SystemDescriptorType.CallGate ? gate.GateOffset : (ushort)gate.GateOffset;
        if (IsLongMode)
        {
            if (!TryReadTable(gateAddress + 8, out ulong upper))
            {
                return false;
            }

            // The upper half must look like no descriptor of its own.
            if (((upper >> 40) & 0x1F) != 0)
            {
                return Refuse(ExceptionVector.GeneralProtection, error);
            }

            rip |= upper << 32;
        }

        if ((gate.GateSelector & 0xFFFC) == 0)
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        if (!TryReadDescriptor(gate.GateSelector, ExceptionVector.GeneralProtection, 0, out code, out address))
        {
            return false;
        }

        uint codeError = gate.GateSelector & 0xFFFCu;
        bool permitted = call || code.IsConformingCode ? code.Dpl <= State->Cpl : code.Dpl == State->Cpl;
        if (!code.IsCode || !permitted || (IsLongMode && (!code.IsLong || code.IsBig)))
        {
            return Refuse(ExceptionVector.GeneralProtection, codeError);
        }

        if (!code.Present)
        {
            return Refuse(ExceptionVector.SegmentNotPresent, codeError);
        }

        return IsReachable(code, IsLongMode, rip) || Refuse(ExceptionVector.GeneralProtection);
    }

    private bool TryJumpThroughGate(ushort selector, Descriptor gate, ulong gateAddress) =>
        TryReadCallGate(selector, gate, gateAddress, false, out Descriptor code, out ulong address, out ulong rip)
        && TryEnterCode(gate.GateSelector, ref code, address, rip, State->Cpl);

    private bool TryCallThroughGate(ushort selector, Descriptor gate, ulong gateAddress, ulong nextRip)
    {
        if (!TryReadCallGate(selector, gate, gateAddress, true, out Descriptor code, out ulong address, out ulong rip)
            || !TrySetAccessed(address, ref code))
        {
            return false;
        }

        int size = IsLongMode ? 8 : gate.Type == SystemDescriptorType.CallGate ? 4 : 2;
        if (!code.IsConformingCode && code.Dpl < State->Cpl)
        {
            return TryCallInward(gate, code, size, rip, nextRip);
        }

        ulong* items = stackalloc ulong[2] { State->Cs.Selector, nextRip };
        if (!TryPushItems(&State->Ss, StackMask, State->Gpr[4], items, 2, size, false, 0, out ulong rsp))
        {
            return false;
        }

        Stack.SetPointer(State, rsp);
        SetCode(gate.GateSelector, code, State->Cpl);
        State->Rip = rip;
        UpdateMode();
        return true;
    }

    /// <summary>A call gate to an inner level: a new stack from the TSS, parameters copied.</summary>
    private bool TryCallInward(Descriptor gate, Descriptor code, int size, ulong rip, ulong nextRip)
    {
        int cpl = code.Dpl;
        int parameters = IsLongMode ? 0 : gate.GateParameterCount;
        ulong* items = stackalloc ulong[4 + 32];
        items[0] = State->Ss.Selector;
        items[1] = State->Gpr[4];
        for (int i = 0; i < parameters; i++)
        {
            // The last parameter lies highest and is pushed first.
            if (!TryPeekStack(size, parameters - 1 - i, out items[2 + i]))
            {
                return false;
            }
        }

        items[2 + parameters] = State->Cs.Selector;
        items[3 + parameters] = nextRip;
        if (!TryFindInnerStack(cpl, 0, out Segment stack, out ulong mask, out ulong top)
            || !TryPushItems(&stack, mask, top, items, 4 + parameters, size, true, stack.Selector & 0xFFFCu, out top))
        {
            return false;
        }

        EnterInnerLevel(gate.GateSelector, code, cpl, stack, mask, top);
        State->Rip = rip;
        UpdateMode();
        return true;
    }

    /// <summary>Loads CS, SS and the stack pointer of an inner level.</summary>
    private void EnterInnerLevel(ushort selector, Descriptor code, int cpl, Segment stack, ulong mask, ulong top)
    {
        SetCode(selector, code, cpl);
        State->Ss = stack;
        State->Gpr[4] = mask == ushort.MaxValue ? (State->Gpr[4] & ~mask) | top : top;
    }

    /// <summary>
    /// Finds the stack of an inner level in the TSS and checks it, without loading it. In long mode the stack segment is null.
    /// </summary>
    private bool TryFindInnerStack(int cpl, uint external, out Segment stack, out ulong mask, out ulong top)
    {
        stack = new Segment { Selector = (ushort)cpl };
        mask = ulong.MaxValue;
        if (IsLongMode)
        {
            return TryReadStackPointer64(4 + (8 * (uint)cpl), external, out top);
        }

        top = 0;
        bool is32 = (State->Tr.Attributes & 8) != 0;
        uint offset = is32 ? 4 + (8 * (uint)cpl) : 2 + (4 * (uint)cpl);
        if (offset + (is32 ? 5u : 3u) > State->Tr.Limit)
        {
            return Refuse(ExceptionVector.InvalidTss, (State->Tr.Selector & 0xFFFCu) | external);
        }

        ushort top16 = 0;
        uint top32 = 0;
        if (!(is32 ? TryReadTable(State->Tr.Base + offset, out top32) : TryReadTable(State->Tr.Base + offset, out top16))
            || !TryReadTable(State->Tr.Base + offset + (is32 ? 4u : 2u), out ushort selector))
        {
            return false;
        }

        top = is32 ? top32 : top16;
        uint error = (selector & 0xFFFCu) | external;
        if ((selector & 0xFFFC) == 0)
        {
            return Refuse(ExceptionVector.InvalidTss, error);
        }

        if (!TryReadDescriptor(selector, ExceptionVector.InvalidTss, external, out Descriptor descriptor, out ulong address))
        {
            return false;
        }

        if (!IsUsableStack(descriptor, selector, cpl))
        {
            return Refuse(ExceptionVector.InvalidTss, error);
        }

        if (!descriptor.Present)
        {
            return Refuse(ExceptionVector.StackFault, error);
        }

        if (!TrySetAccessed(address, ref descriptor))
        {
            return false;
        }

        mask = descriptor.IsBig ? uint.MaxValue : ushort.MaxValue;
        top &= mask;
        Segment found;
        FillSegment(&found, selector, descriptor);
        stack = found;
        return true;
    }

    /// <summary>
    /// Pushes several items, or none: all are checked before the first is written. The stack need not be the current one.
    /// </summary>
    /// <param name="mask">Bits of the stack pointer that count; all 64 mean a flat stack without limit.</param>
    /// <param name="system">The stack belongs to a level above the current one.</param>
    /// <param name="error">Error code of #SS for an item outside the stack.</param>
    private bool TryPushItems(Segment* stack, ulong mask, ulong top, ulong* items, int count, int size, bool system, uint error, out ulong newTop)
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
                    return Refuse(ExceptionVector.StackFault, error);
                }

                ulong item = items[i];
                if (!AccessSlow(linear, size, (byte*)&item, pass == 0 ? access | Access.Probe : access))
                {
                    return SettleNonCanonical(ExceptionVector.StackFault, error);
                }
            }
        }

        return true;
    }
}
