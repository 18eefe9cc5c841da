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
            ulong loaded = repeated ? TryLoadRun(state, op) : 0;
            if (loaded == 0)
            {
                if (!TryRead(state, op, op->Segment, Rsi, out ulong value))
                {
                    return Flow.Fault(state, op);
                }

                TWidth.StoreRegister((byte*)(state->Gpr + Rax), value);
                Advance(state, op, Rsi, 1);
                loaded = 1;
            }

            if (!repeated)
            {
                break;
            }

            SetCount(state, op, Count(state, op) - loaded);
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
            if (repeated && TryScanRun(state, op, fromMemory, whileEqual, out bool ended))
            {
                if (ended)
                {
                    break;
                }

                continue;
            }

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

    /// <summary>Elements from an address to the end of its page.</summary>
    private static ulong InPage(ulong linear) => (4096 - (linear & 0xFFF)) / (ulong)TWidth.Bytes;

    /// <summary>Elements from an address down to the start of its page; none where its own goes on in the next page.</summary>
    private static ulong BelowInPage(ulong linear) =>
        (linear & 0xFFF) + (ulong)TWidth.Bytes > 4096 ? 0 : ((linear & 0xFFF) / (ulong)TWidth.Bytes) + 1;

    private static bool IsDown(CpuState* state) => (state->Flags & Rflags.Direction) != 0;

    /// <summary>
    /// How many of <paramref name="count"/> elements from a pointer on lie in one page, and before the offset wraps and the segment
    /// ends: none where the first does not, or where an event is to cut in.
    /// </summary>
    private static ulong Room(CpuState* state, Op* op, int segment, int register, bool write, ulong count, out ulong linear)
    {
        ulong offset = Addressing.Truncate(state->Gpr[register], op->AddressSize);
        bool down = IsDown(state);
        bool is64 = (state->Mode & CodeMode.BitnessMask) == CodeMode.Bits64;
        linear = is64 ? Addressing.SegmentBase64(state, segment) + offset : (uint)(CpuState.SegmentOf(state, segment)->Base + offset);
        ulong room = Math.Min(count, down ? BelowInPage(linear) : InPage(linear));
        if (op->AddressSize != 8)
        {
            ulong top = op->AddressSize == 4 ? 1UL << 32 : 1UL << 16;
            ulong size = (ulong)TWidth.Bytes;
            room = offset + size > top ? 0 : Math.Min(room, down ? (offset / size) + 1 : (top - offset) / size);
        }

        if (is64 || room == 0)
        {
            return room;
        }

        // Where the segment ends sooner, each element is looked at by itself.
        uint bytes = (uint)room * (uint)TWidth.Bytes;
        uint lowest = (uint)offset - (down ? bytes - (uint)TWidth.Bytes : 0);
        return Addressing.IsAccessible(state, segment, lowest, bytes, write) ? room : 0;
    }

    /// <summary>Where a page of guest memory lies on the host; null where it is not to be had in the TLB.</summary>
    private static byte* Find(CpuState* state, ulong linear, Access access)
    {
        TlbEntry* entry = state->Tlb + ((linear >> 12) & (TlbEntry.Count - 1));
        ulong tag = access == Access.Write ? entry->WriteTag : entry->ReadTag;
        bool found = tag == (linear & ~0xFFFUL) || SoftwareProcessor.From(state).Tlb.TryFillTlb(linear, access);
        return found ? (byte*)((long)linear + entry->Addend) : null;
    }

    /// <summary>Moves as many elements as lie in one page on both sides and can be had in the TLB; 0 where none.</summary>
    private static ulong TryMoveRun(CpuState* state, Op* op)
    {
        if (state->Attention != 0)
        {
            return 0;
        }

        ulong elements = Room(state, op, op->Segment, Rsi, false, Count(state, op), out ulong from);
        elements = Room(state, op, Es, Rdi, true, elements, out ulong to);
        if (elements == 0)
        {
            return 0;
        }

        // One after the other: both may belong in the same entry of the TLB.
        byte* source = Find(state, from, Access.Read);
        byte* target = source == null ? null : Find(state, to, Access.Write);
        if (target == null)
        {
            return 0;
        }

        // SAFETY: both lie in RAM, and the run ends at or before the end, or the start, of either page.
        ulong bytes = elements * (ulong)TWidth.Bytes;
        if (IsDown(state))
        {
            for (long i = 0; i < (long)bytes; i += TWidth.Bytes)
            {
                TWidth.Store(target - i, TWidth.Load(source - i));
            }
        }
        else if ((nuint)target - (nuint)source < bytes)
        {
            // The target overlaps what is still to be read: moving forward element by element repeats it, as the guest expects.
            for (ulong i = 0; i < bytes; i += (ulong)TWidth.Bytes)
            {
                TWidth.Store(target + i, TWidth.Load(source + i));
            }
        }
        else
        {
            Buffer.MemoryCopy(source, target, bytes, bytes);
        }

        Advance(state, op, Rsi, elements);
        Advance(state, op, Rdi, elements);
        return elements;
    }

    private static ulong TryStoreRun(CpuState* state, Op* op)
    {
        ulong elements = Room(state, op, Es, Rdi, true, state->Attention != 0 ? 0 : Count(state, op), out ulong to);
        byte* target = elements == 0 ? null : Find(state, to, Access.Write);
        if (target == null)
        {
            return 0;
        }

        // SAFETY: the run ends at or before the end, or the start, of the page.
        byte* lowest = IsDown(state) ? target - ((elements - 1) * (ulong)TWidth.Bytes) : target;
        ulong value = TWidth.Load((byte*)(state->Gpr + Rax));
        switch (TWidth.Bytes)
        {
            case 1:
                new Span<byte>(lowest, (int)elements).Fill((byte)value);
                break;
            case 2:
                new Span<ushort>(lowest, (int)elements).Fill((ushort)value);
                break;
            case 4:
                new Span<uint>(lowest, (int)elements).Fill((uint)value);
                break;
            default:
                new Span<ulong>(lowest, (int)elements).Fill(value);
                break;
        }

        Advance(state, op, Rdi, elements);
        return elements;
    }

    /// <summary>LODS: of several elements in a page the last one stays.</summary>
    private static ulong TryLoadRun(CpuState* state, Op* op)
    {
        ulong elements = Room(state, op, op->Segment, Rsi, false, state->Attention != 0 ? 0 : Count(state, op), out ulong from);
        byte* source = elements == 0 ? null : Find(state, from, Access.Read);
        if (source == null)
        {
            return 0;
        }

        // SAFETY: the last element lies in the same page.
        long last = (long)(elements - 1) * TWidth.Bytes;
        TWidth.StoreRegister((byte*)(state->Gpr + Rax), TWidth.Load(IsDown(state) ? source - last : source + last));
        Advance(state, op, Rsi, elements);
        return elements;
    }

    /// <summary>SCAS and CMPS: compares as many elements as lie in one page on both sides, or fewer when one of them ends it.</summary>
    /// <param name="ended">Whether an element, or the count, has ended the instruction.</param>
    private static bool TryScanRun(CpuState* state, Op* op, bool fromMemory, bool whileEqual, out bool ended)
    {
        ended = false;
        ulong count = Count(state, op);
        ulong from = 0;
        ulong elements = Room(state, op, Es, Rdi, false, state->Attention != 0 ? 0 : count, out ulong to);
        elements = fromMemory && elements != 0 ? Room(state, op, op->Segment, Rsi, false, elements, out from) : elements;
        byte* source = elements == 0 ? null : fromMemory ? Find(state, from, Access.Read) : (byte*)(state->Gpr + Rax);
        byte* target = source == null ? null : Find(state, to, Access.Read);
        if (target == null)
        {
            return false;
        }

        // SAFETY: both lie in RAM, or the source is RAX and stays there; the run ends at or before the end, or the start, of either page.
        long step = IsDown(state) ? -TWidth.Bytes : TWidth.Bytes;
        long sourceStep = fromMemory ? step : 0;
        ulong left;
        ulong right;
        ulong done = 0;
        do
        {
            left = TWidth.Load(source);
            right = TWidth.Load(target);
            source += sourceStep;
            target += step;
            done++;
        }
        while (done < elements && (left == right) == whileEqual);

        LazyFlags.Set<TWidth>(state, FlagKind.Subtract, TWidth.Truncate(left - right), left, right);
        if (fromMemory)
        {
            Advance(state, op, Rsi, done);
        }

        Advance(state, op, Rdi, done);
        SetCount(state, op, count - done);
        ended = (left == right) != whileEqual || count == done;
        return true;
    }
}
