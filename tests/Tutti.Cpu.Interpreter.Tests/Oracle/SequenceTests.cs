using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.Oracle;

/// <summary>
/// Random short programs do in the interpreter what they do on the host's own processor. Single forms cannot show what goes
/// wrong between instructions: flags computed late, compares fused with branches, linked blocks, code that is replaced.
/// </summary>
[Trait("Category", "Oracle")]
[Collection(nameof(HostProcessorTests))]
public sealed unsafe class SequenceTests : IDisposable
{
    private const int RunsPerProgram = 4;
    private const int Rsp = 4;
    private const int R14 = 14;
    private const int R15 = 15;

    private readonly NativeRunner _native = new();
    private readonly GuestRunner _guest = new();
    private readonly byte[] _data = new byte[2 * ArenaLayout.PageSize];
    private readonly ulong[] _gpr = new ulong[16];
    private readonly byte[] _fx = new byte[512];
    private readonly byte[] _upperHalves = new byte[256];
    private readonly Outcome _host = new();
    private readonly Outcome _mine = new();
    private ulong _flags;
    private ulong _strayRip;
    private int _faults;
    private int _interrupts;

    public void Dispose()
    {
        _guest.Dispose();
        _native.Dispose();
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void Programs_end_as_on_the_host(int shard)
    {
        var random = new SeededRandom(((ulong)ProcessorOracle.Seed << 32) + 0x5E9 + (ulong)shard);
        var generator = new SequenceGenerator(random);
        string? failure = null;
        using var done = new CancellationTokenSource();
        Thread interrupter = BeginInterrupts(random.Next(), done.Token);
        NativeRunner.ThreadState thread = _native.Enter();
        try
        {
            for (int program = 0; program < 5 * ProcessorOracle.Cases && failure == null; program++)
            {
                // Some cross into the second page.
                ulong address = ArenaLayout.Code + (ulong)(random.Percent(30) ? 4096 - random.Below(80) : random.Between(0x100, 0x600));
                Sequence sequence = generator.Make(address);
                PutCode(sequence, address);
                for (int run = 0; run < RunsPerProgram && failure == null; run++)
                {
                    failure = RunOnce(sequence, address, random);
                }
            }
        }
        finally
        {
            _native.Leave(thread);
            done.Cancel();
            interrupter.Join();
        }

        Assert.True(failure == null, failure);
        Assert.True(_faults > 0 && _interrupts > 0, $"{_faults} faults and {_interrupts} interrupts: some were to come.");
    }

    /// <summary>Asks the processor to come out of its code at random moments.</summary>
    private Thread BeginInterrupts(ulong seed, CancellationToken done)
    {
        Thread thread = new(() =>
        {
            var random = new SeededRandom(seed);
            while (!done.IsCancellationRequested)
            {
                Thread.SpinWait(random.Below(2000));
                _guest.Processor.RequestExit();
            }
        });
        thread.Start();
        return thread;
    }

    private void PutCode(Sequence sequence, ulong address)
    {
        int offset = (int)(address - ArenaLayout.Code);
        sequence.Bytes.CopyTo(NativeRunner.Code[offset..]);
        _guest.WriteCode(address, sequence.Bytes);
        ulong end = address + (ulong)sequence.Bytes.Length;
        Span<byte> jump = NativeRunner.Code.Slice(offset + sequence.Bytes.Length, 5);
        jump[0] = 0xE9;
        BinaryPrimitives.WriteInt32LittleEndian(jump[1..], (int)((long)_native.PadExit(0) - (long)end - 5));
        _guest.WriteCode(end, [0x0F, 0x0B]);
    }

    private string? RunOnce(Sequence sequence, ulong address, SeededRandom random)
    {
        for (int i = 0; i < 16; i++)
        {
            _gpr[i] = random.Value();
        }

        for (int i = 0; i < _data.Length; i += 8)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(_data.AsSpan(i), random.Value());
        }

        _gpr[Rsp] = HostFeatures.StackPointer(_gpr[Rsp]);
        _gpr[R14] = (ulong)random.Between(1, 5);
        _gpr[R15] = ArenaLayout.Data;
        _flags = Rflags.AlwaysOne | Rflags.Interrupt | (random.Next() & Rflags.Arithmetic);

        FillVectors(random);

        // Native.
        _data.AsSpan(0, 4096).CopyTo(NativeRunner.Page(ArenaLayout.Data));
        _data.AsSpan(4096).CopyTo(NativeRunner.Page(ArenaLayout.Data + 4096));
        _gpr.CopyTo(new Span<ulong>(NativeRunner.Record + RecordLayout.GprIn, 16));
        NativeRunner.Field(RecordLayout.FlagsIn) = _flags;
        NativeRunner.SetTarget(address, 64);
        NativeRunner.Field(RecordLayout.UseFx) = sequence.HasVectors ? 1UL : 0;
        _fx.CopyTo(new Span<byte>(NativeRunner.Record + RecordLayout.FxIn, _fx.Length));
        _upperHalves.CopyTo(new Span<byte>(NativeRunner.Record + RecordLayout.YmmIn, _upperHalves.Length));
        new Span<byte>(NativeRunner.Record + RecordLayout.YmmOut, _upperHalves.Length).Clear();
        _native.Run();

        // Interpreter.
        _data.AsSpan(0, 4096).CopyTo(_guest.Page(ArenaLayout.Data));
        _data.AsSpan(4096).CopyTo(_guest.Page(ArenaLayout.Data + 4096));
        CpuState* state = _guest.State;
        _gpr.CopyTo(new Span<ulong>(state->Gpr, 16));
        _fx.CopyTo(new Span<byte>(state->FxArea, _fx.Length));
        _upperHalves.CopyTo(new Span<byte>(state->YmmHigh, _upperHalves.Length));
        state->Flags = _flags;
        state->FlagKind = FlagKind.Eager;
        state->Rip = address;
        _strayRip = 0;
        _guest.Interrupted = rip =>
        {
            _interrupts++;
            _strayRip = sequence.Starts.Contains(rip) ? _strayRip : rip;
        };
        bool ended = _guest.Run();
        string? difference = ended ? Difference(sequence, address) : "the interpreter does not come to an end";
        return difference == null ? null : Describe(sequence, difference);
    }

    /// <summary>All exceptions masked, no x87 register in use.</summary>
    private void FillVectors(SeededRandom random)
    {
        _fx.AsSpan().Clear();
        BinaryPrimitives.WriteUInt16LittleEndian(_fx, 0x37F);
        BinaryPrimitives.WriteUInt32LittleEndian(_fx.AsSpan(24), 0x1F80);
        for (int at = 160; at < 416; at += 8)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(_fx.AsSpan(at), random.VectorValue());
            BinaryPrimitives.WriteUInt64LittleEndian(_upperHalves.AsSpan(at - 160), HostCalls.HasAvx ? random.VectorValue() : 0);
        }
    }

    private string? Difference(Sequence sequence, ulong address)
    {
        CpuState* state = _guest.State;
        string theirs = $"went on at {address + (ulong)sequence.Bytes.Length:x}";
        bool faulted = NativeRunner.Field(RecordLayout.Landing) != 0;
        if (faulted)
        {
            _faults++;
            _host.Faulted(
                (int)NativeRunner.Field(RecordLayout.FaultVector), NativeRunner.Field(RecordLayout.FaultError),
                NativeRunner.Field(RecordLayout.FaultAddress), NativeRunner.Field(RecordLayout.FaultRip));
            theirs = _host.Ending;
        }

        _mine.Faulted(state->FaultVector, state->FaultError, state->Cr2, state->Rip);
        string mine = state->FaultVector == ExceptionVector.InvalidOpcode ? $"went on at {state->Rip:x}" : _mine.Ending;
        if (theirs != mine || _strayRip != 0)
        {
            return _strayRip != 0 ? $"interrupted at {_strayRip:x}, where no instruction begins" : $"host: {theirs}; interpreter: {mine}";
        }

        var host = new ReadOnlySpan<ulong>(NativeRunner.Record + RecordLayout.GprOut, 16);
        for (int i = 0; i < 16; i++)
        {
            if (host[i] != state->Gpr[i])
            {
                return $"{RegisterNames.Gpr[i]}: host {host[i]:x}, interpreter {state->Gpr[i]:x}";
            }
        }

        ulong hostFlags = NativeRunner.Field(RecordLayout.FlagsOut);
        ulong flags = LazyFlags.Get(state);
        if (((hostFlags ^ flags) & Rflags.Defined & ~(faulted ? sequence.EverUndefined : sequence.Undefined)) != 0)
        {
            return $"flags: host {RegisterNames.Flags(hostFlags)}, interpreter {RegisterNames.Flags(flags)}, undefined {RegisterNames.Flags(sequence.Undefined)}";
        }

        if (sequence.HasVectors && VectorDifference() is { } difference)
        {
            return difference;
        }

        bool same = NativeRunner.Page(ArenaLayout.Data).SequenceEqual(_guest.Page(ArenaLayout.Data))
            && NativeRunner.Page(ArenaLayout.Data + 4096).SequenceEqual(_guest.Page(ArenaLayout.Data + 4096));
        return same ? null : "memory differs";
    }

    private string? VectorDifference()
    {
        var record = new ReadOnlySpan<byte>(NativeRunner.Record, ArenaLayout.PageSize);
        return FxComparison.Difference(record.Slice(RecordLayout.FxOut, 512), new ReadOnlySpan<byte>(_guest.State->FxArea, 512), trapped: false)
            ?? FxComparison.UpperDifference(record.Slice(RecordLayout.YmmOut, 256), new ReadOnlySpan<byte>(_guest.State->YmmHigh, 256));
    }

    private string Describe(Sequence sequence, string difference)
    {
        var text = new StringBuilder();
        text.AppendLine(difference).Append(sequence.Text);
        for (int i = 0; i < 16; i++)
        {
            text.Append(CultureInfo.InvariantCulture, $"{RegisterNames.Gpr[i]}={_gpr[i]:x} ");
        }

        return text.Append(RegisterNames.Flags(_flags)).ToString();
    }
}
