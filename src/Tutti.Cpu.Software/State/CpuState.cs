using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Tutti.Cpu.Software;

/// <summary>A segment register as the handlers use it.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct Segment
{
    public ulong Base;
    public uint Limit;
    public ushort Selector;

    /// <summary>As in <see cref="X86.SegmentAttributes"/>.</summary>
    public ushort Attributes;
}

/// <summary>
/// All of one vCPU's state that handlers and emitted thunks touch, in native memory so that its address never moves.
/// Registers are addressed by byte offset from the start of this structure: an offset fits in a byte for what an
/// decoded instruction names as base, index, source or destination.
/// </summary>
[StructLayout(LayoutKind.Sequential)]
public unsafe struct CpuState
{
    /// <summary>RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15 at byte offsets 0, 8, ... 120. AH is offset 1, BH offset 25.</summary>
    public fixed ulong Gpr[16];

    /// <summary>Always zero: what an absent base or index register points to. Byte offset 128.</summary>
    public ulong Zero;

    /// <summary>
    /// While a block runs: address of the block's first instruction (an offset into CS outside 64-bit mode). Between
    /// blocks: the next instruction. Byte offset 136, so that a RIP-relative operand has this as its base.
    /// </summary>
    public ulong Rip;

    /// <summary>Always <see cref="Reach"/>: the index register of RIP-relative operands that a displacement of 32 bits, counted from the block, cannot reach. Byte offset 144.</summary>
    public ulong ReachValue;

    /// <summary><see cref="Software.Attention"/> bits; not 0 makes the running block end at its next taken branch.</summary>
    public int Attention;

    /// <summary>The <see cref="CodeMode"/> that blocks must have been built for.</summary>
    public uint Mode;

    /// <summary>Mode and the generation of the jump cache: entries with another one do not count.</summary>
    public uint JumpTag;

    /// <summary>RFLAGS; the six arithmetic bits count only when <see cref="FlagKind"/> is <see cref="Software.FlagKind.Eager"/>.</summary>
    public ulong Flags;

    public ulong FlagResult;
    public ulong FlagLeft;
    public ulong FlagRight;
    public uint FlagKind;

    /// <summary>Vector of the fault that the running handler met, or -1.</summary>
    public int FaultVector;

    public uint FaultError;

    /// <summary>Not 0: why SSE or x87 instructions fault now; <see cref="FpuTrap"/> bits.</summary>
    public uint FpuTraps;

    /// <summary>The TLB of the current privilege and RFLAGS.AC; one of the processor's sets.</summary>
    public TlbEntry* Tlb;

    public JumpCacheEntry* JumpCache;

    public ulong InstructionCount;

    /// <summary>Native handle to the <see cref="SoftwareProcessor"/>.</summary>
    public nint Self;

    /// <summary>0 to 3.</summary>
    public int Cpl;

    /// <summary>The instruction behind the current one runs before interrupts are taken.</summary>
    public int InterruptShadow;

    public Segment Es;
    public Segment Cs;
    public Segment Ss;
    public Segment Ds;
    public Segment Fs;
    public Segment Gs;
    public Segment Tr;
    public Segment Ldtr;
    public Segment Gdtr;
    public Segment Idtr;

    public ulong Cr0;
    public ulong Cr2;
    public ulong Cr3;
    public ulong Cr4;
    public ulong Efer;
    public ulong Xcr0;
    public fixed ulong Dr[8];

    public ulong Star;
    public ulong Lstar;
    public ulong Cstar;
    public ulong Sfmask;
    public ulong KernelGsBase;
    public ulong SysenterCs;
    public ulong SysenterEsp;
    public ulong SysenterEip;
    public ulong Pat;
    public ulong TscAux;

    /// <summary>Guest TSC minus clock nanoseconds; the TSC runs at 1 GHz.</summary>
    public long TscOffset;

    /// <summary>Where a read-modify-write works when the operand cannot be reached by one host pointer.</summary>
    public fixed byte Bounce[64];

    /// <summary>Linear address that <see cref="Bounce"/> stands for; or the physical one of a page with decoded code.</summary>
    public ulong BounceAddress;

    /// <summary>PKRU: for each protection key no access (bit 2i) and no write (bit 2i + 1).</summary>
    public uint Pkru;

    /// <summary>64 minus the bits of a linear address in the current paging mode: 16, or 7 with 5-level paging.</summary>
    public int CanonicalShift;

    /// <summary>Not 0 while a read-modify-write is under way that has something left to do at its end: its bytes.</summary>
    public int BounceSize;

    /// <summary>Not 0: the operand is the memory itself, and only the write must be made known.</summary>
    public int BounceIsDirect;

    /// <summary>x87, MMX, MXCSR and XMM state in FXSAVE64 format; XMM n at offset 160 + 16 n.</summary>
    public fixed byte FxArea[512];

    /// <summary>Four 16-byte-aligned slots where vector operands stand that no host pointer reaches, or that may not be changed yet.</summary>
    public fixed byte VectorScratch[64];

    /// <summary>Masks of the translation tier: they become 0 with each request for attention, so that its lookups find nothing.</summary>
    public ulong* PollMasks;

    public long PollMaskCount;

    /// <summary>Native handle to the processor's <see cref="LoadStoreUnit"/>.</summary>
    public nint LoadStore;

    /// <summary>Native handle of the processor's <see cref="IInterpreter"/>, for its own use.</summary>
    public nint Interpreter;

    /// <summary>Bits 255:128 of YMM0 to YMM15, 16 bytes each; the lower halves are in <see cref="FxArea"/>.</summary>
    public fixed byte YmmHigh[16 * 16];

    /// <summary>Bytes from the lower half of a YMM register to its upper one.</summary>
    public static readonly int YmmHighDistance = FindYmmHighDistance();

    public const byte ZeroOffset = 128;
    public const byte RipOffset = 136;
    public const byte ReachOffset = 144;

    /// <summary>Bytes: no instruction starts farther than this from the start of its block.</summary>
    public const int Reach = 4096;

    /// <summary>Offset of MXCSR in the FXSAVE format.</summary>
    public const int FxMxcsr = 24;

    /// <summary>Offset of XMM0 in the FXSAVE format.</summary>
    public const int FxXmm = 160;

    /// <summary>EFER.LMA.</summary>
    public readonly bool IsLongMode => (Efer & X86.Efer.LongModeActive) != 0;

    /// <summary>CS has 64-bit code.</summary>
    public readonly bool Is64BitMode => (Mode & CodeMode.BitnessMask) == CodeMode.Bits64;

    /// <summary>CR0.PE.</summary>
    public readonly bool IsProtected => (Cr0 & X86.Cr0.ProtectionEnable) != 0;

    public readonly bool IsVirtual8086 => (Flags & X86.Rflags.Virtual8086) != 0;

    /// <summary>RFLAGS.IOPL: 0 to 3.</summary>
    public readonly int Iopl => (int)(Flags >> X86.Rflags.IoplShift) & 3;

    /// <summary>Which bits of the stack pointer count: 64, 32 or 16.</summary>
    public readonly ulong StackMask => Is64BitMode ? ulong.MaxValue : (Mode & CodeMode.Stack32) != 0 ? uint.MaxValue : ushort.MaxValue;

    /// <summary>Whether all bits above those that the paging mode translates are like the highest of these.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool IsCanonical(CpuState* state, ulong linear)
    {
        int shift = state->CanonicalShift;
        return (ulong)((long)linear << shift >> shift) == linear;
    }

    /// <summary>A segment register by its encoding: ES, CS, SS, DS, FS, GS.</summary>
    // SAFETY: the caller passes 0 to 5; the fields lie one behind the other in that order (a layout test checks it).
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Segment* SegmentOf(CpuState* state, int index) => &state->Es + index;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static byte* Register(CpuState* state, byte offset) => (byte*)state + offset;

    /// <summary>Address of an XMM register, 16-byte aligned.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static byte* Xmm(CpuState* state, int index) => state->FxArea + FxXmm + (16 * index);

    private static int FindYmmHighDistance()
    {
        CpuState state;
        return (int)(YmmHighOf(&state, 0) - Xmm(&state, 0));
    }

    /// <summary>Address of the upper half of a YMM register, 16-byte aligned.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static byte* YmmHighOf(CpuState* state, int index) => state->YmmHigh + (16 * index);
}

/// <summary>Bits of <see cref="CpuState.Attention"/>: why the run loop must look up before it goes on.</summary>
public static class Attention
{
    public const int ExitRequest = 1 << 0;
    public const int Interrupt = 1 << 1;
    public const int Nmi = 1 << 2;
    public const int Init = 1 << 3;
    public const int Startup = 1 << 4;

    /// <summary>Somebody else wrote into a page that this processor has decoded.</summary>
    public const int CodeWritten = 1 << 5;

    /// <summary>RFLAGS.TF, a breakpoint register or an interrupt shadow asks for one instruction at a time.</summary>
    public const int Step = 1 << 6;

    /// <summary>The code cache is full or must be emptied.</summary>
    public const int FlushCode = 1 << 7;

    /// <summary>HLT: wait for an event.</summary>
    public const int Halted = 1 << 8;

    /// <summary>Another vCPU has the bus, or waits for it: see <see cref="Software.BusLock"/>.</summary>
    public const int BusLocked = 1 << 9;

    /// <summary>Give memory that only saves work back to the host.</summary>
    public const int ReleaseMemory = 1 << 10;
}

/// <summary>Bits of <see cref="CpuState.FpuTraps"/>, kept up to date by writes to CR0 and CR4.</summary>
public static class FpuTrap
{
    /// <summary>CR0.TS: #NM on x87, MMX and SSE.</summary>
    public const uint TaskSwitched = 1;

    /// <summary>CR0.EM: #NM on x87, #UD on MMX and SSE.</summary>
    public const uint Emulation = 2;

    /// <summary>CR4.OSFXSR is clear: #UD on SSE.</summary>
    public const uint NoOsFxsr = 4;
}

/// <summary>Bits of <see cref="CpuState.Mode"/>: everything that the meaning of instruction bytes depends on.</summary>
public static class CodeMode
{
    /// <summary>0: 16 bit, 1: 32 bit, 2: 64 bit.</summary>
    public const uint BitnessMask = 3;

    public const uint Bits16 = 0;
    public const uint Bits32 = 1;
    public const uint Bits64 = 2;

    /// <summary>CPL is 3.</summary>
    public const uint User = 1 << 2;

    /// <summary>SS.B outside 64-bit mode: the stack pointer is ESP.</summary>
    public const uint Stack32 = 1 << 3;

    public const uint Virtual8086 = 1 << 4;

    /// <summary>CR0.PE.</summary>
    public const uint Protected = 1 << 5;

    /// <summary>EFER.LMA: long mode, 64-bit or compatibility.</summary>
    public const uint LongMode = 1 << 6;

    /// <summary>RIP is a linear address and no CS limit needs checking: 64-bit mode, or a CS of base 0 and limit 4 GiB.</summary>
    public const uint FlatCode = 1 << 7;

    /// <summary>Bits above the mode's count generations of the jump cache in <see cref="CpuState.JumpTag"/>.</summary>
    public const uint GenerationStep = 1 << 8;
}
