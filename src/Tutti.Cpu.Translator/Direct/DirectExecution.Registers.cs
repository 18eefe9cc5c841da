using System.Buffers.Binary;
using Tutti.Host;
using Tutti.X86;

namespace Tutti.Cpu.Translator;

/// <summary>The way of the registers into the process and back.</summary>
internal sealed unsafe partial class DirectExecution
{
    /// <summary>What user code changes by itself.</summary>
    private const ulong OwnFlags = Rflags.Arithmetic | Rflags.Direction;

    /// <summary>What it may also set.</summary>
    private const ulong SetFlags = Rflags.Trap | Rflags.NestedTask | Rflags.AlignmentCheck | Rflags.Identification;

    // Of an XSAVE area in the standard form.
    private const int MxcsrMask = CpuState.FxMxcsr + 4;
    private const int XmmEnd = CpuState.FxXmm + 256;
    private const int Header = 512;
    private const int Ymm = 576;
    private const int VectorsSize = Ymm + 256;

    private void GiveRegisters(DirectSpace space)
    {
        LazyFlags.Materialize(_state);
        TracedRegisters registers = space.Stub.First;
        ulong* gpr = _state->Gpr;
        registers.Rax = gpr[0];
        registers.Rcx = gpr[1];
        registers.Rdx = gpr[2];
        registers.Rbx = gpr[3];
        registers.Rsp = gpr[4];
        registers.Rbp = gpr[5];
        registers.Rsi = gpr[6];
        registers.Rdi = gpr[7];
        registers.R8 = gpr[8];
        registers.R9 = gpr[9];
        registers.R10 = gpr[10];
        registers.R11 = gpr[11];
        registers.R12 = gpr[12];
        registers.R13 = gpr[13];
        registers.R14 = gpr[14];
        registers.R15 = gpr[15];
        registers.Rip = _state->Rip;
        registers.CallRax = ulong.MaxValue;
        registers.Flags = (_state->Flags & OwnFlags) | Rflags.AlwaysOne | Rflags.Interrupt;
        registers.FsBase = _state->Fs.Base;
        registers.GsBase = _state->Gs.Base;
        registers.Ds = registers.Es = registers.Fs = registers.Gs = 0;
        space.Stub.Process.SetRegisters(registers);
    }

    private void TakeRegisters(in TracedRegisters registers, bool isCall)
    {
        ulong* gpr = _state->Gpr;
        gpr[0] = isCall ? registers.CallRax : registers.Rax;
        gpr[1] = registers.Rcx;
        gpr[2] = registers.Rdx;
        gpr[3] = registers.Rbx;
        gpr[4] = registers.Rsp;
        gpr[5] = registers.Rbp;
        gpr[6] = registers.Rsi;
        gpr[7] = registers.Rdi;
        gpr[8] = registers.R8;
        gpr[9] = registers.R9;
        gpr[10] = registers.R10;
        gpr[11] = registers.R11;
        gpr[12] = registers.R12;
        gpr[13] = registers.R13;
        gpr[14] = registers.R14;
        gpr[15] = registers.R15;
        _state->Rip = registers.Rip;
        _state->Flags = (_state->Flags & ~(OwnFlags | Rflags.Resume)) | (registers.Flags & (OwnFlags | SetFlags));
        _state->Fs.Base = registers.FsBase;
        _state->Gs.Base = registers.GsBase;
    }

    /// <summary>Loads of segment registers, which have gone by the host's descriptors, are done once more, by the guest's.</summary>
    private void TakeSelectors(DirectSpace space, in TracedRegisters registers)
    {
        if ((registers.Ds | registers.Es | registers.Fs | registers.Gs) != 0)
        {
            foreach ((int index, ulong selector) in (ReadOnlySpan<(int, ulong)>)[(3, registers.Ds), (0, registers.Es), (4, registers.Fs), (5, registers.Gs)])
            {
                if (selector != 0 && selector != CpuState.SegmentOf(_state, index)->Selector && !_processor.Segments.TryLoadSegment(index, (ushort)selector))
                {
                    return;
                }
            }
        }

        if (registers.Cs != space.Stub.First.Cs)
        {
            throw new NotSupportedException("Direct execution: the guest has gone to 32-bit code by a far jump, which this prototype cannot follow.");
        }
    }

    /// <summary>Gives the process the guest's x87 and vector state, if that is not what it has.</summary>
    private void GiveVectors(DirectSpace space)
    {
        // SAFETY: FxArea is 512 bytes, the upper halves are 256.
        var legacy = new ReadOnlySpan<byte>(_state->FxArea, XmmEnd);
        var upper = new ReadOnlySpan<byte>(_state->YmmHigh, 256);
        Span<byte> area = space.Vectors.AsSpan(0, space.VectorsLength);
        if (legacy[..MxcsrMask].SequenceEqual(area[..MxcsrMask]) && legacy[(MxcsrMask + 4)..].SequenceEqual(area[(MxcsrMask + 4)..XmmEnd]) && upper.SequenceEqual(area[Ymm..VectorsSize]))
        {
            return;
        }

        Counters.VectorLoads++;
        legacy[..MxcsrMask].CopyTo(area);
        legacy[(MxcsrMask + 4)..].CopyTo(area[(MxcsrMask + 4)..]);
        upper.CopyTo(area[Ymm..]);
        BinaryPrimitives.WriteUInt64LittleEndian(area[Header..], BinaryPrimitives.ReadUInt64LittleEndian(area[Header..]) | 7);
        space.Stub.Process.SetVectors(area);
    }

    private void TakeVectors(DirectSpace space)
    {
        Span<byte> area = space.Vectors.AsSpan(0, space.VectorsLength);
        space.Stub.Process.GetVectors(area);

        // SAFETY: as above.
        var legacy = new Span<byte>(_state->FxArea, XmmEnd);
        area[..MxcsrMask].CopyTo(legacy);
        area[(MxcsrMask + 4)..XmmEnd].CopyTo(legacy[(MxcsrMask + 4)..]);
        area[Ymm..VectorsSize].CopyTo(new Span<byte>(_state->YmmHigh, 256));
    }
}
