using System.Runtime.InteropServices;
using Iced.Intel;

namespace Tutti.Cpu.Interpreter.Tests.Vector;

/// <summary>Every form against the host's own processor. TUTTI_ORACLE_CASES sets how many cases each form gets.</summary>
public sealed unsafe class VectorOracleTests
{
    /// <summary>FOP, FIP and FDP belong to the guest, MXCSR_MASK is fixed by FXSAVE.</summary>
    private static readonly (int Start, int Length)[] Ignored = [(6, 18), (28, 4)];

    private static readonly int Cases =
        int.TryParse(Environment.GetEnvironmentVariable("TUTTI_ORACLE_CASES"), out int cases) ? cases : 1000;

    public static TheoryData<string, bool> AllForms()
    {
        var data = new TheoryData<string, bool>();
        foreach (Code code in Forms.All())
        {
            foreach (bool memory in (bool[])[false, true])
            {
                // A prefetch is decoded as one of the NOPs among which it is: EncodingSweepTests.
                bool isPrefetch = code is Code.Prefetchnta_m8 or Code.Prefetcht0_m8 or Code.Prefetcht1_m8 or Code.Prefetcht2_m8;
                if (!isPrefetch && Forms.TryMake(code, memory, new Random(1), out _))
                {
                    data.Add(code.ToString(), memory);
                }
            }
        }

        return data;
    }

    [Fact]
    public void TableCoversTheOfferedExtensions() => Assert.InRange(AllForms().Count, 700, 1500);

    [Theory]
    [MemberData(nameof(AllForms))]
    public void FormMatchesTheHost(string name, bool memory)
    {
        Code code = Enum.Parse<Code>(name);
        using var ours = new BareCpu();
        using var host = new BareCpu();
        CpuState* start = stackalloc CpuState[1];
        byte[] memoryBefore = new byte[Values.WindowSize];
        byte[] memoryAfter = new byte[Values.WindowSize];
        byte* window = ours.Memory + Values.WindowStart;
        Op* op = stackalloc Op[2];
        var random = new Random(code.GetHashCode() * 2 + (memory ? 1 : 0));
        const int PerInstance = 50;
        for (int instance = 0; instance < Math.Max(1, Cases / PerInstance); instance++)
        {
            Assert.True(Forms.TryMake(code, memory, random, out Instruction made));
            Instruction instruction = BareCpu.Decode(made);
            Assert.Equal(code, instruction.Code);
            Assert.True(ours.TryTranslate(instruction, op), $"{instruction} is not offered.");
            using var native = new NativeRun(instruction);
            for (int i = 0; i < PerInstance; i++)
            {
                Values.Fill(ours, random);
                new ReadOnlySpan<byte>(window, Values.WindowSize).CopyTo(memoryBefore);
                NativeMemory.Copy(ours.State, start, (nuint)sizeof(CpuState));
                NativeMemory.Copy(ours.State->Gpr, host.State->Gpr, 128);
                NativeMemory.Copy(ours.State->FxArea, host.State->FxArea, 512);
                host.State->Flags = ours.State->Flags;

                int fault = ours.Run(op);
                new ReadOnlySpan<byte>(window, Values.WindowSize).CopyTo(memoryAfter);
                memoryBefore.CopyTo(new Span<byte>(window, Values.WindowSize));
                native.Run(host.State);

                string what = $"{instruction}, case {instance * PerInstance + i}";
                Assert.True(fault == -1, $"{what}: fault {fault}");
                AssertSame(host.State, ours.State, start, instruction, what);
                Assert.True(memoryAfter.AsSpan().SequenceEqual(new ReadOnlySpan<byte>(window, Values.WindowSize)), $"{what}: memory");
            }
        }

        AssertUntouched(ours);
    }

    /// <summary>Everything but the window must still be as the constructor left it.</summary>
    private static void AssertUntouched(BareCpu cpu)
    {
        const int End = Values.WindowStart + Values.WindowSize;
        Assert.True(new ReadOnlySpan<byte>(cpu.Memory, Values.WindowStart).IndexOfAnyExcept((byte)0) < 0);
        Assert.True(new ReadOnlySpan<byte>(cpu.Memory + End, BareCpu.MemorySize - End).IndexOfAnyExcept((byte)0) < 0);
    }

    private static void AssertSame(CpuState* expected, CpuState* actual, CpuState* start, in Instruction instruction, string what)
    {
        for (int i = 0; i < 16; i++)
        {
            Assert.True(i == 4 || expected->Gpr[i] == actual->Gpr[i], $"{what}: register {i} {actual->Gpr[i]:X}, host {expected->Gpr[i]:X}");
        }

        ulong compared = 0x8D5 & ~FlagsOf(instruction.RflagsUndefined);
        ulong flags = LazyFlags.Get(actual);
        Assert.True(((flags ^ expected->Flags) & compared) == 0, $"{what}: flags {flags:X}, host {expected->Flags:X}, compared {compared:X}");
        for (int i = 0; i < 416; i++)
        {
            if (expected->FxArea[i] != actual->FxArea[i] && !IsIgnored(i))
            {
                Assert.Fail($"{what}: byte {i} of the FXSAVE area\nbefore {Show(start->FxArea, i)}\nours   {Show(actual->FxArea, i)}\nhost   {Show(expected->FxArea, i)}");
            }
        }
    }

    private static bool IsIgnored(int index) => Array.Exists(Ignored, range => index >= range.Start && index < range.Start + range.Length);

    private static string Show(byte* area, int index) =>
        $"{Convert.ToHexString(new ReadOnlySpan<byte>(area + (index & ~15), 16))} (CW {*(ushort*)area:X}, SW {*(ushort*)(area + 2):X}, tags {area[4]:X}, MXCSR {*(uint*)(area + 24):X})";

    private static ulong FlagsOf(RflagsBits bits) =>
        ((bits & RflagsBits.CF) != 0 ? 1UL : 0) | ((bits & RflagsBits.PF) != 0 ? 4UL : 0) | ((bits & RflagsBits.AF) != 0 ? 0x10UL : 0)
        | ((bits & RflagsBits.ZF) != 0 ? 0x40UL : 0) | ((bits & RflagsBits.SF) != 0 ? 0x80UL : 0) | ((bits & RflagsBits.OF) != 0 ? 0x800UL : 0);
}
