using Iced.Intel;
using Tutti.Host;
using Tutti.X86;

namespace Tutti.Cpu.Translator;

/// <summary>What has stopped user code, and what is done about it.</summary>
internal sealed unsafe partial class DirectExecution
{
    private const int SignalIll = 4;
    private const int SignalTrap = 5;
    private const int SignalBus = 7;
    private const int SignalFpe = 8;
    private const int SignalSegv = 11;
    private const int SignalSys = 31;

    private readonly InstructionInfoFactory _info = new();

    /// <summary>The instruction that a page has been shown for last, and the page.</summary>
    private ulong _shownRip;
    private ulong _shownPage;

    private void Settle(DirectSpace space, TraceStop stop, in TracedRegisters registers)
    {
        if (_state->FaultVector >= 0)
        {
            return;
        }

        if (stop.Kind == TraceStopKind.SystemCall)
        {
            SettleCall(registers);
            return;
        }

        switch (stop.Kind == TraceStopKind.Signal ? stop.Signal : 0)
        {
            case SignalSegv:
                SettleFault(space);
                return;
            case SignalIll or SignalFpe or SignalBus:
                RunOne();
                return;
            case SignalTrap:
                SettleTrap(space);
                return;
            case SignalSys:
                // A call of the host's vsyscall page, which is not done, but whose RET is.
                _state->Rip = space.Stub.Process.GetFault().Address;
                _state->Gpr[4] -= 8;
                RunOne();
                return;
            case TracedProcess.InterruptSignal:
                Count(DirectExit.Attention);
                return;
            default:
                Count(DirectExit.Other);
                return;
        }
    }

    private void Count(DirectExit kind) => Counters.Exits[(int)kind]++;

    /// <summary>Has the interpreter do the instruction at RIP, whatever comes of it.</summary>
    private void RunOne()
    {
        Count(DirectExit.Instruction);
        if ((_state->Flags & SetFlags) != 0)
        {
            // POPF has gone through on the host: what it means here is for the units of the processor.
            _processor.Tlb.SelectSet();
        }

        _processor.RunOne();
    }

    private void SettleCall(in TracedRegisters registers)
    {
        Count(DirectExit.SystemCall);
        if (registers.Rcx == registers.Rip && registers.R11 == registers.Flags)
        {
            _processor.SystemCalls.TrySyscall(registers.Rip);
            return;
        }

        // INT 0x80: done by the guest.
        _state->Rip -= 2;
        _processor.RunOne();
    }

    /// <summary>INT3 and its kin have been done: they are done again, by the guest. After POPF has set TF, the trap is the guest's.</summary>
    private void SettleTrap(DirectSpace space)
    {
        Count(DirectExit.Instruction);
        if ((_state->Flags & Rflags.Trap) != 0)
        {
            _processor.Debug.UpdateStepping();
            _processor.Debug.RaiseDebug(Dr6.SingleStep);
            return;
        }

        if (space.StopsAt(_state->Rip))
        {
            _processor.RunOne();
            return;
        }

        Span<byte> bytes = stackalloc byte[1];
        bool isOne = Read(_state->Rip - 1, bytes) == 1 && bytes[0] is 0xCC or 0xF1;
        _state->Rip -= isOne ? 1u : 2u;
        _processor.RunOne();
    }

    private void SettleFault(DirectSpace space)
    {
        TraceFault fault = space.Stub.Process.GetFault();
        ulong rip = _state->Rip;
        if (fault.Code == TraceFault.ByKernel || rip >= StubImage.AddressEnd)
        {
            RunOne();
            return;
        }

        ulong linear = fault.Address;
        if ((space.Pages.RightsOf(rip) & PageRights.Execute) == 0)
        {
            SettleFetch(space, rip);
            return;
        }

        bool decoded = TryDecode(rip, out Instruction instruction);
        ulong next = (rip & ~0xFFFUL) + 4096;
        if (linear == next && (!decoded || instruction.NextIP > next) && (space.Pages.RightsOf(next) & PageRights.Execute) == 0)
        {
            SettleFetch(space, next);
            return;
        }

        Count(DirectExit.PageFault);
        bool? isWrite = decoded ? IsWrite(instruction) : null;
        if (isWrite == null || (rip == _shownRip && linear >> 12 == _shownPage))
        {
            // More than one access, and nobody knows which one; or what has been shown does not help.
            _shownRip = 0;
            _processor.RunOne();
            return;
        }

        bool write = isWrite.Value;
        if (!_processor.Tlb.TryFillTlb(linear, write ? Access.Write : Access.Read, out long error))
        {
            if (error < 0)
            {
                _processor.RunOne();
                return;
            }

            Counters.Raised++;
            space.Awaited = linear;
            space.AwaitedRight = write ? PageRights.Write : PageRights.Read;
            _processor.Tlb.RaisePageFault(linear, (uint)error);
            return;
        }

        _shownRip = rip;
        _shownPage = linear >> 12;
        if (!space.Pages.TryShow(linear, write ? PageRights.Write : PageRights.Read))
        {
            _shownRip = 0;
            _processor.RunOne();
        }
    }

    /// <summary>A page that is not shown to be executed is shown so, or its code is translated.</summary>
    private void SettleFetch(DirectSpace space, ulong linear)
    {
        Count(DirectExit.Fetch);
        _shownRip = 0;
        if (!_processor.Tlb.TryTranslateFetch(linear, out _))
        {
            Counters.Raised++;
            space.Awaited = linear;
            space.AwaitedRight = PageRights.Execute;
            return;
        }

        if (space.TranslatedPages.Contains(linear >> 12))
        {
            space.Turns++;
            return;
        }

        if (!space.Pages.TryShow(linear, PageRights.Execute))
        {
            if (linear == _state->Rip)
            {
                space.TranslatedPages.Add(linear >> 12);
            }
            else
            {
                _translatesOnce = true;
            }
        }
    }

    /// <summary>Whether all accesses of an instruction are writes, or none is; null where there are both, or none is known.</summary>
    private bool? IsWrite(in Instruction instruction)
    {
        bool reads = false;
        bool writes = false;
        foreach (UsedMemory memory in _info.GetInfo(instruction, InstructionInfoOptions.NoRegisterUsage).GetUsedMemory())
        {
            switch (memory.Access)
            {
                case OpAccess.Read or OpAccess.CondRead:
                    reads = true;
                    break;
                case OpAccess.NoMemAccess or OpAccess.None:
                    break;
                default:
                    writes = true;
                    break;
            }
        }

        return reads == writes ? null : writes;
    }

    private bool TryDecode(ulong rip, out Instruction instruction)
    {
        byte[] bytes = new byte[15];
        int first = Math.Min(15, 4096 - (int)(rip & 0xFFF));
        int length = Read(rip, bytes.AsSpan(0, first));
        if (TryDecode(rip, bytes, length, out instruction))
        {
            return true;
        }

        // It may go on in the next page, which is not looked at for nothing: that would set its accessed bit.
        if (length < first || first == 15)
        {
            return false;
        }

        length += Read(rip + (ulong)first, bytes.AsSpan(first));
        return TryDecode(rip, bytes, length, out instruction);
    }

    private static bool TryDecode(ulong rip, byte[] bytes, int length, out Instruction instruction)
    {
        Decoder decoder = Decoder.Create(64, new ByteArrayCodeReader(bytes, 0, length));
        decoder.IP = rip;
        decoder.Decode(out instruction);
        return decoder.LastError == DecoderError.None;
    }

    /// <summary>Reads bytes of one page of code; gives how many there are, all or none.</summary>
    private int Read(ulong linear, Span<byte> bytes)
    {
        ulong cr2 = _state->Cr2;
        if (!_processor.Tlb.TryTranslateFetch(linear, out ulong physical))
        {
            // Nobody has asked for this page yet.
            _state->FaultVector = -1;
            _state->Cr2 = cr2;
            return 0;
        }

        byte* from = _memory.GetPointer(physical);
        if (from == null)
        {
            return 0;
        }

        // SAFETY: the pointer is valid to the end of its page, and the bytes are in one.
        new ReadOnlySpan<byte>(from, bytes.Length).CopyTo(bytes);
        return bytes.Length;
    }
}
