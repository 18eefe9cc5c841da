using System.Runtime.InteropServices;
using Iced.Intel;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.Vector;

/// <summary>
/// A CpuState without a processor: 64-bit mode, SSE enabled, and a TLB in which two pages of host memory stand at their own
/// host addresses. Handlers run on it as long as no access leaves these pages.
/// </summary>
internal sealed unsafe class BareCpu : IDisposable
{
    public const int MemorySize = 8192;

    private readonly TlbEntry* _tlb;

    public BareCpu()
    {
        State = (CpuState*)NativeMemory.AlignedAlloc((nuint)sizeof(CpuState), 64);
        NativeMemory.Clear(State, (nuint)sizeof(CpuState));
        _tlb = (TlbEntry*)NativeMemory.AlignedAlloc((nuint)(TlbEntry.Count * sizeof(TlbEntry)), 64);
        new Span<TlbEntry>(_tlb, TlbEntry.Count).Fill(new TlbEntry { ReadTag = TlbEntry.NoTag, WriteTag = TlbEntry.NoTag });
        Memory = (byte*)NativeMemory.AlignedAlloc(MemorySize, 4096);
        NativeMemory.Clear(Memory, MemorySize);
        for (ulong page = (ulong)Memory; page < (ulong)Memory + MemorySize; page += 4096)
        {
            _tlb[(page >> 12) & (TlbEntry.Count - 1)] = new TlbEntry { ReadTag = page, WriteTag = page };
        }

        State->Tlb = _tlb;
        State->Mode = CodeMode.Bits64 | CodeMode.Protected | CodeMode.LongMode;
        State->Cr0 = Cr0.ProtectionEnable | Cr0.NumericError;
        State->Cr4 = Cr4.OsFxsr | Cr4.OsXmmException | Cr4.OsXsave;
        State->Xcr0 = 3;
        State->ReachValue = CpuState.Reach;
        State->FaultVector = -1;
        State->Flags = Rflags.AlwaysOne;
        *(ushort*)State->FxArea = 0x37F;
        Mxcsr = 0x1F80;
    }

    public CpuState* State { get; }

    public byte* Memory { get; }

    public uint Mxcsr
    {
        get => *(uint*)(State->FxArea + CpuState.FxMxcsr);
        set => *(uint*)(State->FxArea + CpuState.FxMxcsr) = value;
    }

    public ushort X87Control
    {
        get => *(ushort*)State->FxArea;
        set => *(ushort*)State->FxArea = value;
    }

    public ushort X87Status
    {
        get => *(ushort*)(State->FxArea + 2);
        set => *(ushort*)(State->FxArea + 2) = value;
    }

    public UInt128* Xmm(int number) => (UInt128*)CpuState.Xmm(State, number);

    public static Instruction Decode(in Instruction instruction, ulong rip = 0x1000, int bitness = 64)
    {
        var bytes = new List<byte>();
        Encoder encoder = Encoder.Create(bitness, new ListWriter(bytes));
        encoder.Encode(instruction, rip);
        var reader = new CodeWords();
        var decoder = new GuestDecoder(bitness, reader) { IP = rip };

        // SAFETY: the reader takes whole aligned words, of which an instruction has two at most.
        ulong* words = stackalloc ulong[2];
        bytes.CopyTo(new Span<byte>(words, bytes.Count));
        reader.Start((byte*)words, bytes.Count);
        decoder.Decode(out Instruction decoded);
        return decoded;
    }

    /// <summary>Translates; false when the interpreter does not offer the instruction.</summary>
    public bool TryTranslate(in Instruction instruction, Op* op)
    {
        *op = default;
        var context = new TranslationContext { Mode = State->Mode, BlockRip = instruction.IP };
        op->Length = (byte)instruction.Length;
        op->Count = 1;
        InstructionTranslator.Translate(instruction, op, ref context);

        // Only what ends in #UD ends its block here: no vector instruction branches.
        return !context.EndsBlock;
    }

    /// <summary>Runs one instruction; gives the vector of the fault it met, or -1.</summary>
    public int Run(in Instruction instruction)
    {
        Op* ops = stackalloc Op[2];
        TryTranslate(Decode(instruction), ops);
        return Run(ops);
    }

    public int Run(Op* op)
    {
        State->Rip = 0x1000;
        State->FaultVector = -1;
        Op* next = op->Handler(State, op);
        int fault = State->FaultVector;
        Assert.True(fault >= 0 ? next == null : next == op + 1, "A handler goes on or faults.");
        return fault;
    }

    public void Dispose()
    {
        NativeMemory.AlignedFree(State);
        NativeMemory.AlignedFree(_tlb);
        NativeMemory.AlignedFree(Memory);
    }

    private sealed class ListWriter(List<byte> bytes) : CodeWriter
    {
        public override void WriteByte(byte value) => bytes.Add(value);
    }
}
