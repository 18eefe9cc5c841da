namespace Tutti.Cpu.Interpreter.Tests.Oracle;

/// <summary>
/// Where the oracle's pages lie: at the same low addresses in this process and in the guest, so that register values mean
/// the same to both, absolute 32-bit displacements reach them, and 32-bit address sizes too.
/// </summary>
internal static class ArenaLayout
{
    public const ulong Base = 0x2000_0000;
    public const int Size = 0x4_0000;
    public const int PageSize = 4096;

    /// <summary>The way into and out of tested code; the host's only.</summary>
    public const ulong Trampoline = Base;

    /// <summary>Two pages of tested code.</summary>
    public const ulong Code = Base + 0x1000;

    /// <summary>Where the host writes the three pages above.</summary>
    public const ulong CodeAlias = Base + 0x8000;

    /// <summary>What goes into and comes out of the trampoline; the host's only.</summary>
    public const ulong Record = Base + 0x1_0000;

    /// <summary>Two pages of operands between unmapped ones.</summary>
    public const ulong Data = Base + 0x2_1000;

    /// <summary>One page that cannot be written, between unmapped ones.</summary>
    public const ulong ReadOnly = Base + 0x2_4000;

    /// <summary>Two pages of stack between unmapped ones.</summary>
    public const ulong Stack = Base + 0x3_1000;

    /// <summary>Two pages of operands that 16-bit addresses reach, where the host lets a process have such pages.</summary>
    public const ulong LowData = 0xA000;

    /// <summary>The instruction under test, when it does not cross into the second code page.</summary>
    public const ulong Instruction = Code + 0x800;

    /// <summary>Whether there is <see cref="LowData"/>: Linux keeps the lowest addresses, up to vm.mmap_min_addr, unmapped.</summary>
    public static readonly bool HasLowData = HostCalls.CanMap(LowData, 2 * PageSize);

    private static readonly ulong[] LongPages = [Data, Data + PageSize, Stack, Stack + PageSize];
    private static readonly ulong[] LegacyPages = HasLowData ? [.. LongPages, LowData, LowData + PageSize] : LongPages;

    /// <summary>Where operands lie that addresses of this many bytes reach.</summary>
    public static ulong Operands(int addressSize) => addressSize == 2 ? LowData : Data;

    /// <summary>The pages that both sides may write: their contents are set before and compared after each case.</summary>
    public static ulong[] WritablePages(int bits) => bits == 64 ? LongPages : LegacyPages;
}

/// <summary>Offsets in the record page.</summary>
internal static class RecordLayout
{
    public const int GprIn = 0x000;
    public const int FlagsIn = 0x080;

    /// <summary>Where tested code begins, as an offset of 32 bits and a code selector.</summary>
    public const int Target = 0x088;

    /// <summary>DS and ES of tested code.</summary>
    public const int DataSelector = 0x090;

    public const int GprOut = 0x100;
    public const int FlagsOut = 0x180;

    /// <summary>Number of the pad that control came out at, or <see cref="FaultLanding"/>.</summary>
    public const int Landing = 0x188;

    public const int HostRsp = 0x190;
    public const int HostFlags = 0x198;

    /// <summary>Not 0 while tested code runs.</summary>
    public const int Active = 0x1A0;

    /// <summary>FS:0 of the thread that runs tested code: the C library keeps a pointer of each thread there.</summary>
    public const int Owner = 0x1A8;

    public const int FaultVector = 0x1B0;
    public const int FaultError = 0x1B8;
    public const int FaultAddress = 0x1C0;
    public const int FaultRip = 0x1C8;
    public const int UseFx = 0x1D0;
    public const int FaultRsp = 0x1D8;

    /// <summary>Handlers that were installed before, by signal number.</summary>
    public const int OldHandlers = 0x200;

    public const int FxIn = 0x400;
    public const int FxOut = 0x600;
    public const int FxHost = 0x800;

    /// <summary>Upper halves of YMM0 to YMM15, where the host has them.</summary>
    public const int YmmIn = 0xA00;
    public const int YmmOut = 0xB00;

    public const int FaultLanding = 0xFF;
}
