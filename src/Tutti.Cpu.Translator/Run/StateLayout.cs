using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Tutti.Cpu.Interpreter;

namespace Tutti.Cpu.Translator;

/// <summary>What translated code asks for most, right before <see cref="CpuState"/>: the host's RSP points to what is near it, see <see cref="StateLayout.Bias"/>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct HotState
{
    /// <summary>PEXT mask that makes a TLB index of a linear address.</summary>
    public ulong TlbIndexMask;

    /// <summary>Linear address of the page that the running code lies in.</summary>
    public ulong CodePage;

    /// <summary>
    /// PEXT mask that makes a jump-cache index of a linear address. Zero asks for attention: every lookup then finds
    /// entry 0, which leads out.
    /// </summary>
    public ulong JumpMask;

    /// <summary>
    /// PEXT masks that leave the bits above the page offset, and those that must be clear in an address aligned to 1, 2, 4 ... 64 bytes.
    /// Zero asks for attention: every lookup of memory then misses.
    /// </summary>
    public fixed ulong PageMasks[StateLayout.PageMaskCount];

    /// <summary>PEXT mask that makes an index of the return ring of RSP. Zero asks for attention: every RET then finds entry 0, which holds nothing.</summary>
    public ulong RingMask;

    /// <summary>1; 0 asks for attention: what jumps backwards looks at it.</summary>
    public ulong Poll;

    /// <summary>Return addresses of calls, up to the host's RSP.</summary>
    public fixed byte Calls[StateLayout.Bias - StateLayout.Calls];

    private readonly ushort _unused;

    /// <summary>Where the CRC begins that makes a jump-cache index of a linear address of user mode: see <see cref="AddressSpaces"/>.</summary>
    public uint JumpSalt;
}

/// <summary>What translated code and <see cref="Translator"/> tell each other, behind <see cref="CpuState"/>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct ExitState
{
    public ulong HostRsp;

    /// <summary>Where translated code goes on after an exit that is mended: behind the CALL of the exit.</summary>
    public ulong Site;

    /// <summary>R14 at the exit: the linear address of a TLB miss.</summary>
    public ulong Address;

    /// <summary>See <see cref="ExitInfo"/>.</summary>
    public uint Info;

    /// <summary>AH and AL after LAHF and SETO AL.</summary>
    public uint Flags;

    /// <summary>1 while the guest's XMM registers and MXCSR are in the host's; 0 while they are in the state only.</summary>
    public int SseLoaded;

    /// <summary>The same of the upper halves of YMM registers.</summary>
    public int AvxLoaded;

    /// <summary>The same of the x87 state.</summary>
    public int X87Loaded;

    /// <summary>Not 0: SSE instructions are interpreted for now (they trap, or an exception is not masked).</summary>
    public int SseForbidden;

    public int AvxForbidden;
    public int X87Forbidden;

    /// <summary>The MXCSR that the runtime expects.</summary>
    public uint HostMxcsr;

    /// <summary>Not 0: an interrupt or NMI waits for the guest to allow it.</summary>
    public int EventWaits;

    /// <summary>RFLAGS.DF, as 0 or not.</summary>
    public int GoesDown;

    /// <summary>See <see cref="PrivilegeChange"/>: what has become of CPL, CS and SS since translated code was entered.</summary>
    public int Privilege;

    /// <summary>Not 0: SYSCALL and SYSRET are interpreted.</summary>
    public int SyscallForbidden;

    /// <summary>Not 0: access sites hold pages.</summary>
    public int SitesUsed;

    /// <summary>Not 0: IRETQ is interpreted.</summary>
    public int ReturnForbidden;

    /// <summary>Not 0: RDTSC is interpreted, because the guest's time is not the host's counter, or CR4.TSD is set.</summary>
    public int CounterForbidden;

    /// <summary>Not 0: RDFSBASE and its kin are interpreted, because CR4.FSGSBASE is clear.</summary>
    public int BasesForbidden;

    /// <summary>Not 0: RDPKRU is interpreted, because CR4.PKE is clear.</summary>
    public int KeysForbidden;

    /// <summary>After <see cref="PrivilegeChange.Return"/>: which of <see cref="Returns"/>.</summary>
    public int Returned;

    /// <summary>The host's counter where guest time begins, negated; nanoseconds in a tick times 2^64; what is added to get the guest's TSC.</summary>
    public ulong CounterStart;

    public ulong CounterRate;
    public ulong CounterOffset;

    /// <summary>
    /// Where IRETQ can go back to without the interpreter: for each <see cref="ReturnTarget"/> the selectors, CS in bits 0 to 15 and SS in
    /// 16 to 31 (<see cref="ReturnTarget.None"/> where it has not been), and the descriptors that the interpreter has loaded for them.
    /// </summary>
    public fixed ulong Returns[3 * ReturnTarget.Count];

    /// <summary>RFLAGS, RAX and RSP of an IRETQ on its way.</summary>
    public ulong ReturnFlags;

    public ulong ReturnRax;

    /// <summary>PEXT masks of bits that a count below 8192 does not have, of bit 63, of all bits but the lowest, of the lowest five and six, of those that an address of the lower half does not have.</summary>
    public fixed ulong Masks[6];

    /// <summary>What <see cref="HotState.RingMask"/> is while nothing asks for attention.</summary>
    public ulong RingIndexMask;

    /// <summary>A register of the guest while its own place is used for something else.</summary>
    public ulong Saved;

    /// <summary>Host addresses that a block keeps for its groups of accesses, from a group's first lookup to its last use.</summary>
    public fixed ulong Slots[8];

    /// <summary>For each <see cref="TlbSet"/>: the TLB's tag of the page that the stack was last written in, and the distance to the host's address.</summary>
    public fixed ulong Stack[6];

    /// <summary>The record (bytes from the first one) of an access site that has left its page often enough to be looked at; -1 for none.</summary>
    public long CountedSite;

    /// <summary>Where a fault of translated code goes on, set once; and what the handler says of the fault: where, of which host address, error code, vector.</summary>
    public ulong FaultExit;

    public ulong FaultRip;

    public ulong FaultAddress;

    public ulong FaultError;

    public ulong FaultVector;

    /// <summary>How many more jumps to another page go by the jump cache before one of them is led straight to its target.</summary>
    public uint LinkCountdown;

    /// <summary>What R15 has where translated code is entered.</summary>
    public ulong Distance;

    /// <summary>R14, R15 and the code's address where an access on trial goes on, see <see cref="AccessSites"/>.</summary>
    public ulong TrialAddress;

    public ulong TrialDistance;
    public long TrialResume;
}

/// <summary>A change of privilege that translated code has made: the state's CS, SS and CPL follow at the next exit.</summary>
internal enum PrivilegeChange
{
    None = 0,

    /// <summary>SYSCALL: CPL 0, selectors of STAR.</summary>
    ToSupervisor = 1,

    /// <summary>SYSRET to 64-bit code: CPL 3, selectors of STAR.</summary>
    ToUser = 2,

    /// <summary>IRETQ, to what <see cref="ExitState.Returned"/> says.</summary>
    Return = 3,
}

/// <summary>Where IRETQ to 64-bit code goes, as far as translated code knows it.</summary>
internal static class ReturnTarget
{
    public const int User = 0;

    public const int Supervisor = 1;

    /// <summary>To the supervisor with a null SS, which an interrupt of user code leaves behind.</summary>
    public const int SupervisorNullStack = 2;

    public const int Count = 3;

    /// <summary>In place of two selectors.</summary>
    public const ulong None = 1UL << 63;
}

/// <summary>Which of the tables a block uses: privilege and RFLAGS.AC decide. A supervisor is level 0; levels 1 and 2 are interpreted.</summary>
internal enum TlbSet
{
    Supervisor = 0,

    /// <summary>Supervisor with RFLAGS.AC set: SMAP lets it reach user pages.</summary>
    SupervisorOpen = 1,

    User = 2,

    /// <summary>User mode in an address space that the host's page tables show: as windows of <c>UserWindows</c> say. What is looked up all the same has user mode's tables.</summary>
    UserWindow = 3,
}

/// <summary>What sets have in common.</summary>
internal static class TlbSets
{
    /// <summary>The set whose tables and jump cache a set uses.</summary>
    public static TlbSet Tables(this TlbSet set) => set == TlbSet.UserWindow ? TlbSet.User : set;
}

/// <summary>Byte offsets from the start of <see cref="HotState"/>, the same for every vCPU.</summary>
internal static unsafe class StateLayout
{
    /// <summary>
    /// How far from the start of the state the host's RSP is: what is asked for most then has displacements of one byte. Its lowest six bits are
    /// <see cref="RegionShift"/>, which makes RSP the count of a shift.
    /// </summary>
    public const int Bias = 64 + RegionShift;

    /// <summary>Bytes below the state for what runs on this stack: signal handlers.</summary>
    public const int StackSize = 256 << 10;

    public const int TlbCount = 32768;
    public const int JumpCount = 65536;

    /// <summary>Access sites for reads, as many for writes, and as many frames.</summary>
    public const int SiteCount = 1024;

    /// <summary>Calls that the return ring remembers: one for each 8 bytes of a stack of 8 KiB.</summary>
    public const int RingCount = 1024;

    /// <summary>
    /// Bytes of a site's record: the TLB's tag of its page, and the distance to the host's address; of a frame's, 1 - RSP and the host's address of
    /// its first byte. Misses are counted elsewhere.
    /// </summary>
    public const int SiteSize = 16;

    /// <summary>Groups of a block that can be kept.</summary>
    public const int SlotCount = 8;

    public const int TlbIndexMask = 0;
    public const int CodePage = 8;
    public const int JumpMask = 16;
    public const int PageMask = 24;
    public const int PageMaskCount = 7;
    public const int RingMask = PageMask + (8 * PageMaskCount);
    public const int Poll = RingMask + 8;
    public const int Calls = Poll + 8;

    /// <summary>Masks that ask for attention where they are 0, from that of the jump cache to <see cref="Poll"/>.</summary>
    public const int PollMaskCount = 1 + PageMaskCount + 2;
    public const int JumpSalt = Bias + 2;

    private const int Array = TlbCount * 8;
    private const int SetSize = 4 * Array;
    private const int JumpArray = JumpCount * 8;

    /// <summary>One more: see <see cref="RingTags"/>.</summary>
    private const int RingArray = (RingCount * 8) + 64;

    public static readonly int Cpu = sizeof(HotState);
    public static readonly int Exit = (Cpu + sizeof(CpuState) + 63) & ~63;
    public static readonly int Tlb = (Exit + sizeof(ExitState) + 63) & ~63;
    public static readonly int Jumps = Tlb + (3 * SetSize);
    public static readonly int Sites = Jumps + (4 * JumpArray);
    public static readonly int SiteMisses = Sites + (3 * SiteCount * SiteSize);
    public static readonly int Ring = SiteMisses + (3 * SiteCount * SiteSize);
    public static readonly int TablesSize = Ring + (4 * RingArray);

    /// <summary>What is added to an address of user mode, by its bits from <see cref="RegionShift"/> on: 4 TiB have one number.</summary>
    public static readonly int Regions = (TablesSize + 4095) & ~4095;

    public const int RegionShift = 42;

    public const int RegionTableSize = 8 << (64 - RegionShift);
    public static readonly int Size = Regions + RegionTableSize;

    public static readonly int RflagsOffset = Field(static s => &s->Flags);
    public static readonly int FsBase = Field(static s => &s->Fs.Base);
    public static readonly int GsBase = Field(static s => &s->Gs.Base);
    public static readonly int FxArea = Field(static s => s->FxArea);
    public static readonly int YmmHigh = Field(static s => s->YmmHigh);
    public static readonly int Mxcsr = FxArea + CpuState.FxMxcsr;

    public static readonly int HostRsp = ExitField(static e => &e->HostRsp);
    public static readonly int Site = ExitField(static e => &e->Site);
    public static readonly int Address = ExitField(static e => &e->Address);
    public static readonly int Info = ExitField(static e => &e->Info);
    public static readonly int Flags = ExitField(static e => &e->Flags);
    public static readonly int SseLoaded = ExitField(static e => &e->SseLoaded);
    public static readonly int AvxLoaded = ExitField(static e => &e->AvxLoaded);
    public static readonly int X87Loaded = ExitField(static e => &e->X87Loaded);
    public static readonly int SseForbidden = ExitField(static e => &e->SseForbidden);
    public static readonly int AvxForbidden = ExitField(static e => &e->AvxForbidden);
    public static readonly int X87Forbidden = ExitField(static e => &e->X87Forbidden);
    public static readonly int HostMxcsr = ExitField(static e => &e->HostMxcsr);

    public static readonly int EventWaits = ExitField(static e => &e->EventWaits);
    public static readonly int GoesDown = ExitField(static e => &e->GoesDown);
    public static readonly int SyscallForbidden = ExitField(static e => &e->SyscallForbidden);
    public static readonly int ReturnForbidden = ExitField(static e => &e->ReturnForbidden);
    public static readonly int CounterForbidden = ExitField(static e => &e->CounterForbidden);
    public static readonly int Returned = ExitField(static e => &e->Returned);
    public static readonly int CounterStart = ExitField(static e => &e->CounterStart);
    public static readonly int CounterRate = ExitField(static e => &e->CounterRate);
    public static readonly int CounterOffset = ExitField(static e => &e->CounterOffset);
    public static readonly int ReturnFlags = ExitField(static e => &e->ReturnFlags);
    public static readonly int ReturnRax = ExitField(static e => &e->ReturnRax);
    public static readonly int TscAux = Field(static s => &s->TscAux);
    public static readonly int GdtBase = Field(static s => &s->Gdtr.Base);
    public static readonly int Privilege = ExitField(static e => &e->Privilege);
    public static readonly int SitesUsed = ExitField(static e => &e->SitesUsed);
    public static readonly int CountedSite = ExitField(static e => &e->CountedSite);
    public static readonly int FaultExit = ExitField(static e => &e->FaultExit);
    public static readonly int FaultRip = ExitField(static e => &e->FaultRip);
    public static readonly int FaultAddress = ExitField(static e => &e->FaultAddress);
    public static readonly int FaultError = ExitField(static e => &e->FaultError);
    public static readonly int FaultVector = ExitField(static e => &e->FaultVector);
    public static readonly int LinkCountdown = ExitField(static e => &e->LinkCountdown);
    public static readonly int Distance = ExitField(static e => &e->Distance);
    public static readonly int TrialAddress = ExitField(static e => &e->TrialAddress);
    public static readonly int TrialDistance = ExitField(static e => &e->TrialDistance);
    public static readonly int TrialResume = ExitField(static e => &e->TrialResume);
    public static readonly int Saved = ExitField(static e => &e->Saved);
    public static readonly int LargeCountMask = ExitField(static e => &e->Masks[0]);
    public static readonly int SignMask = ExitField(static e => &e->Masks[1]);
    public static readonly int NotOneMask = ExitField(static e => &e->Masks[2]);
    public static readonly int UpperHalfMask = ExitField(static e => &e->Masks[5]);
    public static readonly int RingIndexMask = ExitField(static e => &e->RingIndexMask);
    public static readonly int BasesForbidden = ExitField(static e => &e->BasesForbidden);
    public static readonly int KeysForbidden = ExitField(static e => &e->KeysForbidden);
    public static readonly int Pkru = Field(static s => &s->Pkru);
    public static readonly int KernelGsBase = Field(static s => &s->KernelGsBase);
    public static readonly int Cr0 = Field(static s => &s->Cr0);
    public static readonly int Cr2 = Field(static s => &s->Cr2);
    public static readonly int Cr3 = Field(static s => &s->Cr3);
    public static readonly int Cr4 = Field(static s => &s->Cr4);
    public static readonly int Lstar = Field(static s => &s->Lstar);
    public static readonly int Sfmask = Field(static s => &s->Sfmask);

    private static readonly int s_stack = ExitField(static e => e->Stack);

    private delegate void* CpuField(CpuState* state);

    private delegate void* ExitStateField(ExitState* state);

    /// <summary>The PEXT mask of the lowest five (operands of 4 bytes) or six bits.</summary>
    public static int BitMask(int size) => LargeCountMask + (size == 8 ? 32 : 24);

    /// <summary>The selector of ES, CS, SS, DS, FS, GS (0 to 5).</summary>
    public static int Selector(int segment) => FsBase - (4 * sizeof(Segment)) + (segment * sizeof(Segment)) + 12;

    public static int Gpr(int guest) => Cpu + (guest * 8);

    public static int ReadTags(TlbSet set) => Tlb + ((int)set * SetSize);

    public static int WriteTags(TlbSet set) => ReadTags(set) + Array;

    /// <summary>Reads and writes have entries of their own, so that a copy between pages of one index keeps both.</summary>
    public static int Distances(TlbSet set, bool write) => ReadTags(set) + ((write ? 3 : 2) * Array);

    public static int Tags(TlbSet set, bool write) => write ? WriteTags(set) : ReadTags(set);

    /// <summary>The selectors of a <see cref="ReturnTarget"/>; CS's descriptor is 8 bytes behind, that of SS 16.</summary>
    public static int Return(int target) => ExitField(static e => e->Returns) + (24 * target);

    public static int JumpTags(TlbSet set) => Jumps + (set == TlbSet.User ? 2 * JumpArray : 0);

    public static int JumpTargets(TlbSet set) => JumpTags(set) + JumpArray;

    /// <summary>
    /// The return addresses of calls, each inverted, by RSP. CALL writes the entry behind the index that RSP has then, RET reads that of the index which
    /// RSP has behind it: the same but where the index begins anew, and so nothing is ever written to entry 0.
    /// </summary>
    public static int RingTags(TlbSet set) => Ring + (set == TlbSet.User ? 2 * RingArray : 0);

    /// <summary>Where code goes on behind a call, on the host.</summary>
    public static int RingLandings(TlbSet set) => RingTags(set) + RingArray;

    public static int Slot(int number) => ExitField(static e => e->Slots) + (8 * number);

    public static int AlignedMask(int log2) => PageMask + (8 * log2);

    public static int StackTag(TlbSet set) => s_stack + (16 * (int)set);

    public static int StackDistance(TlbSet set) => StackTag(set) + 8;

    // SAFETY: only addresses of fields are computed; nothing is read.
    private static int Field(CpuField field)
    {
        Unsafe.SkipInit(out CpuState state);
        return Cpu + (int)((byte*)field(&state) - (byte*)&state);
    }

    private static int ExitField(ExitStateField field)
    {
        Unsafe.SkipInit(out ExitState state);
        return Exit + (int)((byte*)field(&state) - (byte*)&state);
    }
}

/// <summary>Why translated code has come back.</summary>
internal enum ExitKind
{
    /// <summary>The instruction is for the interpreter.</summary>
    Interpret = 0,

    /// <summary>The TLB does not hold a page; the instruction is tried again when it does.</summary>
    TlbMiss = 1,

    /// <summary>Something asks for attention; the offset is that of the instruction to come.</summary>
    Attention = 2,

    /// <summary>A direct jump has no target yet: one within its page, or, done but for that, one to the linear address in R14 in another page.</summary>
    Link = 3,

    /// <summary>The jump cache does not know the linear address in R14; the jump is done, and undone where that is not canonical.</summary>
    Jump = 4,

    /// <summary>The instruction is done: code goes on at the linear address in R14, canonical or not.</summary>
    Landed = 5,

    /// <summary>INVLPG of the linear address in R14; code goes on at the offset.</summary>
    InvalidatePage = 6,

    /// <summary>An access by way of the host's page tables has faulted; the fault handler has said where.</summary>
    Fault = 7,
}

/// <summary>
/// How an exit's cause is packed: offset from the page's start 0 to 12 (past its end when it is the next instruction's), kind 13
/// to 15, bytes of the access 16 to 23, write 24, alignment 25, group 26, probe 28; of a link, far 29, call 30; of a jump, the change of RSP in 16 to 31.
/// </summary>
internal readonly record struct ExitInfo(uint Value)
{
    public int Offset => (int)(Value & 0x1FFF);

    public ExitKind Kind => (ExitKind)((Value >> 13) & 7);

    public int Size => (int)(Value >> 16) & 0xFF;

    /// <summary>The operand must be aligned to its size.</summary>
    public bool NeedsAlignment => (Value & AlignedBit) != 0;

    public const uint AlignedBit = 1u << 25;

    /// <summary>The lookup of a group of accesses, of which the address is that of the first byte.</summary>
    public bool IsGroup => (Value & GroupBit) != 0;

    public const uint GroupBit = 1u << 26;

    /// <summary>The access has a page of its own that it is compared with.</summary>
    public bool IsSite => (Value & SiteBit) != 0 && Kind == ExitKind.TlbMiss;

    public const uint SiteBit = 1u << 27;

    /// <summary>A fault is not raised by the access itself: the instruction is interpreted where the page cannot be reached.</summary>
    public bool IsProbe => (Value & ProbeBit) != 0;

    public const uint ProbeBit = 1u << 28;

    /// <summary>A link to another page: the offset is that of the jump.</summary>
    public bool IsFar => (Value & FarBit) != 0;

    public const uint FarBit = 1u << 29;

    /// <summary>The jump has pushed an address.</summary>
    public bool IsCall => (Value & CallBit) != 0;

    public const uint CallBit = 1u << 30;

    /// <summary>Of <see cref="ExitKind.Landed"/>: the jump cache has led to a block that is gone.</summary>
    public bool IsStale => (Value & StaleBit) != 0;

    public const uint StaleBit = 1u << 16;

    /// <summary>Of <see cref="ExitKind.Jump"/>: what has been added to RSP.</summary>
    public int StackChange => (short)(Value >> 16);

    public bool IsWrite => (Value & (1u << 24)) != 0;

    public static int Pack(ExitKind kind, int offset, int size = 0, bool write = false) =>
        offset | ((int)kind << 13) | (size << 16) | (write ? 1 << 24 : 0);
}
