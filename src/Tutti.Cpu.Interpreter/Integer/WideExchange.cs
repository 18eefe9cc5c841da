using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>CMPXCHG8B and CMPXCHG16B.</summary>
internal static unsafe class WideExchange
{
    private const int Rax = 0;
    private const int Rcx = 1;
    private const int Rdx = 2;
    private const int Rbx = 3;

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

    /// <summary>
    /// The 16 bytes are compared and stored as two halves: enough for one vCPU, between whose instructions nothing else
    /// writes guest memory in this engine.
    /// </summary>
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

        ulong* halves = (ulong*)operand;
        bool equal = halves[0] == state->Gpr[Rax] && halves[1] == state->Gpr[Rdx];
        SetZero(state, equal);
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

        GuestAccess.EndModify(state);
        return op + 1;
    }

    private static void SetZero(CpuState* state, bool zero)
    {
        LazyFlags.Materialize(state);
        state->Flags = zero ? state->Flags | Rflags.Zero : state->Flags & ~Rflags.Zero;
    }
}
