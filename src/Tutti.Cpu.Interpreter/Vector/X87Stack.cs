namespace Tutti.Cpu.Interpreter;

/// <summary>
/// x87 instructions that the host's unit need not have the whole state for, as <see cref="X87Ops.Run"/> gives it, most of the time: pushes and
/// pops without a conversion, and partial remainders. Whatever is not the ordinary case goes there. In their ops Imm is the thunk of that way.
/// </summary>
// SAFETY for all handlers: the FX area holds eight slots of 16 bytes; memory goes through checked accessors.
internal static unsafe class X87Stack
{
    private const int SlotSize = 16;
    private const int Slots = 8;
    private const int ExtendedSize = 10;
    private const int TopShift = 11;
    private const ushort Top = 7 << TopShift;

    /// <summary>B and ES: without a pending exception they are clear.</summary>
    private const ushort Summary = 0x8080;

    private const ushort C1 = 1 << 9;
    private const ushort Conditions = 0x4700;
    private const ushort Exceptions = 0x3F;
    private const ushort Invalid = 1;
    private const ushort C2 = 1 << 10;

    // fnclex; fld tbyte [rsi]; fld tbyte [rdi]; the instruction; fnstsw ax; fstp tbyte [rdi]; fstp st(0); movzx eax, ax; ret. The host's unit
    // has an empty stack, all exceptions masked and full precision, which no remainder depends on.
    private static readonly nint s_remainder = NativeThunks.Get(
        new ThunkKey(Iced.Intel.Code.Fprem, 1),
        [0xDB, 0xE2, 0xDB, 0x2E, 0xDB, 0x2F, 0xD9, 0xF8, 0xDF, 0xE0, 0xDB, 0x3F, 0xDD, 0xD8, 0x0F, 0xB7, 0xC0, 0xC3]);

    private static readonly nint s_nearestRemainder = NativeThunks.Get(
        new ThunkKey(Iced.Intel.Code.Fprem1, 1),
        [0xDB, 0xE2, 0xDB, 0x2E, 0xDB, 0x2F, 0xD9, 0xF5, 0xDF, 0xE0, 0xDB, 0x3F, 0xDD, 0xD8, 0x0F, 0xB7, 0xC0, 0xC3]);

    /// <summary>FLD m80.</summary>
    public static Op* Load(CpuState* state, Op* op)
    {
        ushort* status = (ushort*)(state->FxArea + MmxState.FxStatus);
        int pushed = ((*status >> TopShift) - 1) & 7;
        if (IsInUse(state, pushed) || X87Ops.Unavailability(state, op->Flags) >= 0)
        {
            return X87Ops.Run(state, op);
        }

        byte* memory = AnyAddress.TryGet(state, op, ExtendedSize, false, out ulong linear) ? VectorMemory.Read(state, linear, ExtendedSize) : null;
        if (memory == null)
        {
            return Flow.Fault(state, op);
        }

        ulong significand = *(ulong*)memory;
        ulong exponent = *(ushort*)(memory + 8);
        byte* slots = state->FxArea + MmxState.FxRegisters;
        Buffer.MemoryCopy(slots, slots + SlotSize, (Slots - 1) * SlotSize, (Slots - 1) * SlotSize);
        *(ulong*)slots = significand;
        *(ulong*)(slots + 8) = exponent;
        *status = (ushort)((*status & ~(Top | C1 | Summary)) | (pushed << TopShift));
        state->FxArea[MmxState.FxTags] |= (byte)(1 << pushed);
        X87Ops.UpdatePointers(state, op);
        return op + 1;
    }

    /// <summary>FSTP m80.</summary>
    public static Op* Store(CpuState* state, Op* op)
    {
        if (!IsInUse(state, TopOf(state)) || X87Ops.Unavailability(state, op->Flags) >= 0)
        {
            return X87Ops.Run(state, op);
        }

        if (!AnyAddress.TryGet(state, op, ExtendedSize, true, out ulong linear)
            || !GuestAccess.WriteBytes(state, linear, state->FxArea + MmxState.FxRegisters, ExtendedSize))
        {
            return Flow.Fault(state, op);
        }

        return Pop(state, op);
    }

    /// <summary>FSTP ST(0).</summary>
    public static Op* Drop(CpuState* state, Op* op) =>
        !IsInUse(state, TopOf(state)) || X87Ops.Unavailability(state, op->Flags) >= 0 ? X87Ops.Run(state, op) : Pop(state, op);

    /// <summary>FPREM.</summary>
    public static Op* Remainder(CpuState* state, Op* op) => Remainder(state, op, s_remainder);

    /// <summary>FPREM1.</summary>
    public static Op* NearestRemainder(CpuState* state, Op* op) => Remainder(state, op, s_nearestRemainder);

    private static Op* Remainder(CpuState* state, Op* op, nint thunk)
    {
        int top = TopOf(state);
        ushort control = *(ushort*)(state->FxArea + MmxState.FxControl);
        byte* slots = state->FxArea + MmxState.FxRegisters;
        bool isOrdinary = IsInUse(state, top) && IsInUse(state, (top + 1) & 7) && IsNormal(slots) && IsNormal(slots + SlotSize) && (control & Exceptions) == Exceptions && thunk != 0;
        if (!isOrdinary || X87Ops.Unavailability(state, op->Flags) >= 0)
        {
            return X87Ops.Run(state, op);
        }

        // SAFETY: the thunk touches ST(0) and ST(1) of the area only, and leaves the host's stack empty; all exceptions are masked.
        UInt128 before = *(UInt128*)slots;
        uint found = ((delegate* unmanaged[SuppressGCTransition]<byte*, byte*, uint>)thunk)(slots, slots + SlotSize);
        if ((found & (Invalid | C2)) != 0)
        {
            // Of what is not the whole remainder some conditions are those from before, which the host's unit does not have.
            *(UInt128*)slots = before;
            return X87Ops.Run(state, op);
        }

        ushort* status = (ushort*)(state->FxArea + MmxState.FxStatus);
        *status = (ushort)((*status & ~(Conditions | Summary)) | ((int)found & (Conditions | Exceptions)));
        X87Ops.UpdatePointers(state, op);
        return op + 1;
    }

    private static Op* Pop(CpuState* state, Op* op)
    {
        ushort* status = (ushort*)(state->FxArea + MmxState.FxStatus);
        int top = TopOf(state);
        byte* slots = state->FxArea + MmxState.FxRegisters;
        UInt128 popped = *(UInt128*)slots;
        Buffer.MemoryCopy(slots + SlotSize, slots, (Slots - 1) * SlotSize, (Slots - 1) * SlotSize);
        *(UInt128*)(slots + ((Slots - 1) * SlotSize)) = popped;
        *status = (ushort)((*status & ~(Top | C1 | Summary)) | (((top + 1) & 7) << TopShift));
        state->FxArea[MmxState.FxTags] &= (byte)~(1 << top);
        X87Ops.UpdatePointers(state, op);
        return op + 1;
    }

    /// <summary>Neither zero, denormal, infinity nor NaN, nor what is no number.</summary>
    private static bool IsNormal(byte* slot) => *(long*)slot < 0 && (*(ushort*)(slot + 8) & 0x7FFF) is > 0 and < 0x7FFF;

    private static int TopOf(CpuState* state) => (*(ushort*)(state->FxArea + MmxState.FxStatus) >> TopShift) & 7;

    /// <summary>Whether the tag of a physical register says that it holds something.</summary>
    private static bool IsInUse(CpuState* state, int register) => ((state->FxArea[MmxState.FxTags] >> register) & 1) != 0;
}
