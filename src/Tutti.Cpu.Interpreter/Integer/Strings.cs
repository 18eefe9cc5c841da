using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>
/// MOVS, STOS, LODS, CMPS, SCAS with REP prefixes. They can be interrupted between elements, as on a processor: the
/// registers say how far it went.
/// </summary>
internal static unsafe class Strings<TWidth>
    where TWidth : struct, IWidth
{
    private const int Rax = 0;
    private const int Rcx = 1;
    private const int Rsi = 6;
    private const int Rdi = 7;
    private const int Es = 0;

    public static Op* Move(CpuState* state, Op* op)
    {
        if (!IsRepeated(op))
        {
            return MoveOne(state, op) ? op + 1 : Flow.Fault(state, op);
        }

        while (Count(state, op) != 0)
        {
            ulong moved = TryMoveRun(state, op);
            if (moved == 0)
            {
                if (!MoveOne(state, op))
                {
                    return Flow.Fault(state, op);
                }

                moved = 1;
            }

            SetCount(state, op, Count(state, op) - moved);
            if (state->Attention != 0 && Count(state, op) != 0)
            {
                return Flow.Again(state, op);
            }
        }

        return op + 1;
    }

    public static Op* Store(CpuState* state, Op* op)
    {
        if (!IsRepeated(op))
        {
            return StoreOne(state, op) ? op + 1 : Flow.Fault(state, op);
        }

        while (Count(state, op) != 0)
        {
            ulong stored = TryStoreRun(state, op);
            if (stored == 0)
            {
                if (!StoreOne(state, op))
                {
                    return Flow.Fault(state, op);
                }

                stored = 1;
            }

            SetCount(state, op, Count(state, op) - stored);
            if (state->Attention != 0 && Count(state, op) != 0)
            {
                return Flow.Again(state, op);
            }
        }

        return op + 1;
    }

    public static Op* Load(CpuState* state, Op* op)
    {
        bool repeated = IsRepeated(op);
        while (!repeated || Count(state, op) != 0)
        {
            if (!TryRead(state, op, op->Segment, Rsi, out ulong value))
            {
                return Flow.Fault(state, op);
            }

            TWidth.StoreRegister((byte*)(state->Gpr + Rax), value);
            Advance(state, op, Rsi, 1);
            if (!repeated)
            {
                break;
            }

            SetCount(state, op, Count(state, op) - 1);
            if (state->Attention != 0 && Count(state, op) != 0)
            {
                return Flow.Again(state, op);
            }
        }

        return op + 1;
    }

    public static Op* Compare(CpuState* state, Op* op) => Scan(state, op, true);

    public static Op* Scan(CpuState* state, Op* op) => Scan(state, op, false);

    private static Op* Scan(CpuState* state, Op* op, bool fromMemory)
    {
        bool repeated = IsRepeated(op);
        bool whileEqual = (op->Flags & OpFlags.Repne) == 0;
        while (!repeated || Count(state, op) != 0)
        {
            ulong left = TWidth.Load((byte*)(state->Gpr + Rax));
            if ((fromMemory && !TryRead(state, op, op->Segment, Rsi, out left)) || !TryRead(state, op, Es, Rdi, out ulong right))
            {
                return Flow.Fault(state, op);
            }

            LazyFlags.Set<TWidth>(state, FlagKind.Subtract, TWidth.Truncate(left - right), left, right);
            if (fromMemory)
            {
                Advance(state, op, Rsi, 1);
            }

            Advance(state, op, Rdi, 1);
            if (!repeated)
            {
                break;
            }

            SetCount(state, op, Count(state, op) - 1);
            if ((left == right) != whileEqual)
            {
                break;
            }

            if (state->Attention != 0 && Count(state, op) != 0)
            {
                return Flow.Again(state, op);
            }
        }

        return op + 1;
    }

    private static bool IsRepeated(Op* op) => (op->Flags & (OpFlags.Rep | OpFlags.Repne)) != 0;

    private static ulong Count(CpuState* state, Op* op) => Addressing.Truncate(state->Gpr[Rcx], op->AddressSize);

    private static void SetCount(CpuState* state, Op* op, ulong value) => SetPointer(state, op, Rcx, value);

    private static void SetPointer(CpuState* state, Op* op, int register, ulong value)
    {
        switch (op->AddressSize)
        {
            case 8:
                state->Gpr[register] = value;
                break;
            case 4:
                state->Gpr[register] = (uint)value;
                break;
            default:
                *(ushort*)(state->Gpr + register) = (ushort)value;
                break;
        }
    }

    private static void Advance(CpuState* state, Op* op, int register, ulong elements)
    {
        ulong bytes = elements * (ulong)TWidth.Bytes;
        ulong pointer = state->Gpr[register];
        SetPointer(state, op, register, (state->Flags & Rflags.Direction) != 0 ? pointer - bytes : pointer + bytes);
    }

    private static bool TryAddress(CpuState* state, Op* op, int segment, int register, bool write, out ulong linear) =>
        Addressing.TrySegmented(state, segment, Addressing.Truncate(state->Gpr[register], op->AddressSize), TWidth.Bytes, write, out linear);

    private static bool TryRead(CpuState* state, Op* op, int segment, int register, out ulong value)
    {
        value = 0;
        return TryAddress(state, op, segment, register, false, out ulong linear)
            && GuestAccess.Read<TWidth>(state, linear, out value);
    }

    private static bool MoveOne(CpuState* state, Op* op)
    {
        if (!TryRead(state, op, op->Segment, Rsi, out ulong value)
            || !TryAddress(state, op, Es, Rdi, true, out ulong linear)
            || !GuestAccess.Write<TWidth>(state, linear, value))
        {
            return false;
        }

        Advance(state, op, Rsi, 1);
        Advance(state, op, Rdi, 1);
        return true;
    }

    private static bool StoreOne(CpuState* state, Op* op)
    {
        if (!TryAddress(state, op, Es, Rdi, true, out ulong linear)
            || !GuestAccess.Write<TWidth>(state, linear, TWidth.Load((byte*)(state->Gpr + Rax))))
        {
            return false;
        }

        Advance(state, op, Rdi, 1);
        return true;
    }

    /// <summary>Whether a run may go by host pointers: where no segment limit or address wrap, and no event, can cut in.</summary>
    private static bool CanRun(CpuState* state, Op* op) =>
        (state->Mode & CodeMode.BitnessMask) == CodeMode.Bits64 && op->AddressSize == 8 && state->Attention == 0;

    /// <summary>Elements from an address to the end of its page.</summary>
    private static ulong InPage(ulong linear) => (4096 - (linear & 0xFFF)) / (ulong)TWidth.Bytes;

    /// <summary>Elements from an address down to the start of its page; none where its own goes on in the next page.</summary>
    private static ulong BelowInPage(ulong linear) =>
        (linear & 0xFFF) + (ulong)TWidth.Bytes > 4096 ? 0 : ((linear & 0xFFF) / (ulong)TWidth.Bytes) + 1;

    /// <summary>Moves as many elements as lie in one page on both sides and can be had in the TLB; 0 where none.</summary>
    private static ulong TryMoveRun(CpuState* state, Op* op)
    {
        if (!CanRun(state, op))
        {
            return 0;
        }

        ulong from = Addressing.SegmentBase64(state, op->Segment) + state->Gpr[Rsi];
        ulong to = state->Gpr[Rdi];
        bool down = (state->Flags & Rflags.Direction) != 0;
        ulong room = down ? Math.Min(BelowInPage(from), BelowInPage(to)) : Math.Min(InPage(from), InPage(to));
        ulong elements = Math.Min(state->Gpr[Rcx], room);
        if (elements == 0)
        {
            return 0;
        }

        // One after the other: both may belong in the same entry of the TLB.
        TlbEntry* source = state->Tlb + ((from >> 12) & (TlbEntry.Count - 1));
        bool found = source->ReadTag == (from & ~0xFFFUL) || SoftwareProcessor.From(state).TryFillTlb(from, Access.Read);
        byte* sourceHost = (byte*)((long)from + source->Addend);
        TlbEntry* target = state->Tlb + ((to >> 12) & (TlbEntry.Count - 1));
        found = found && (target->WriteTag == (to & ~0xFFFUL) || SoftwareProcessor.From(state).TryFillTlb(to, Access.Write));
        byte* targetHost = (byte*)((long)to + target->Addend);
        if (!found)
        {
            return 0;
        }

        if (down)
        {
            // SAFETY: both lie in RAM, and the run ends at or before the start of either page.
            for (long i = 0; i < (long)elements; i++)
            {
                TWidth.Store(targetHost - (i * TWidth.Bytes), TWidth.Load(sourceHost - (i * TWidth.Bytes)));
            }

            Advance(state, op, Rsi, elements);
            Advance(state, op, Rdi, elements);
            return elements;
        }

        // SAFETY: both lie in RAM, and the run ends at or before the end of either page.
        ulong bytes = elements * (ulong)TWidth.Bytes;
        if ((nuint)targetHost - (nuint)sourceHost < bytes)
        {
            // The target overlaps what is still to be read: moving forward element by element repeats it, as the guest expects.
            for (ulong i = 0; i < bytes; i += (ulong)TWidth.Bytes)
            {
                TWidth.Store(targetHost + i, TWidth.Load(sourceHost + i));
            }
        }
        else
        {
            Buffer.MemoryCopy(sourceHost, targetHost, bytes, bytes);
        }

        Advance(state, op, Rsi, elements);
        Advance(state, op, Rdi, elements);
        return elements;
    }

    private static ulong TryStoreRun(CpuState* state, Op* op)
    {
        if (!CanRun(state, op) || (state->Flags & Rflags.Direction) != 0)
        {
            return 0;
        }

        ulong to = state->Gpr[Rdi];
        ulong elements = Math.Min(state->Gpr[Rcx], InPage(to));
        TlbEntry* target = state->Tlb + ((to >> 12) & (TlbEntry.Count - 1));
        if (elements == 0 || target->WriteTag != (to & ~0xFFFUL))
        {
            return 0;
        }

        // SAFETY: the tag matches and the run ends at or before the end of the page.
        byte* host = (byte*)((long)to + target->Addend);
        ulong value = TWidth.Load((byte*)(state->Gpr + Rax));
        switch (TWidth.Bytes)
        {
            case 1:
                new Span<byte>(host, (int)elements).Fill((byte)value);
                break;
            case 2:
                new Span<ushort>(host, (int)elements).Fill((ushort)value);
                break;
            case 4:
                new Span<uint>(host, (int)elements).Fill((uint)value);
                break;
            default:
                new Span<ulong>(host, (int)elements).Fill(value);
                break;
        }

        Advance(state, op, Rdi, elements);
        return elements;
    }
}
