using System.Buffers.Binary;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.Oracle.Sweep;

/// <summary>
/// Runs encodings on the host's processor and in the engine, at the very end of the last page that can be executed: an instruction that
/// needs more bytes than there are faults at the page's end, and so does, one instruction later, one that has run. Registers point into the
/// oracle's pages, which are full of the byte 5Ah: no selector, no canonical address, and no trap flag.
/// </summary>
internal sealed unsafe class SweepRunner : IDisposable
{
    /// <summary>One past the last byte that can be executed.</summary>
    public const ulong End = ArenaLayout.Code + (2 * ArenaLayout.PageSize);

    /// <summary>Where RBX points, and most others.</summary>
    public const ulong Operand = ArenaLayout.Data + 0x800;

    private const byte Filling = 0x5A;
    private const byte Halt = 0xF4;
    private const int Rcx = 1;
    private const int Rbx = 3;
    private const int Rsp = 4;
    private const int Rbp = 5;
    private readonly NativeRunner _native = new();
    private readonly GuestRunner _guest = new();
    private readonly byte[] _fx = new byte[512];
    private readonly byte[] _halts = new byte[2 * ArenaLayout.PageSize];
    private readonly Outcome _host = new();
    private readonly Outcome _mine = new();

    public SweepRunner()
    {
        BinaryPrimitives.WriteUInt16LittleEndian(_fx, 0x037F);
        BinaryPrimitives.WriteUInt32LittleEndian(_fx.AsSpan(24), 0x1F80);
        NativeRunner.Code.Fill(Halt);
        _halts.AsSpan().Fill(Halt);
        _guest.WriteCode(ArenaLayout.Code, _halts);
    }

    /// <summary>What RBX points to in the next runs.</summary>
    public ulong Address { get; set; } = Operand;

    public void Dispose()
    {
        _guest.Dispose();
        _native.Dispose();
    }

    /// <summary>See <see cref="NativeRunner.Enter"/>: between both calls encodings may be run.</summary>
    public NativeRunner.ThreadState Enter() => _native.Enter();

    public void Leave(NativeRunner.ThreadState state) => _native.Leave(state);

    /// <summary>What the host's processor makes of an encoding's first bytes, which end at the page's end.</summary>
    public Outcome RunHost(SweptEncoding encoding, int length)
    {
        encoding.Bytes.AsSpan(0, length).CopyTo(NativeRunner.Code[^length..]);
        foreach (ulong page in ArenaLayout.WritablePages(encoding.Bits))
        {
            NativeRunner.Page(page).Fill(Filling);
        }

        SetRegisters(new Span<ulong>(NativeRunner.Record + RecordLayout.GprIn, 16));
        NativeRunner.Field(RecordLayout.FlagsIn) = Rflags.AlwaysOne | Rflags.Interrupt;
        NativeRunner.SetTarget(End - (ulong)length, encoding.Bits);
        NativeRunner.Field(RecordLayout.UseFx) = 1;
        _fx.CopyTo(new Span<byte>(NativeRunner.Record + RecordLayout.FxIn, 512));
        new Span<byte>(NativeRunner.Record + RecordLayout.YmmIn, 256).Clear();
        _native.Run();
        NativeRunner.Code[^length..].Fill(Halt);
        _host.Faulted(
            (int)NativeRunner.Field(RecordLayout.FaultVector), NativeRunner.Field(RecordLayout.FaultError),
            NativeRunner.Field(RecordLayout.FaultAddress), NativeRunner.Field(RecordLayout.FaultRip));
        return _host;
    }

    /// <summary>What the engine makes of the same; null where it comes to no end.</summary>
    public Outcome? RunGuest(SweptEncoding encoding, int length)
    {
        _guest.SetCodeSize(encoding.Bits);
        _guest.WriteCode(End - (ulong)length, encoding.Bytes.AsSpan(0, length));
        foreach (ulong page in ArenaLayout.WritablePages(encoding.Bits))
        {
            _guest.Page(page).Fill(Filling);
        }

        CpuState* state = _guest.State;
        SetRegisters(new Span<ulong>(state->Gpr, 16));
        state->Flags = Rflags.AlwaysOne | Rflags.Interrupt;
        state->FlagKind = FlagKind.Eager;
        state->Rip = End - (ulong)length;
        _fx.CopyTo(new Span<byte>(state->FxArea, 512));
        new Span<byte>(state->YmmHigh, 256).Clear();
        bool ended = _guest.Run();
        _guest.WriteCode(End - (ulong)length, _halts.AsSpan(0, length));
        if (!ended)
        {
            return null;
        }

        if (state->FaultVector == ExceptionVector.GeneralProtection && (state->FaultError & 2) != 0)
        {
            // The IDT is empty: the error code names the vector of a trap. Those of user code have no other such error.
            _mine.Faulted((int)(state->FaultError >> 3), 0, 0, state->Rip + (ulong)encoding.Instruction.Length);
        }
        else
        {
            _mine.Faulted(state->FaultVector, state->FaultError, state->Cr2, state->Rip);
        }

        return _mine;
    }

    /// <summary>Whether an instruction of that length was cut by the page's end.</summary>
    public static bool IsCut(Outcome outcome, int length) =>
        outcome.Vector == ExceptionVector.PageFault && outcome.FaultAddress == End && outcome.FaultRip == End - (ulong)length;

    /// <summary>How a run of that length ended, in words.</summary>
    public static string Describe(Outcome outcome, int length) =>
        outcome.Vector != ExceptionVector.PageFault || outcome.FaultAddress != End ? outcome.Ending
        : outcome.FaultRip == End ? "runs"
        : IsCut(outcome, length) ? "needs more bytes"
        : outcome.Ending;

    private void SetRegisters(Span<ulong> gpr)
    {
        gpr.Fill(Operand);
        gpr[Rcx] = 2;
        gpr[Rbx] = Address;
        gpr[Rsp] = ArenaLayout.Stack + 0x800;
        gpr[Rbp] = ArenaLayout.Stack + 0x900;
    }
}
