using Iced.Intel;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>CMPXCHG8B and CMPXCHG16B.</summary>
internal static unsafe class WideExchange
{
    private const int Rax = 0;
    private const int Rcx = 1;
    private const int Rdx = 2;
    private const int Rbx = 3;

    private static readonly nint Thunk = NativeThunks.Get(new ThunkKey(Code.Cmpxchg16b_m128, 0), default, _ => BuildThunk());

    public static Op* Compare8(CpuState* state, Op* op)
    {
        if (!AnyAddress.TryGet(state, op, 8, true, out ulong linear))
        {
            return Flow.Fault(state, op);
        }

        byte* operand = GuestAccess.BeginModify(state, linear, 8);
        if (operand == null)
        {
            return Flow.Fault(state, op);
        }

        ulong expected = (state->Gpr[Rdx] << 32) | (uint)state->Gpr[Rax];
        ulong value = (state->Gpr[Rcx] << 32) | (uint)state->Gpr[Rbx];
        ulong old = Interlocked.CompareExchange(ref *(ulong*)operand, value, expected);
        SetZero(state, old == expected);
        if (old != expected)
        {
            state->Gpr[Rax] = (uint)old;
            state->Gpr[Rdx] = old >> 32;
        }

        GuestAccess.EndModify(state);
        return op + 1;
    }

    /// <summary>In RAM the host's own locked instruction does it, so that other vCPUs see both halves change at once.</summary>
    public static Op* Compare16(CpuState* state, Op* op)
    {
        if (!AnyAddress.TryGet(state, op, 16, true, out ulong linear))
        {
            return Flow.Fault(state, op);
        }

        if ((linear & 15) != 0)
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        byte* operand = GuestAccess.BeginModify(state, linear, 16);
        if (operand == null)
        {
            return Flow.Fault(state, op);
        }

        // SAFETY: 16 bytes on a 16-byte boundary, in guest RAM (whose pages lie on page boundaries of the host) or a copy.
        SetZero(state, operand == state->Bounce
            ? CompareCopy(state, (ulong*)operand)
            : ((delegate* unmanaged[SuppressGCTransition]<byte*, CpuState*, uint>)Thunk)(operand, state) != 0);
        GuestAccess.EndModify(state);
        return op + 1;
    }

    /// <summary>A device's bytes, which no host instruction can lock.</summary>
    private static bool CompareCopy(CpuState* state, ulong* halves)
    {
        bool equal = halves[0] == state->Gpr[Rax] && halves[1] == state->Gpr[Rdx];
        if (equal)
        {
            halves[0] = state->Gpr[Rbx];
            halves[1] = state->Gpr[Rcx];
        }
        else
        {
            state->Gpr[Rax] = halves[0];
            state->Gpr[Rdx] = halves[1];
        }

        return equal;
    }

    /// <summary><c>uint thunk(void* operand, CpuState* state)</c>: whether the operand was RDX:RAX; where it was not, they are loaded.</summary>
    private static List<Instruction> BuildThunk()
    {
        Instruction exchange = Instruction.Create(Code.Cmpxchg16b_m128, new MemoryOperand(Register.RDI));
        exchange.HasLockPrefix = true;
        return
        [
            Instruction.Create(Code.Push_r64, Register.RBX),
            Load(Register.RAX, Rax),
            Load(Register.RCX, Rcx),
            Load(Register.RDX, Rdx),
            Load(Register.RBX, Rbx),
            exchange,
            Instruction.Create(Code.Mov_rm64_r64, General(Rax), Register.RAX),
            Instruction.Create(Code.Mov_rm64_r64, General(Rdx), Register.RDX),
            Instruction.Create(Code.Sete_rm8, Register.AL),
            Instruction.Create(Code.Movzx_r32_rm8, Register.EAX, Register.AL),
            Instruction.Create(Code.Pop_r64, Register.RBX),
            Instruction.Create(Code.Retnq),
        ];
    }

    private static Instruction Load(Register register, int number) => Instruction.Create(Code.Mov_r64_rm64, register, General(number));

    // The general registers stand at the start of the state.
    private static MemoryOperand General(int number) => new(Register.RSI, number * 8);

    private static void SetZero(CpuState* state, bool zero)
    {
        LazyFlags.Materialize(state);
        state->Flags = zero ? state->Flags | Rflags.Zero : state->Flags & ~Rflags.Zero;
    }
}
