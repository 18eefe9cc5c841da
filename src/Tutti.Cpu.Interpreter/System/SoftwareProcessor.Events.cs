using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>Where an event comes from: what its delivery checks and whether error codes carry the EXT bit.</summary>
internal enum EventSource
{
    /// <summary>An interrupt, NMI, or an exception that an instruction met.</summary>
    External,

    /// <summary>INT1: no privilege check, though an instruction asked for it.</summary>
    IceBreakpoint,

    /// <summary>INT3 and INTO: the gate's DPL is checked.</summary>
    Breakpoint,

    /// <summary>INT n: the gate's DPL is checked, and IOPL in virtual-8086 mode.</summary>
    Software,
}

/// <summary>
/// Delivery of exceptions and interrupts: double and triple faults here, gates of long mode here, older modes in the
/// file for legacy events. Sources: Intel SDM volume 3, chapter "Interrupt and Exception Handling"; AMD APM volume 2, chapter 8.
/// </summary>
internal sealed unsafe partial class SoftwareProcessor
{
    /// <summary>More than the longest way to a triple fault: a benign exception, a contributory one, a page fault, #DF.</summary>
    private const int MaxDeliveryAttempts = 8;

    private const ulong ClearedByDelivery = Rflags.Trap | Rflags.NestedTask | Rflags.Resume | Rflags.Virtual8086;

    /// <summary>Delivers an exception; one met on the way becomes a double fault where the classes say so, and then the end.</summary>
    /// <remarks>
    /// A benign exception (#AC on a misaligned stack) can meet itself for ever, as on a processor. Then this gives up, nothing
    /// is changed, and the run loop comes back here by way of the same instruction, unless it has something else to do.
    /// </remarks>
    private void DeliverException(int vector, uint error)
    {
        if (vector == NonCanonicalFault)
        {
            vector = ExceptionVector.GeneralProtection;
        }

        for (int attempt = 0; attempt < MaxDeliveryAttempts; attempt++)
        {
            CountException(vector, error);
            // Faults push RF set, so that the instruction's own breakpoint does not come again; #DB decides for itself.
            ulong resume = vector is ExceptionVector.Debug or ExceptionVector.DoubleFault or ExceptionVector.MachineCheck ? 0 : Rflags.Resume;
            if (TryDeliver(vector, error, EventSource.External, State->Rip, resume))
            {
                return;
            }

            SettleNonCanonical(ExceptionVector.GeneralProtection, 1);
            int second = State->FaultVector;
            State->FaultVector = NothingPending;
            if (vector == ExceptionVector.DoubleFault)
            {
                _tripleFault = true;
                return;
            }

            bool isDouble = IsDoubleFault(vector, second);
            vector = isDouble ? ExceptionVector.DoubleFault : second;
            error = isDouble ? 0 : State->FaultError;
        }
    }

    private void DeliverInterrupt(int vector)
    {
        CountInterrupt(vector);
        if (!TryDeliver(vector, 0, EventSource.External, State->Rip, 0, pushesError: false))
        {
            DeliverFault();
        }
    }

    /// <summary>The pairs of exceptions that make a double fault. Source: Intel SDM volume 3, "Conditions for Generating a Double Fault".</summary>
    private static bool IsDoubleFault(int first, int second)
    {
        bool secondContributes = second is ExceptionVector.DivideError or (>= ExceptionVector.InvalidTss and <= ExceptionVector.GeneralProtection);
        return first switch
        {
            ExceptionVector.DivideError or (>= ExceptionVector.InvalidTss and <= ExceptionVector.GeneralProtection) => secondContributes,
            ExceptionVector.PageFault => secondContributes || second == ExceptionVector.PageFault,
            _ => false,
        };
    }

    /// <summary>INT n and its kin: control comes back behind the instruction. False, and nothing changed, after a fault.</summary>
    public bool TryRaiseSoftware(int vector, EventSource source, ulong nextRip)
    {
        bool done = TryDeliver(vector, 0, source, nextRip, 0, pushesError: false);
        if (done && source == EventSource.IceBreakpoint)
        {
            TellHeldHits();
        }

        return done;
    }

    private bool TryDeliver(int vector, uint error, EventSource source, ulong returnRip, ulong resume, bool pushesError = true)
    {
        pushesError &= ExceptionVector.HasErrorCode(vector);
        _switchedTask = false;
        bool done = !IsProtected ? TryDeliverReal(vector, returnRip)
            : IsLongMode ? TryDeliverLong(vector, pushesError, error, source, returnRip, resume)
            : TryDeliverProtected(vector, pushesError, error, source, returnRip, resume);
        if (done)
        {
            _activity = ProcessorActivity.Running;
            State->InterruptShadow = 0;
            _trapAfterStep = false;
            UpdateMode();
        }

        return done;
    }

    /// <summary>Reads and checks a gate of the long-mode IDT and the code segment that it names.</summary>
    private bool TryReadLongGate(int vector, EventSource source, uint external, out Descriptor gate, out ulong rip, out Descriptor code)
    {
        uint error = ((uint)vector * 8) + 2 + external;
        uint offset = (uint)vector * 16;
        gate = default;
        code = default;
        rip = 0;
        if (offset + 15 > State->Idtr.Limit)
        {
            return Refuse(ExceptionVector.GeneralProtection, error);
        }

        if (!TryReadTable(State->Idtr.Base + offset, out UInt128 raw))
        {
            return false;
        }

        gate = new Descriptor((ulong)raw);
        if (!gate.IsSystem || gate.Type is not (SystemDescriptorType.InterruptGate or SystemDescriptorType.TrapGate)
            || (source >= EventSource.Breakpoint && gate.Dpl < State->Cpl))
        {
            return Refuse(ExceptionVector.GeneralProtection, error);
        }

        if (!gate.Present)
        {
            return Refuse(ExceptionVector.SegmentNotPresent, error);
        }

        rip = gate.GateOffset | ((ulong)(raw >> 64) << 32);
        return TryReadGateTarget(gate.GateSelector, external, out code)
            && ((code.IsLong && !code.IsBig) || Refuse(ExceptionVector.GeneralProtection, (gate.GateSelector & 0xFFFCu) | external));
    }

    /// <summary>Reads and checks the code segment of an interrupt or trap gate.</summary>
    private bool TryReadGateTarget(ushort selector, uint external, out Descriptor code)
    {
        code = default;
        if ((selector & 0xFFFC) == 0)
        {
            return Refuse(ExceptionVector.GeneralProtection, external);
        }

        if (!TryReadDescriptor(selector, ExceptionVector.GeneralProtection, external, out code, out ulong address))
        {
            return false;
        }

        uint error = (selector & 0xFFFCu) | external;
        if (!code.IsCode || code.Dpl > State->Cpl)
        {
            return Refuse(ExceptionVector.GeneralProtection, error);
        }

        if (!code.Present)
        {
            return Refuse(ExceptionVector.SegmentNotPresent, error);
        }

        return TrySetAccessed(address, ref code);
    }

    private bool TryDeliverLong(int vector, bool pushesError, uint error, EventSource source, ulong returnRip, ulong resume)
    {
        uint external = source >= EventSource.Breakpoint ? 0u : 1u;
        if (!TryReadLongGate(vector, source, external, out Descriptor gate, out ulong rip, out Descriptor code))
        {
            return false;
        }

        int cpl = code.IsConformingCode ? State->Cpl : code.Dpl;
        ulong stack = State->Gpr[4];
        bool switches = gate.GateStackTable != 0 || cpl < State->Cpl;
        uint slot = gate.GateStackTable != 0 ? 36 + (8 * ((uint)gate.GateStackTable - 1)) : 4 + (8 * (uint)cpl);
        if (switches && !TryReadStackPointer64(slot, external, out stack))
        {
            return false;
        }

        if (!IsCanonical(rip))
        {
            return Refuse(ExceptionVector.GeneralProtection, external);
        }

        ulong flags = LazyFlags.Get(State);
        int words = pushesError ? 6 : 5;
        // SAFETY: an error code, when there is one, and five more items.
        ulong* frame = stackalloc ulong[6];
        ulong* next = frame;
        if (pushesError)
        {
            *next++ = error;
        }

        next[0] = returnRip;
        next[1] = State->Cs.Selector;
        next[2] = flags | resume;
        next[3] = State->Gpr[4];
        next[4] = State->Ss.Selector;
        stack = (stack & ~0xFUL) - (ulong)(words * 8);
        if (!TryPushFrame(stack, (byte*)frame, words * 8, cpl, external))
        {
            return false;
        }

        if (cpl < State->Cpl)
        {
            ClearSegment(&State->Ss, (ushort)cpl);
        }

        SetCode(gate.GateSelector, code, cpl);
        State->Gpr[4] = stack;
        State->Rip = rip;
        State->Flags &= ~(ClearedByDelivery | (gate.Type == SystemDescriptorType.InterruptGate ? Rflags.Interrupt : 0));
        return true;
    }

    /// <summary>Reads RSP0 to RSP2 or an IST entry of the 64-bit TSS.</summary>
    private bool TryReadStackPointer64(uint offset, uint external, out ulong stack)
    {
        stack = 0;
        if (offset + 7 > State->Tr.Limit)
        {
            return Refuse(ExceptionVector.InvalidTss, (State->Tr.Selector & 0xFFFCu) | external);
        }

        return TryReadTable(State->Tr.Base + offset, out stack)
            && (IsCanonical(stack) || Refuse(ExceptionVector.StackFault, external));
    }

    /// <summary>Writes a whole frame with the rights of the level that will run on it.</summary>
    private bool TryPushFrame(ulong linear, byte* frame, int size, int cpl, uint external)
    {
        // The same level as the current one is checked as its own stores are, others as supervisor.
        if (cpl == State->Cpl ? GuestAccess.WriteBytes(State, linear, frame, size) : TryWriteSystem(linear, frame, size))
        {
            return true;
        }

        return SettleNonCanonical(ExceptionVector.StackFault, external);
    }
}
