namespace Tutti.Cpu.Translator.Tests.Kernel;

/// <summary>Where random kernel programs have their tables, code and data.</summary>
internal static class KernelLayout
{
    public const int PageSize = 4096;
    public const ulong RamSize = 0x24_0000;

    /// <summary>Linear address of physical 0: the pages of <see cref="FixedSize"/>, supervisor, global, always present, never changed by programs.</summary>
    public const ulong Base = 0xFFFF_FFFF_8000_0000;
    public const ulong FixedSize = 0x3_0000;

    // Physical addresses.
    public const ulong Gdt = 0x1000;
    public const ulong Idt = 0x2000;
    public const ulong Tss = 0x3000;
    public const ulong Variables = 0x4000;
    public const ulong Handlers = 0x5000;
    public const ulong KernelLengths = 0x7000;
    public const ulong UserLengths = 0xB000;
    public const ulong Log = 0x1_0000;
    public const int LogEntrySize = 64;
    public const int MaxEvents = 400;
    public const ulong KernelStack = 0x1_9000;
    public const ulong FaultStack = 0x1_B000;
    public const ulong DebugStack = 0x1_C000;
    public const ulong DoubleFaultStack = 0x1_D000;

    /// <summary>Roots of 5-level paging: each leads to one of the next two, whatever half an address is in.</summary>
    public const ulong Pml5A = 0x2_0000;

    public const ulong Pml5B = 0x2_1000;
    public const ulong Pml4A = 0x2_2000;
    public const ulong Pml4B = 0x2_3000;
    public const ulong HighPdpt = 0x2_4000;
    public const ulong HighDirectory = 0x2_5000;
    public const ulong FixedTable = 0x2_6000;
    public const ulong KernelTable = 0x2_7000;
    public const ulong UserPdptA = 0x2_8000;
    public const ulong UserPdptB = 0x2_9000;
    public const ulong UserDirectoryA = 0x2_A000;
    public const ulong UserDirectoryB = 0x2_B000;
    public const ulong UserTableA = 0x2_C000;
    public const ulong UserTableB = 0x2_D000;

    /// <summary>
    /// What interrupts write, which come at other times in each run: not compared, and in another 64 KiB than the stacks, where a kernel that has only
    /// changed SP cannot read it.
    /// </summary>
    public const ulong Hidden = 0x2_E000;
    public const ulong InterruptStack = 0x2_F000;
    public const ulong NmiStack = HiddenEnd;
    public const ulong HiddenEnd = 0x3_0000;

    /// <summary>Frames that the programs' pages lie in; the large pages show all of them.</summary>
    public const ulong Frames = 0x20_0000;
    public const int DataFrames = 24;
    public const ulong FunctionFrames = 0x21_C000;
    public const int FunctionFrameCount = 8;
    public const ulong UserStackFrames = 0x22_8000;
    public const ulong KernelCodeFrames = 0x23_0000;
    public const ulong UserCodeFrames = 0x23_4000;

    // Linear addresses, far enough from each other that data does not reach code.
    public const int CodeBytes = 4 * PageSize;
    public const ulong KernelCode = Base + 0x20_0000;
    public const ulong KernelCodeAlias = Base + 0x20_8000;
    public const ulong KernelArena = Base + 0x21_0000;
    public const ulong KernelFunctions = Base + 0x24_0000;
    public const ulong KernelLarge = Base + 0x40_0000;
    public const ulong UserCode = 0x40_0000;
    public const ulong UserArena = 0x41_0000;
    public const ulong UserFunctions = 0x44_0000;
    public const ulong UserStack = 0x43_0000;
    public const ulong UserLarge = 0xC0_0000;
    public const int ArenaPages = 16;
    public const int FunctionPages = 4;

    /// <summary>The last pages of the user's arena are global, and the same in both address spaces.</summary>
    public const int FirstSharedPage = 13;

    public const ushort KernelCodeSelector = 0x08;
    public const ushort KernelData = 0x10;
    public const ushort UserCode32 = 0x1B;
    public const ushort UserData = 0x23;
    public const ushort UserCode64 = 0x2B;
    public const ushort TssSelector = 0x40;

    // Variables of the handlers, by linear address.
    public const ulong LogNext = Base + Variables;
    public const ulong Continue = LogNext + 8;
    public const ulong EventsLeft = LogNext + 16;
    public const ulong SavedRsp = LogNext + 24;
    public const ulong StepsLeft = LogNext + 32;
    public const ulong Reactions = LogNext + 0x100;
    public const ulong FlagChanges = LogNext + 0x200;
    public const ulong InterruptCount = Base + Hidden;
    public const ulong KernelRsp = Base + KernelStack;

    public const byte ExitPort = 0xF4;

    /// <summary>First of the vectors that only interrupts have, and their number.</summary>
    public const int FirstInterrupt = 0x30;
    public const int InterruptVectors = 16;

    /// <summary>INT that goes on where <see cref="Continue"/> says.</summary>
    public const int LeaveVector = 0x80;

    /// <summary>INTs that come back with changed flags.</summary>
    public const int FirstFlagVector = 0x50;
    public const int FlagVectors = 8;

    /// <summary>First vector that is no exception's.</summary>
    public const int FirstSoftwareVector = 0x20;

    /// <summary>What a log entry says of SYSCALL.</summary>
    public const ulong SyscallEvent = 0x100;

    /// <summary>Linear address of the entry of a page in the tables that programs may change.</summary>
    public static ulong EntryOf(ulong linear, bool inB) =>
        Base + (linear >= Base ? KernelTable : inB ? UserTableB : UserTableA) + (((linear >> 12) & 511) * 8);
}
