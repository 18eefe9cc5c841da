namespace Tutti.Cpu.Software;

/// <summary>Faults that the running instruction meets. They are noted in <see cref="CpuState"/>; the run loop delivers them when the handler has returned.</summary>
public static unsafe class Faults
{
    /// <summary>No vector: nothing is to be delivered.</summary>
    public const int None = -1;

    /// <summary>Stands for #GP(0), or #SS(0) when the operand's segment is SS; whoever gives up the instruction knows which.</summary>
    public const int NonCanonical = 0x100;

    /// <summary>Notes the fault that the running handler met.</summary>
    public static void Raise(CpuState* state, int vector, uint error)
    {
        state->FaultVector = vector;
        state->FaultError = error;
    }

    /// <summary>Raises a fault; always false, so that checks can return it.</summary>
    public static bool Refuse(CpuState* state, int vector, uint error = 0)
    {
        Raise(state, vector, error);
        return false;
    }

    /// <summary>Gives a non-canonical access its vector; false.</summary>
    public static bool Settle(CpuState* state, int vector, uint error = 0)
    {
        if (state->FaultVector == NonCanonical)
        {
            Raise(state, vector, error);
        }

        return false;
    }
}
