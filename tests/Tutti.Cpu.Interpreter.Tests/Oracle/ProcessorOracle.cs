using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using Iced.Intel;
using Tutti.X86;
using Xunit.Abstractions;

namespace Tutti.Cpu.Interpreter.Tests.Oracle;

/// <summary>Runs forms on the host's processor and in the interpreter and tells where they differ.</summary>
public sealed unsafe class ProcessorOracle : IDisposable
{
    private const int CasesPerEncoding = 25;
    private const int MessagesPerForm = 2;
    private readonly NativeRunner _native = new();
    private readonly GuestRunner _guest = new();
    private readonly CaseInput _input = new();
    private readonly Outcome _host = new();
    private readonly Outcome _mine = new();
    private readonly byte[][] _background = [.. ArenaLayout.WritablePages(32).Select(_ => new byte[ArenaLayout.PageSize])];
    private ulong[] _pages = [];

    /// <summary>Cases a form, from TUTTI_ORACLE_CASES.</summary>
    public static int Cases { get; } = FromEnvironment("TUTTI_ORACLE_CASES", 1000);

    /// <summary>Seed, from TUTTI_ORACLE_SEED.</summary>
    public static int Seed { get; } = FromEnvironment("TUTTI_ORACLE_SEED", 1);

    /// <summary>Forms whose bytes mean something else to a processor in its default state.</summary>
    public List<string> Unreachable { get; } = [];

    /// <summary>Cases run.</summary>
    public long CasesRun { get; private set; }

    public void Dispose()
    {
        _guest.Dispose();
        _native.Dispose();
    }

    /// <summary>Fails when a form of a mnemonic in a group does not do the same on both sides.</summary>
    internal void Check(string group, string mnemonic, int bits, ITestOutputHelper output)
    {
        List<string> divergences = [];
        foreach (Form form in FormTable.All(bits).Where(form => form.Group == group && form.Code.Mnemonic().ToString() == mnemonic))
        {
            if (HostFeatures.Missing(form.Code) is { } missing)
            {
                output.WriteLine($"not compared: {form.Code}: {missing}");
                continue;
            }

            if (Compare(form) is { Length: > 0 } divergence)
            {
                divergences.Add(divergence);
            }
        }

        output.WriteLine($"not compared, other meaning: {string.Join(' ', Unreachable)}");
        Assert.True(divergences.Count == 0, string.Join('\n', divergences));
    }

    /// <summary>Runs a form's cases; the answer is empty, or describes divergences.</summary>
    internal string Compare(Form form)
    {
        // 64-bit mode keeps the numbers of its cases.
        var random = new SeededRandom(((ulong)Seed << 32) + (ulong)form.Code + (form.Bits == 64 ? 0 : 1UL << 24));
        var encoder = new FormEncoder(random, form.Bits);
        var generator = new CaseGenerator(random, form.Bits);
        _pages = ArenaLayout.WritablePages(form.Bits);
        _guest.SetCodeSize(form.Bits);
        bool isVector = form.Group == FormTable.Vector;
        StringBuilder text = new();
        int divergences = 0;
        NativeRunner.ThreadState thread = _native.Enter();
        try
        {
            for (int done = 0; done < Cases; done += CasesPerEncoding)
            {
                EncodedForm? encoded = encoder.Encode(form.Code);
                if (encoded == null)
                {
                    Unreachable.Add(form.Code.ToString());
                    return string.Empty;
                }

                PutCode(encoded);
                FillBackground(random);
                for (int i = 0; i < CasesPerEncoding; i++)
                {
                    generator.Fill(_input, encoded, form.Group!);
                    RunNative(encoded, isVector);
                    bool ended = RunGuest(encoded, isVector);
                    CasesRun++;
                    string? difference = ended ? Difference(encoded, isVector) : "the interpreter does not come to an end";
                    if (difference != null && ++divergences <= MessagesPerForm)
                    {
                        text.AppendLine(Describe(encoded, difference, isVector));
                    }
                }
            }
        }
        finally
        {
            _native.Leave(thread);
        }

        return divergences == 0 ? string.Empty : $"{form.Code}: {divergences} of {Cases} cases differ\n{text}";
    }

    private static int FromEnvironment(string name, int otherwise) =>
        int.TryParse(Environment.GetEnvironmentVariable(name), NumberStyles.None, CultureInfo.InvariantCulture, out int value) ? value : otherwise;

    /// <summary>The instruction, a jump to the way out behind it and at each pad; UD2 in their place for the interpreter.</summary>
    private void PutCode(EncodedForm form)
    {
        form.Bytes.CopyTo(NativeRunner.Code[(int)(form.Address - ArenaLayout.Code)..]);
        _guest.WriteCode(form.Address, form.Bytes);
        for (int pad = 0; pad <= FormEncoder.PadOffsets.Length; pad++)
        {
            ulong at = PadAddress(form, pad);
            Span<byte> jump = NativeRunner.Code.Slice((int)(at - ArenaLayout.Code), 7);
            if (form.Bits == 64)
            {
                jump[0] = 0xE9;
                BinaryPrimitives.WriteInt32LittleEndian(jump[1..], (int)((long)_native.PadExit(pad) - (long)at - 5));
            }
            else
            {
                jump[0] = 0xEA;
                BinaryPrimitives.WriteUInt32LittleEndian(jump[1..], (uint)_native.PadExit(pad));
                BinaryPrimitives.WriteUInt16LittleEndian(jump[5..], Trampoline.LongCode);
            }

            _guest.WriteCode(at, [0x0F, 0x0B]);
        }
    }

    private static ulong PadAddress(EncodedForm form, int pad) => pad == 0
        ? form.Address + (ulong)form.Bytes.Length
        : (ulong)((long)form.Address + FormEncoder.PadOffsets[pad - 1]);

    private void FillBackground(SeededRandom random)
    {
        // Compares and scans want runs of equal elements.
        ulong mask = random.Below(4) switch { 0 => 0, 1 => 0x0101_0101_0101_0101, _ => ulong.MaxValue };
        foreach (byte[] page in _background.AsSpan(0, _pages.Length))
        {
            Span<ulong> values = MemoryMarshal.Cast<byte, ulong>(page.AsSpan());
            for (int i = 0; i < values.Length; i++)
            {
                values[i] = random.Next() & mask;
            }
        }
    }

    private void RunNative(EncodedForm form, bool isVector)
    {
        for (int i = 0; i < _pages.Length; i++)
        {
            _background[i].CopyTo(NativeRunner.Page(_pages[i]));
        }

        foreach ((ulong address, byte value) in _input.Pokes)
        {
            *(byte*)address = value;
        }

        _input.Gpr.CopyTo(new Span<ulong>(NativeRunner.Record + RecordLayout.GprIn, 16));
        NativeRunner.Field(RecordLayout.FlagsIn) = _input.Flags;
        NativeRunner.SetTarget(form.Address, form.Bits);
        NativeRunner.Field(RecordLayout.UseFx) = isVector ? 1UL : 0;
        if (isVector)
        {
            _input.Fx.CopyTo(new Span<byte>(NativeRunner.Record + RecordLayout.FxIn, 512));
            _input.Ymm.CopyTo(new Span<byte>(NativeRunner.Record + RecordLayout.YmmIn, 256));
            new Span<byte>(NativeRunner.Record + RecordLayout.YmmOut, 256).Clear();
        }

        _native.Run();
        new ReadOnlySpan<ulong>(NativeRunner.Record + RecordLayout.GprOut, 16).CopyTo(_host.Gpr);
        ClearUpperHalves(_host.Gpr, form.Bits);
        _host.Flags = NativeRunner.Field(RecordLayout.FlagsOut);
        int landing = (int)NativeRunner.Field(RecordLayout.Landing);
        if (landing == RecordLayout.FaultLanding)
        {
            _host.Faulted(
                (int)NativeRunner.Field(RecordLayout.FaultVector), NativeRunner.Field(RecordLayout.FaultError),
                NativeRunner.Field(RecordLayout.FaultAddress), NativeRunner.Field(RecordLayout.FaultRip));
        }
        else
        {
            _host.Landed(landing);
        }

        if (isVector)
        {
            new ReadOnlySpan<byte>(NativeRunner.Record + RecordLayout.FxOut, 512).CopyTo(_host.Fx);
            new ReadOnlySpan<byte>(NativeRunner.Record + RecordLayout.YmmOut, 256).CopyTo(_host.Ymm);
        }
    }

    private bool RunGuest(EncodedForm form, bool isVector)
    {
        for (int i = 0; i < _pages.Length; i++)
        {
            _background[i].CopyTo(_guest.Page(_pages[i]));
        }

        foreach ((ulong address, byte value) in _input.Pokes)
        {
            _guest.Page(address & ~0xFFFUL)[(int)(address & 0xFFF)] = value;
        }

        CpuState* state = _guest.State;
        _input.Gpr.CopyTo(new Span<ulong>(state->Gpr, 16));
        state->Flags = _input.Flags;
        state->FlagKind = FlagKind.Eager;
        state->Rip = form.Address;
        if (isVector)
        {
            _input.Fx.CopyTo(new Span<byte>(state->FxArea, 512));
            _input.Ymm.CopyTo(new Span<byte>(state->YmmHigh, 256));
        }

        bool ended = _guest.Run();
        new ReadOnlySpan<ulong>(state->Gpr, 16).CopyTo(_mine.Gpr);
        _mine.Flags = LazyFlags.Get(state);
        int pad = state->FaultVector == ExceptionVector.InvalidOpcode ? PadAt(form, state->Rip) : -1;
        if (pad >= 0)
        {
            _mine.Landed(pad);
        }
        else if (form.Instruction.Mnemonic == Mnemonic.Into && state->FaultVector == ExceptionVector.GeneralProtection
            && state->FaultError == ((ExceptionVector.Overflow << 3) | 2))
        {
            // The IDT is empty.
            _mine.Faulted(ExceptionVector.Overflow, 0, 0, form.Instruction.NextIP);
        }
        else
        {
            _mine.Faulted(state->FaultVector, state->FaultError, state->Cr2, state->Rip);
        }

        if (isVector)
        {
            new ReadOnlySpan<byte>(state->FxArea, 512).CopyTo(_mine.Fx);
            new ReadOnlySpan<byte>(state->YmmHigh, 256).CopyTo(_mine.Ymm);
        }

        return ended;
    }

    /// <summary>Compatibility mode leaves the upper halves undefined; 0 is what they were.</summary>
    private static void ClearUpperHalves(Span<ulong> gpr, int bits)
    {
        for (int i = 0; i < 8 && bits == 32; i++)
        {
            gpr[i] = (uint)gpr[i];
        }
    }

    private static int PadAt(EncodedForm form, ulong rip)
    {
        for (int pad = 0; pad <= FormEncoder.PadOffsets.Length; pad++)
        {
            if (PadAddress(form, pad) == rip)
            {
                return pad;
            }
        }

        return -1;
    }

    /// <summary>The first thing that differs, or null.</summary>
    private string? Difference(EncodedForm form, bool isVector)
    {
        bool isMaskedStore = form.Instruction.Mnemonic is Mnemonic.Maskmovdqu or Mnemonic.Maskmovq or Mnemonic.Vmaskmovdqu;
        if (isMaskedStore && _host.Vector >= 0)
        {
            // Whether bytes that are not stored fault, and what a fault leaves of the MMX state, is the processor's own affair.
            return null;
        }

        AllowForKernel();
        bool differsByMaker = MakerDifferences.Fault(form.Instruction, _host, _mine);
        if (_host.Ending != _mine.Ending && !differsByMaker)
        {
            return $"host: {_host.Ending}; interpreter: {_mine.Ending}";
        }

        if (UndefinedResults.Result(form.Instruction, _input))
        {
            return null;
        }

        // What POPA has popped when it faults is popped again, all but ESP.
        bool isHalfDone = _host.Vector >= 0 && form.Instruction.Mnemonic is (Mnemonic.Popa or Mnemonic.Popad);
        for (int i = 0; i < 16; i++)
        {
            if (((_host.Gpr[i] ^ _mine.Gpr[i]) & MakerDifferences.Compared(form.Instruction, i)) != 0 && (!isHalfDone || i is 4 or > 7))
            {
                return $"{RegisterNames.Gpr[i]}: host {_host.Gpr[i]:x}, interpreter {_mine.Gpr[i]:x}";
            }
        }

        ulong undefined = _host.Vector < 0 ? UndefinedResults.Flags(form.Instruction, _input) : 0;
        if (((_host.Flags ^ _mine.Flags) & Rflags.Defined & ~undefined) != 0 && !MakerDifferences.Flags(form.Instruction, _host.Vector))
        {
            return $"flags: host {RegisterNames.Flags(_host.Flags)}, interpreter {RegisterNames.Flags(_mine.Flags)}, undefined {RegisterNames.Flags(undefined)}";
        }

        string? vectors = isVector && !MakerDifferences.Vectors(form.Instruction, _host.Vector)
            ? FxComparison.Difference(_host.Fx, _mine.Fx, _host.Vector == ExceptionVector.SimdFloatingPoint)
                ?? FxComparison.UpperDifference(_host.Ymm, _mine.Ymm)
            : null;
        return vectors ?? MemoryDifference();
    }

    /// <summary>Linux lets every page of its half look present to user code.</summary>
    private void AllowForKernel()
    {
        if (_host.Vector == ExceptionVector.PageFault && _mine.Vector == ExceptionVector.PageFault && (long)_host.FaultAddress < 0)
        {
            _mine.Error |= PageFaultError.Present;
        }
    }

    private string? MemoryDifference()
    {
        foreach (ulong page in _pages)
        {
            ReadOnlySpan<byte> host = NativeRunner.Page(page);
            ReadOnlySpan<byte> mine = _guest.Page(page);
            int same = host.CommonPrefixLength(mine);
            if (same < host.Length)
            {
                return $"memory at {page + (ulong)same:x}: host {Convert.ToHexString(host.Slice(same, Math.Min(16, host.Length - same)))},"
                    + $" interpreter {Convert.ToHexString(mine.Slice(same, Math.Min(16, host.Length - same)))}";
            }
        }

        return _guest.Page(ArenaLayout.ReadOnly).ContainsAnyExcept((byte)0x5A) ? "the interpreter wrote to a read-only page" : null;
    }

    private string Describe(EncodedForm form, string difference, bool isVector) =>
        $"  {Convert.ToHexString(form.Bytes)} at {form.Address:x}: {form.Instruction}\n    {difference}\n    in: {_input.Describe(isVector)}";
}
