using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>
/// Interrupts and exceptions outside long mode: real mode's vector table, gates of protected mode, virtual-8086 mode with
/// its redirection bitmap. Source: Intel SDM volume 3, chapters "Interrupt and Exception Handling" and "8086 Emulation".
/// </summary>
internal sealed unsafe partial class SoftwareProcessor
{
    private bool TryDeliverReal(int vector, ulong returnRip)
    {
        uint offset = (uint)vector * 4;
        if (offset + 3 > State->Idtr.Limit)
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        return TryReadTable(State->Idtr.Base + offset, out uint pointer)
            && TryEnterRealHandler(pointer, returnRip, LazyFlags.Get(State), Rflags.Interrupt | Rflags.Trap | Rflags.AlignmentCheck | Rflags.Resume);
    }

    /// <summary>Pushes FLAGS, CS and IP as the 8086 does and goes to a pointer of its vector table.</summary>
    private bool TryEnterRealHandler(uint pointer, ulong returnRip, ulong flagsImage, ulong cleared)
    {
        // SAFETY: each callee is told how many items there are; the largest frame, out of virtual-8086 mode with an error code, has 10.
        ulong* items = stackalloc ulong[3] { flagsImage, State->Cs.Selector, returnRip };
        if (!TryPushItems(&State->Ss, StackMask, State->Gpr[4], items, 3, 2, false, 0, out ulong rsp))
        {
            return false;
        }

        Stack.SetPointer(State, rsp);
        State->Flags = LazyFlags.Get(State) & ~cleared;
        State->Cs.Selector = (ushort)(pointer >> 16);
        State->Cs.Base = (ulong)State->Cs.Selector << 4;
        State->Rip = (ushort)pointer;
        return true;
    }

    private bool TryDeliverProtected(int vector, bool pushesError, uint error, EventSource source, ulong returnRip, ulong resume)
    {
        if (IsVirtual8086 && source == EventSource.Software)
        {
            if (!TryRedirect(vector, returnRip, out bool redirected) || redirected)
            {
                return redirected;
            }
        }

        uint external = source >= EventSource.Breakpoint ? 0u : 1u;
        uint gateError = ((uint)vector * 8) + 2 + external;
        uint offset = (uint)vector * 8;
        if (offset + 7 > State->Idtr.Limit)
        {
            return Refuse(ExceptionVector.GeneralProtection, gateError);
        }

        if (!TryReadTable(State->Idtr.Base + offset, out ulong raw))
        {
            return false;
        }

        var gate = new Descriptor(raw);
        bool known = gate.Type is SystemDescriptorType.TaskGate or SystemDescriptorType.InterruptGate16 or SystemDescriptorType.TrapGate16
            or SystemDescriptorType.InterruptGate or SystemDescriptorType.TrapGate;
        if (!gate.IsSystem || !known || (source >= EventSource.Breakpoint && gate.Dpl < State->Cpl))
        {
            return Refuse(ExceptionVector.GeneralProtection, gateError);
        }

        if (!gate.Present)
        {
            return Refuse(ExceptionVector.SegmentNotPresent, gateError);
        }

        return gate.Type == SystemDescriptorType.TaskGate
            ? TryInterruptToTask(gate.GateSelector, pushesError, error, external, returnRip, resume)
            : TryInterruptThroughGate(gate, pushesError, error, external, returnRip, resume);
    }

    private bool TryInterruptThroughGate(Descriptor gate, bool pushesError, uint error, uint external, ulong returnRip, ulong resume)
    {
        if (!TryReadGateTarget(gate.GateSelector, external, out Descriptor code))
        {
            return false;
        }

        bool virtual8086 = IsVirtual8086;
        int cpl = code.IsConformingCode ? State->Cpl : code.Dpl;
        bool is32 = (gate.Type & 8) != 0;
        ulong rip = is32 ? gate.GateOffset : (ushort)gate.GateOffset;
        if (virtual8086 && cpl != 0)
        {
            return Refuse(ExceptionVector.GeneralProtection, (gate.GateSelector & 0xFFFCu) | external);
        }

        Segment stack = State->Ss;
        ulong mask = StackMask;
        ulong top = State->Gpr[4];
        bool inner = cpl < State->Cpl;
        if (inner && !TryFindInnerStack(cpl, external, out stack, out mask, out top))
        {
            return false;
        }

        if (rip > code.Limit)
        {
            return Refuse(ExceptionVector.GeneralProtection, external);
        }

        ulong flags = LazyFlags.Get(State);
        ulong* items = stackalloc ulong[10];
        int count = 0;
        if (virtual8086)
        {
            items[count++] = State->Gs.Selector;
            items[count++] = State->Fs.Selector;
            items[count++] = State->Ds.Selector;
            items[count++] = State->Es.Selector;
        }

        if (inner)
        {
            items[count++] = State->Ss.Selector;
            items[count++] = State->Gpr[4];
        }

        items[count++] = flags | resume;
        items[count++] = State->Cs.Selector;
        items[count++] = returnRip;
        if (pushesError)
        {
            items[count++] = error;
        }

        uint stackError = (inner ? stack.Selector & 0xFFFCu : 0) | external;
        if (!TryPushItems(&stack, mask, top, items, count, is32 ? 4 : 2, inner, stackError, out top))
        {
            return false;
        }

        EnterInnerLevel(gate.GateSelector, code, cpl, stack, mask, top & mask);
        if (virtual8086)
        {
            ClearSegment(&State->Es, 0);
            ClearSegment(&State->Ds, 0);
            ClearSegment(&State->Fs, 0);
            ClearSegment(&State->Gs, 0);
        }

        State->Rip = rip;
        bool interruptGate = gate.Type is SystemDescriptorType.InterruptGate or SystemDescriptorType.InterruptGate16;
        State->Flags = flags & ~(ClearedByDelivery | (interruptGate ? Rflags.Interrupt : 0));
        return true;
    }

    /// <summary>
    /// INT n in virtual-8086 mode: with VME the bitmap below the I/O map may send it straight to the 8086 vector table; else
    /// IOPL must be 3. False after a fault, and with <paramref name="redirected"/> when the gate is to be used.
    /// </summary>
    private bool TryRedirect(int vector, ulong returnRip, out bool redirected)
    {
        redirected = false;
        bool redirects = false;
        if ((State->Cr4 & Cr4.Virtual8086Extensions) != 0 && !TryReadRedirection(vector, out redirects))
        {
            return false;
        }

        if (!redirects)
        {
            return Iopl == 3 || Refuse(ExceptionVector.GeneralProtection);
        }

        if (!GuestAccess.Read<W32>(State, (ulong)vector * 4, out ulong pointer))
        {
            return false;
        }

        ulong flags = LazyFlags.Get(State);
        ulong cleared = Rflags.Trap | Rflags.Resume | Rflags.NestedTask;
        if (Iopl < 3)
        {
            // The handler sees VIF as IF; clearing "IF" clears VIF.
            flags = (flags & ~Rflags.Interrupt) | Rflags.Iopl | ((flags & Rflags.VirtualInterrupt) != 0 ? Rflags.Interrupt : 0);
            cleared |= Rflags.VirtualInterrupt;
        }
        else
        {
            cleared |= Rflags.Interrupt;
        }

        redirected = TryEnterRealHandler((uint)pointer, returnRip, flags, cleared);
        return redirected;
    }

    /// <summary>Reads the bit of a vector in the software interrupt redirection bitmap, the 32 bytes below the I/O map; clear redirects.</summary>
    private bool TryReadRedirection(int vector, out bool redirects)
    {
        redirects = false;
        bool is32 = (State->Tr.Attributes & 8) != 0;
        if (!is32 || State->Tr.Limit < IoMapBase + 1)
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        if (!TryReadTable(State->Tr.Base + IoMapBase, out ushort mapBase))
        {
            return false;
        }

        uint offset = (uint)mapBase - 32 + ((uint)vector >> 3);
        if (mapBase < 32 || offset > State->Tr.Limit)
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        if (!TryReadTable(State->Tr.Base + offset, out byte bits))
        {
            return false;
        }

        redirects = (bits & (1 << (vector & 7))) == 0;
        return true;
    }

    /// <summary>IRET in real and virtual-8086 mode.</summary>
    private bool TryReturnReal(int size)
    {
        bool virtual8086 = IsVirtual8086;
        bool usesVirtual = virtual8086 && Iopl < 3;
        if (usesVirtual && (size != 2 || (State->Cr4 & Cr4.Virtual8086Extensions) == 0))
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        if (!TryPeekStack(size, 0, out ulong rip) || !TryPeekStack(size, 1, out ulong cs) || !TryPeekStack(size, 2, out ulong flags))
        {
            return false;
        }

        ulong mask = Rflags.Arithmetic | Rflags.Trap | Rflags.Direction | Rflags.NestedTask;
        mask |= size > 2 ? Rflags.Resume | Rflags.AlignmentCheck | Rflags.Identification : 0;
        if (usesVirtual)
        {
            bool sets = (flags & Rflags.Interrupt) != 0;
            if ((flags & Rflags.Trap) != 0 || (sets && (State->Flags & Rflags.VirtualInterruptPending) != 0))
            {
                return Refuse(ExceptionVector.GeneralProtection);
            }

            flags = (flags & 0xFFFF) | (sets ? Rflags.VirtualInterrupt : 0);
            mask |= Rflags.VirtualInterrupt;
        }
        else
        {
            mask |= Rflags.Interrupt | (virtual8086 ? 0 : Rflags.Iopl);
        }

        if (rip > State->Cs.Limit)
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        Stack.Move(State, 3 * size);
        SetFlags(flags, mask);
        return TryEnterRealCode((ushort)cs, rip);
    }

    /// <summary>IRETD at level 0 to an image with VM set.</summary>
    private bool TryReturnToVirtual8086(ulong rip, ulong cs, ulong flags)
    {
        ulong* items = stackalloc ulong[6];
        for (int i = 0; i < 6; i++)
        {
            if (!TryPeekStack(4, 3 + i, out items[i]))
            {
                return false;
            }
        }

        if (rip > 0xFFFF)
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        SetFlags(flags, Rflags.Defined);
        FillRealSegment(&State->Cs, (ushort)cs, true);
        FillRealSegment(&State->Ss, (ushort)items[1], true);
        FillRealSegment(&State->Es, (ushort)items[2], true);
        FillRealSegment(&State->Ds, (ushort)items[3], true);
        FillRealSegment(&State->Fs, (ushort)items[4], true);
        FillRealSegment(&State->Gs, (ushort)items[5], true);
        State->Gpr[4] = (uint)items[0];
        State->Rip = rip;
        State->Cpl = 3;
        return true;
    }
}
