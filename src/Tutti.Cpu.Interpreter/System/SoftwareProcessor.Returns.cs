using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>IRET. Sources: Intel SDM volume 2, "IRET/IRETD/IRETQ"; AMD APM volume 3, "IRET".</summary>
internal sealed unsafe partial class SoftwareProcessor
{
    /// <summary>Returns from an interrupt; <paramref name="size"/> is the operand size in bytes. False, and nothing changed, after a fault.</summary>
    public bool TryReturnFromInterrupt(int size, ulong nextRip)
    {
        bool done = !IsProtected || IsVirtual8086 ? TryReturnReal(size)
            : !IsLongMode && (State->Flags & Rflags.NestedTask) != 0 ? TryReturnToTask(nextRip)
            : TryReturnProtected(size);
        if (done)
        {
            // NMIs come again even where the return was not from theirs.
            _nmiBlocked = false;
            _keepsResumeFlag = true;
            if ((State->Flags & Rflags.Resume) != 0 && !HasCodeBreakpoints)
            {
                State->Flags &= ~Rflags.Resume;
            }

            UpdateMode();
            InterruptsEnabled();
        }

        return done;
    }

    private bool TryReturnProtected(int size)
    {
        if ((State->Flags & Rflags.NestedTask) != 0)
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        if (!TryPeekStack(size, 0, out ulong rip) || !TryPeekStack(size, 1, out ulong cs) || !TryPeekStack(size, 2, out ulong flags))
        {
            return false;
        }

        if (!IsLongMode && size == 4 && (flags & Rflags.Virtual8086) != 0 && State->Cpl == 0)
        {
            return TryReturnToVirtual8086(rip, cs, flags);
        }

        ushort selector = (ushort)cs;
        if (!TryReadReturnCode(selector, out Descriptor code, out ulong address))
        {
            return false;
        }

        int cpl = selector & 3;
        bool movesStack = Is64BitMode || cpl > State->Cpl;
        ulong rsp = 0;
        ulong ss = 0;
        if (movesStack && (!TryPeekStack(size, 3, out rsp) || !TryPeekStack(size, 4, out ss)))
        {
            return false;
        }

        Descriptor stack = default;
        ulong stackAddress = 0;
        if (movesStack && !TryReadReturnStack((ushort)ss, selector, code, out stack, out stackAddress))
        {
            return false;
        }

        if (!IsReachable(code, IsLongMode, rip))
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        if (!TrySetAccessed(address, ref code) || (movesStack && stack.Raw != 0 && !TrySetAccessed(stackAddress, ref stack)))
        {
            return false;
        }

        bool outer = cpl > State->Cpl;
        if (size == 8 && code.IsLong && State->Cpl == 0 && cpl is 0 or 3 && ((selector | ss) & 4) == 0 && Is64BitMode)
        {
            Tier?.NoteReturn(selector, (ushort)ss, code, stack);
        }

        ulong changeable = ChangeableByReturn(size);
        if (!movesStack)
        {
            Stack.Move(State, 3 * size);
        }

        SetCode(selector, code, cpl);
        if (movesStack)
        {
            SetReturnStack((ushort)ss, stack, rsp);
        }

        if (outer)
        {
            DropInnerSegments();
        }

        State->Rip = rip;
        SetFlags(flags, changeable);
        return true;
    }

    /// <summary>
    /// Whether IRETQ changes nothing but RIP, RSP, RFLAGS, CS, SS and the level, apart from what it reads: no NMI has been blocked, no
    /// breakpoint waits for RF, no data segment is one that user code must not have. Not at levels 1 and 2.
    /// </summary>
    public bool ReturnsPlainly => !_nmiBlocked && !HasBreakpoints && State->Cpl is 0 or 3
        && !(IsInner(&State->Es) || IsInner(&State->Ds) || IsInner(&State->Fs) || IsInner(&State->Gs));

    /// <summary>What a return that <see cref="ITranslationTier.NoteReturn"/> has been told of makes of CS, SS and the level.</summary>
    public void SetReturned(ushort code, ushort stack, Descriptor codeDescriptor, Descriptor stackDescriptor)
    {
        SetCode(code, codeDescriptor, code & 3);
        SetReturnStack(stack, stackDescriptor, State->Gpr[4]);
        UpdateMode();
    }

    /// <summary>The RFLAGS bits that IRET may change at the current level.</summary>
    private ulong ChangeableByReturn(int size)
    {
        ulong mask = Rflags.Arithmetic | Rflags.Trap | Rflags.Direction | Rflags.NestedTask;
        if (size > 2)
        {
            mask |= Rflags.Resume | Rflags.AlignmentCheck | Rflags.Identification;
            mask |= State->Cpl == 0 ? Rflags.VirtualInterrupt | Rflags.VirtualInterruptPending : 0;
        }

        mask |= State->Cpl <= Iopl ? Rflags.Interrupt : 0;
        mask |= State->Cpl == 0 ? Rflags.Iopl : 0;
        return mask;
    }

    /// <summary>Replaces the bits of RFLAGS under the mask.</summary>
    private void SetFlags(ulong flags, ulong mask)
    {
        ulong current = LazyFlags.Get(State);
        State->Flags = ((current & ~mask) | (flags & mask) | Rflags.AlwaysOne) & Rflags.Defined;
        State->FlagKind = FlagKind.Eager;
    }

    /// <summary>Reads the stack at a distance in items, without moving it; #SS(0) outside it.</summary>
    private bool TryPeekStack(int size, int index, out ulong value) => TryPeekStackBytes(size, index * size, out value);

    private bool TryPeekStackBytes(int size, int distance, out ulong value)
    {
        bool done = size switch
        {
            2 => Stack.Peek<W16>(State, distance, out value),
            4 => Stack.Peek<W32>(State, distance, out value),
            _ => Stack.Peek<W64>(State, distance, out value),
        };
        return done || SettleNonCanonical(ExceptionVector.StackFault);
    }

    /// <summary>The code segment that IRET and far RET go back to.</summary>
    private bool TryReadReturnCode(ushort selector, out Descriptor code, out ulong address)
    {
        code = default;
        address = 0;
        if ((selector & 0xFFFC) == 0)
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        if (!TryReadDescriptor(selector, ExceptionVector.GeneralProtection, 0, out code, out address))
        {
            return false;
        }

        uint error = selector & 0xFFFCu;
        int rpl = selector & 3;
        if (!code.IsCode || rpl < State->Cpl
            || (code.IsConformingCode ? code.Dpl > rpl : code.Dpl != rpl)
            || (IsLongMode && code.IsLong && code.IsBig))
        {
            return Refuse(ExceptionVector.GeneralProtection, error);
        }

        return code.Present || Refuse(ExceptionVector.SegmentNotPresent, error);
    }

    /// <summary>The stack segment that a return brings; a null one is for 64-bit code above level 3.</summary>
    private bool TryReadReturnStack(ushort selector, ushort codeSelector, Descriptor code, out Descriptor stack, out ulong address)
    {
        stack = default;
        address = 0;
        int cpl = codeSelector & 3;
        if ((selector & 0xFFFC) == 0)
        {
            return (IsLongMode && code.IsLong && cpl != 3 && (selector & 3) == cpl) || Refuse(ExceptionVector.GeneralProtection);
        }

        if (!TryReadDescriptor(selector, ExceptionVector.GeneralProtection, 0, out stack, out address))
        {
            return false;
        }

        uint error = selector & 0xFFFCu;
        if (!IsUsableStack(stack, selector, cpl))
        {
            return Refuse(ExceptionVector.GeneralProtection, error);
        }

        return stack.Present || Refuse(ExceptionVector.StackFault, error);
    }

    /// <summary>Loads SS and the stack pointer in the width of the new code and stack.</summary>
    private void SetReturnStack(ushort selector, Descriptor stack, ulong rsp)
    {
        if ((selector & 0xFFFC) == 0)
        {
            ClearSegment(&State->Ss, selector);
        }
        else
        {
            FillSegment(&State->Ss, selector, stack);
        }

        bool to64 = IsLongMode && (State->Cs.Attributes & SegmentAttributes.Long) != 0;
        State->Gpr[4] = to64 ? rsp : stack.IsBig ? (uint)rsp : (State->Gpr[4] & ~0xFFFFUL) | (ushort)rsp;
    }
}
