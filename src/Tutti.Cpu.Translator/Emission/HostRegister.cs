namespace Tutti.Cpu.Translator;

/// <summary>
/// Where the guest's general registers live while translated code runs. Numbers are those of the encoding: RAX 0, RCX 1,
/// RDX 2, RBX 3, RSP 4, RBP 5, RSI 6, RDI 7, R8 to R15.
/// </summary>
/// <remarks>
/// The host's RSP points to the vCPU's state. RCX is scratch, because LOOP and JRCXZ are the conditional branches that neither
/// read nor write flags; R14 and R15 are scratch too. That leaves twelve registers for sixteen: the four that compiled
/// code uses least stay in the state.
/// </remarks>
internal static class HostRegister
{
    public const int Rax = 0;
    public const int Rcx = 1;
    public const int Rdx = 2;
    public const int Rbx = 3;

    /// <summary>Points to <see cref="HotState"/>, <see cref="StateLayout.Bias"/> bytes from its start.</summary>
    public const int State = 4;

    /// <summary>Scratch; LOOP and JRCXZ test it.</summary>
    public const int Test = 1;

    /// <summary>Scratch: a linear address, or where a jump goes.</summary>
    public const int Address = 14;

    /// <summary>Scratch: a table index, then the distance from linear to host address.</summary>
    public const int Distance = 15;

    public const int GuestRsp = 10;
    public const int GuestRcx = 11;

    /// <summary>In <see cref="OfGuest"/>: the register stays in the state.</summary>
    public const int InState = -1;

    private static readonly sbyte[] Homes = [0, GuestRcx, 2, 3, GuestRsp, 5, 6, 7, 8, 9, InState, InState, 12, 13, InState, InState];

    /// <summary>The host register of a guest register, or <see cref="InState"/>.</summary>
    public static int OfGuest(int guest) => Homes[guest];
}
