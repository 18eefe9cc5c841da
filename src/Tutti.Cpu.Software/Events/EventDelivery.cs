using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>
/// Delivery of exceptions and interrupts: double and triple faults, gates of long mode; those of older modes are
/// <see cref="LegacyDelivery"/>'s. Sources: Intel SDM volume 3, chapter "Interrupt and Exception Handling"; AMD APM volume 2, chapter 8.
/// </summary>
public sealed unsafe class EventDelivery
{
    /// <summary>More than the longest way to a triple fault: a benign exception, a contributory one, a page fault, #DF.</summary>
    private const int MaxDeliveryAttempts = 8;

    internal const ulong ClearedByDelivery = Rflags.Trap | Rflags.NestedTask | Rflags.Resume | Rflags.Virtual8086;

    private readonly CpuState* _state;
    private readonly PendingEvents _pending;
    private readonly DebugUnit _debug;
    private readonly OperatingMode _mode;
    private readonly DescriptorTables _tables;
    private readonly SegmentLoader _segments;
    private readonly StackFrames _frames;
    private readonly TaskSwitch _tasks;
    private readonly ProcessorTrace _trace;
    private readonly LegacyDelivery _legacy;

    private bool _tripleFault;

    internal EventDelivery(
        CpuState* state, PendingEvents pending, DebugUnit debug, OperatingMode mode, DescriptorTables tables, SegmentLoader segments,
        StackFrames frames, TaskSwitch tasks, ProcessorTrace trace, LegacyDelivery legacy)
    {
        _state = state;
        _pending = pending;
        _debug = debug;
        _mode = mode;
        _tables = tables;
        _segments = segments;
        _frames = frames;
        _tasks = tasks;
        _trace = trace;
        _legacy = legacy;
    }

    /// <summary>An exception was met on the way into the handler of a double fault.</summary>
    internal bool IsTripleFault { get => _tripleFault; set => _tripleFault = value; }

    /// <summary>Delivers an exception; one met on the way becomes a double fault where the classes say so, and then the end.</summary>
    /// <remarks>
    /// A benign exception (#AC on a misaligned stack) can meet itself for ever, as on a processor. Then this gives up, nothing
    /// is changed, and the run loop comes back here by way of the same instruction, unless it has something else to do.
    /// </remarks>
    private void DeliverException(int vector, uint error)
    {
        if (vector == Faults.NonCanonical)
        {
            vector = ExceptionVector.GeneralProtection;
        }

        for (int attempt = 0; attempt < MaxDeliveryAttempts; attempt++)
        {
            _trace.CountException(vector, error);
            // Faults push RF set, so that the instruction's own breakpoint does not come again; #DB decides for itself.
            ulong resume = vector is ExceptionVector.Debug or ExceptionVector.DoubleFault or ExceptionVector.MachineCheck ? 0 : Rflags.Resume;
            if (TryDeliver(vector, error, EventSource.External, _state->Rip, resume))
            {
                return;
            }

            Faults.Settle(_state, ExceptionVector.GeneralProtection, 1);
            int second = _state->FaultVector;
            _state->FaultVector = Faults.None;
            if (vector == ExceptionVector.DoubleFault)
            {
                _tripleFault = true;
                return;
            }

            bool isDouble = IsDoubleFault(vector, second);
            vector = isDouble ? ExceptionVector.DoubleFault : second;
            error = isDouble ? 0 : _state->FaultError;
        }
    }

    internal void DeliverInterrupt(int vector)
    {
        _trace.CountInterrupt(vector);
        if (!TryDeliver(vector, 0, EventSource.External, _state->Rip, 0, pushesError: false))
        {
            DeliverFault();
        }
    }

    internal void DeliverFault()
    {
        int vector = _state->FaultVector;
        _state->FaultVector = Faults.None;
        DeliverException(vector, _state->FaultError);
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
            _debug.TellHeldHits();
        }

        return done;
    }

    private bool TryDeliver(int vector, uint error, EventSource source, ulong returnRip, ulong resume, bool pushesError = true)
    {
        pushesError &= ExceptionVector.HasErrorCode(vector);
        _tasks.Begin();
        bool done = !_state->IsProtected ? _legacy.TryDeliverReal(vector, returnRip)
            : _state->IsLongMode ? TryDeliverLong(vector, pushesError, error, source, returnRip, resume)
            : _legacy.TryDeliverProtected(vector, pushesError, error, source, returnRip, resume);
        if (done)
        {
            _pending.Activity = ProcessorActivity.Running;
            _state->InterruptShadow = 0;
            _debug.ForgetTrap();
            _mode.Update();
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
        if (offset + 15 > _state->Idtr.Limit)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection, error);
        }

        if (!_tables.TryReadTable(_state->Idtr.Base + offset, out UInt128 raw))
        {
            return false;
        }

        gate = new Descriptor((ulong)raw);
        if (!gate.IsSystem || gate.Type is not (SystemDescriptorType.InterruptGate or SystemDescriptorType.TrapGate)
            || (source >= EventSource.Breakpoint && gate.Dpl < _state->Cpl))
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection, error);
        }

        if (!gate.Present)
        {
            return Faults.Refuse(_state, ExceptionVector.SegmentNotPresent, error);
        }

        rip = gate.GateOffset | ((ulong)(raw >> 64) << 32);
        return _tables.TryReadGateTarget(gate.GateSelector, external, out code)
            && ((code.IsLong && !code.IsBig) || Faults.Refuse(_state, ExceptionVector.GeneralProtection, (gate.GateSelector & 0xFFFCu) | external));
    }

    private bool TryDeliverLong(int vector, bool pushesError, uint error, EventSource source, ulong returnRip, ulong resume)
    {
        uint external = source >= EventSource.Breakpoint ? 0u : 1u;
        if (!TryReadLongGate(vector, source, external, out Descriptor gate, out ulong rip, out Descriptor code))
        {
            return false;
        }

        int cpl = code.IsConformingCode ? _state->Cpl : code.Dpl;
        ulong stack = _state->Gpr[4];
        bool switches = gate.GateStackTable != 0 || cpl < _state->Cpl;
        uint slot = gate.GateStackTable != 0 ? 36 + (8 * ((uint)gate.GateStackTable - 1)) : 4 + (8 * (uint)cpl);
        if (switches && !_frames.TryReadStackPointer64(slot, external, out stack))
        {
            return false;
        }

        if (!CpuState.IsCanonical(_state, rip))
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection, external);
        }

        ulong flags = LazyFlags.Get(_state);
        int words = pushesError ? 6 : 5;
        // SAFETY: an error code, when there is one, and five more items.
        ulong* frame = stackalloc ulong[6];
        ulong* next = frame;
        if (pushesError)
        {
            *next++ = error;
        }

        next[0] = returnRip;
        next[1] = _state->Cs.Selector;
        next[2] = flags | resume;
        next[3] = _state->Gpr[4];
        next[4] = _state->Ss.Selector;
        stack = (stack & ~0xFUL) - (ulong)(words * 8);
        if (!_frames.TryPushFrame(stack, (byte*)frame, words * 8, cpl, external))
        {
            return false;
        }

        if (cpl < _state->Cpl)
        {
            SegmentLoader.ClearSegment(&_state->Ss, (ushort)cpl);
        }

        _segments.SetCode(gate.GateSelector, code, cpl);
        _state->Gpr[4] = stack;
        _state->Rip = rip;
        _state->Flags &= ~(ClearedByDelivery | (gate.Type == SystemDescriptorType.InterruptGate ? Rflags.Interrupt : 0));
        return true;
    }
}
