using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using Tutti.Cpu;
using Tutti.Cpu.Interpreter.Tests.Oracle;
using Tutti.Engines.Compare.Guests;
using Tutti.X86;

namespace Tutti.Engines.Compare.Streams;

/// <summary>Runs random streams of one mode on two engines, on the same two machines all the time.</summary>
internal sealed class StreamComparer : IDisposable
{
    /// <summary>How often each stream runs, with other registers and memory.</summary>
    public const int RunsPerStream = 3;

    private const int Backgrounds = 8;
    private const string CameToEnd = "came to its end";

    private readonly StreamArena _arena;
    private readonly StreamGenerator _generator;
    private readonly GuestMachine _first;
    private readonly GuestMachine _second;
    private readonly EndState _firstEnd = new();
    private readonly EndState _secondEnd = new();
    private readonly ProcessorRegisters _start;
    private readonly byte[][][] _backgrounds;
    private readonly ulong _seed;

    /// <exception cref="PlatformNotSupportedException">This host can't run one of the engines.</exception>
    public StreamComparer(IEngine first, IEngine second, StreamMode mode, ulong seed)
    {
        Mode = mode;
        _seed = seed;
        _arena = new StreamArena(mode);
        _generator = new StreamGenerator(_arena);
        _first = new GuestMachine(first, StreamArena.RamSize);
        try
        {
            _second = new GuestMachine(second, StreamArena.RamSize);
        }
        catch
        {
            _first.Dispose();
            throw;
        }

        _start = _arena.Prepare(_first.Memory);
        _arena.Prepare(_second.Memory);
        var random = new SeededRandom(seed ^ 0xBAC6);
        _backgrounds = [.. Enumerable.Range(0, Backgrounds).Select(i => MakeBackground(random, i))];
    }

    public StreamMode Mode { get; }

    /// <summary>Runs done; each on both engines.</summary>
    public long Runs { get; private set; }

    /// <summary>Runs that went to the stream's end; others met an exception.</summary>
    public long Completed { get; private set; }

    /// <summary>Instructions in all streams made.</summary>
    public long Instructions { get; private set; }

    /// <summary>Makes stream <paramref name="number"/> of the seed, runs it, and tells where the engines differ.</summary>
    public IEnumerable<CaseResult> Compare(int number)
    {
        var random = new SeededRandom((_seed << 20) + ((ulong)Mode << 60) + (ulong)number + 1);
        InstructionStream stream = _generator.Make(random);
        Instructions += stream.UndefinedFlags.Count - 1;
        Put(_first, stream);
        Put(_second, stream);
        List<CaseResult> found = [];
        for (int run = 0; run < RunsPerStream; run++)
        {
            SetRegisters(random, stream);
            byte[][] background = random.Pick(_backgrounds);
            uint rounds = (uint)random.Between(1, 4);
            Run(_first, _firstEnd, background, rounds);
            Run(_second, _secondEnd, background, rounds);
            Runs++;
            List<Difference> differences = Differences(stream);
            if (differences.Count > 0)
            {
                string name = string.Create(CultureInfo.InvariantCulture, $"{Mode.ToString().ToLowerInvariant()} seed {_seed} stream {number} run {run}");
                found.Add(new CaseResult(name, $"{Describe(stream)}\n    {HowItEnded(_second, _secondEnd, stream)}", Mode.ToString(), differences));
            }
        }

        return found;
    }

    public void Dispose()
    {
        _first.Dispose();
        _second.Dispose();
    }

    private byte[][] MakeBackground(SeededRandom random, int index)
    {
        // Compares and scans want runs of equal elements, vectors want numbers.
        ulong mask = index switch { 0 => 0, 1 => 0x0101_0101_0101_0101, _ => ulong.MaxValue };
        byte[][] ranges = [.. _arena.Writable.Select(range => new byte[range.Length])];
        foreach (byte[] range in ranges)
        {
            foreach (ref ulong value in MemoryMarshal.Cast<byte, ulong>(range.AsSpan()))
            {
                value = (index < 5 ? random.Value() : random.VectorValue()) & mask;
            }
        }

        return ranges;
    }

    private void Put(GuestMachine machine, InstructionStream stream) =>
        machine.Memory.TryWrite(_arena.CodePhysical(stream.Address), stream.Bytes);

    private void SetRegisters(SeededRandom random, InstructionStream stream)
    {
        ProcessorRegisters r = _start;
        for (int i = 0; i < 16; i++)
        {
            r.Gpr[i] = _arena.Bits == 64 ? random.Value() : i < 8 ? (uint)random.Value() : 0;
        }

        r.Gpr[4] = _arena.Stack + (StreamArena.AreaSize / 2) + (ulong)random.Between(-0x20, 0x20);
        r.Rip = stream.Address;
        ulong interrupt = r.Rflags & Rflags.Interrupt;
        r.Rflags = Rflags.AlwaysOne | interrupt | (random.Next() & Rflags.Arithmetic) | (random.Percent(15) ? Rflags.Direction : 0);
        Span<byte> fx = r.FxState;
        for (int i = 0; i < 32; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(fx[(160 + (8 * i))..], random.VectorValue());
        }

        for (int i = 0; i < 8; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(fx[(32 + (16 * i))..], random.VectorValue() | (1UL << 63));
            BinaryPrimitives.WriteUInt16LittleEndian(fx[(40 + (16 * i))..], (ushort)random.Between(0x3FF0, 0x4010));
        }

        fx[4] = random.Percent(50) ? (byte)0 : (byte)random.Next();
        uint mxcsr = 0x1F80 | (random.Percent(30) ? (uint)random.Next() & 0xE03F : 0);
        BinaryPrimitives.WriteUInt32LittleEndian(fx[24..], random.Percent(90) ? mxcsr : mxcsr & (uint)random.Next());
    }

    private void Run(GuestMachine machine, EndState end, byte[][] background, uint rounds)
    {
        for (int i = 0; i < background.Length; i++)
        {
            machine.Memory.TryWrite(_arena.Writable[i].Address, background[i]);
        }

        machine.Memory.TryWrite(_arena.CounterPhysical, rounds);
        machine.Run(_start, end);
    }

    private List<Difference> Differences(InstructionStream stream)
    {
        ulong undefined = MaskFrame(_first, _firstEnd, stream) | MaskFrame(_second, _secondEnd, stream);
        List<Difference> found = [];
        string firstEnd = HowItEnded(_first, _firstEnd, stream);
        string secondEnd = HowItEnded(_second, _secondEnd, stream);
        if (firstEnd != secondEnd)
        {
            found.Add(new Difference("end", firstEnd, secondEnd));
        }

        StateComparison.Compare(_firstEnd, _secondEnd, undefined, found);
        foreach ((ulong address, int length) in _arena.Writable)
        {
            StateComparison.CompareMemory(_first.Memory, _second.Memory, address, length, found);
        }

        CompareFrames(found);
        Completed += firstEnd == CameToEnd ? 1 : 0;
        return found;
    }

    /// <summary>The exception whose stub the run ended in; null where it ended otherwise.</summary>
    private int? VectorOf(EndState end)
    {
        ProcessorRegisters r = end.Registers;
        ulong at = (_arena.Bits == 16 ? r.Segments[1].Base : 0) + r.Rip - GuestBuilder.Stubs;
        return at < 256 * GuestBuilder.StubSize ? (int)(at / GuestBuilder.StubSize) : null;
    }

    /// <summary>
    /// Which flags are undefined at the end. After an exception the image of the flags in the frame has them too: they are taken out
    /// of it here.
    /// </summary>
    private ulong MaskFrame(GuestMachine machine, EndState end, InstructionStream stream)
    {
        ProcessorRegisters r = end.Registers;
        if (VectorOf(end) is not { } vector)
        {
            return stream.UndefinedAt(stream.End);
        }

        int slot = _arena.Bits / 8;
        ulong frame = r.Gpr[4] + (ulong)(HasErrorCode(machine, vector, r.Gpr[4]) ? slot : 0);
        ulong rip = Read(machine, frame, slot);
        ulong undefined = stream.UndefinedAt(rip);
        ulong at = _arena.StackPhysical(frame + (ulong)(2 * slot));
        if (machine.Memory.TryGetSpan(at, 2, out Span<byte> flags))
        {
            ushort value = BinaryPrimitives.ReadUInt16LittleEndian(flags);
            BinaryPrimitives.WriteUInt16LittleEndian(flags, (ushort)(value & ~undefined));
        }

        return undefined;
    }

    /// <summary>Whether the frame begins with an error code; that of INT n does not, and has CS in its second place.</summary>
    private bool HasErrorCode(GuestMachine machine, int vector, ulong stack)
    {
        int slot = _arena.Bits / 8;
        return _arena.Bits != 16 && ExceptionVector.HasErrorCode(vector)
            && Read(machine, stack + (ulong)slot, slot) is not (GuestBuilder.KernelCode or GuestBuilder.UserCode64);
    }

    private string HowItEnded(GuestMachine machine, EndState end, InstructionStream stream)
    {
        ulong stack = end.Registers.Gpr[4];
        if (VectorOf(end) is not { } vector)
        {
            return end.Ending == Ending.Exit && end.Registers.Rip == stream.End + 2 ? CameToEnd : $"{end.Ending}";
        }

        int slot = _arena.Bits / 8;
        bool hasErrorCode = HasErrorCode(machine, vector, stack);
        ulong rip = Read(machine, stack + (ulong)(hasErrorCode ? slot : 0), slot);
        if (Mode == StreamMode.Ring3 && vector == ExceptionVector.InvalidOpcode && rip == stream.End)
        {
            return CameToEnd;
        }

        string error = hasErrorCode ? string.Create(CultureInfo.InvariantCulture, $" error {Read(machine, stack, slot):x}") : string.Empty;
        return string.Create(CultureInfo.InvariantCulture, $"exception {vector}{error} at {rip:x}");
    }

    private ulong Read(GuestMachine machine, ulong offset, int size)
    {
        ulong at = _arena.StackPhysical(offset);
        Span<byte> bytes = stackalloc byte[8];
        return machine.Memory.TryRead(at, bytes[..size]) ? BinaryPrimitives.ReadUInt64LittleEndian(bytes) : 0;
    }

    /// <summary>In 64-bit modes frames lie on a stack of their own.</summary>
    private void CompareFrames(List<Difference> found)
    {
        if (_arena.Bits == 64 && VectorOf(_firstEnd) != null)
        {
            ulong from = Math.Min(_firstEnd.Registers.Gpr[4], _secondEnd.Registers.Gpr[4]) & ~7UL;
            if (from is > StreamArena.ExceptionStack - 256 and < StreamArena.ExceptionStack)
            {
                StateComparison.CompareMemory(_first.Memory, _second.Memory, from, (int)(StreamArena.ExceptionStack - from), found);
            }
        }
    }

    private string Describe(InstructionStream stream)
    {
        var text = new StringBuilder(stream.Text);
        for (int i = 0; i < (_arena.Bits == 64 ? 16 : 8); i++)
        {
            text.Append(CultureInfo.InvariantCulture, $"{(i == 0 ? "    " : " ")}{i:x}={_start.Gpr[i]:x}");
        }

        return text.Append(CultureInfo.InvariantCulture, $" rflags={_start.Rflags:x}").ToString();
    }
}
