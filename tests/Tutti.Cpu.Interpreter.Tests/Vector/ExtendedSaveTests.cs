using Iced.Intel;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.Vector;

/// <summary>XSAVE, XSAVEOPT and XRSTOR with the upper halves of the YMM registers, against the host's own.</summary>
public sealed unsafe class ExtendedSaveTests
{
    private const int Size = 832;
    private const int Header = 512;
    private static readonly MemoryOperand Area = new(Register.RBX);

    /// <summary>x87 pointers, which are the guest's, and MXCSR_MASK, of which AMD has a bit more.</summary>
    private static readonly (int Start, int End)[] Ignored = [(6, 24), (28, 32)];

    [AvxFact]
    public void SavedAreasAreTheHosts()
    {
        using BareCpu ours = NewCpu();
        using BareCpu host = NewCpu();
        using var native = new NativeRun(BareCpu.Decode(Instruction.Create(Code.Xsave64_mem, Area)));
        var random = new Random(11);
        byte[] before = new byte[Size];
        byte[] saved = new byte[Size];
        for (int i = 0; i < 2000; i++)
        {
            FillAll(ours, random);
            Ask(ours, (ulong)random.Next(8));
            Copy(ours, host);
            random.NextBytes(before);
            before.AsSpan(Header, 64).Clear();
            before[Header] = (byte)random.Next(8);
            before.CopyTo(new Span<byte>(ours.Memory, Size));
            Assert.Equal(-1, ours.Run(Instruction.Create(Code.Xsave64_mem, Area)));
            new ReadOnlySpan<byte>(ours.Memory, Size).CopyTo(saved);
            before.CopyTo(new Span<byte>(ours.Memory, Size));
            native.Run(host.State);
            if (new ReadOnlySpan<byte>(ours.State->YmmHigh, 256).IndexOfAnyExcept((byte)0) < 0)
            {
                // A processor may count zeros that were loaded as in use.
                Assert.Equal(0, saved[Header] & 4 & (int)ours.State->Gpr[0]);
                saved[Header] |= (byte)(ours.Memory[Header] & 4);
            }

            AssertSame(new ReadOnlySpan<byte>(ours.Memory, Size), saved, $"case {i}, components {ours.State->Gpr[0]}");
        }
    }

    [AvxFact]
    public void RestoredStateIsTheHosts()
    {
        using BareCpu ours = NewCpu();
        using BareCpu host = NewCpu();
        using BareCpu image = NewCpu();
        using var native = new NativeRun(BareCpu.Decode(Instruction.Create(Code.Xrstor64_mem, Area)));
        var random = new Random(12);
        for (int i = 0; i < 2000; i++)
        {
            // An area to restore, then a state to restore into.
            FillAll(image, random);
            new ReadOnlySpan<byte>(image.State->FxArea, 512).CopyTo(new Span<byte>(ours.Memory, 512));
            new Span<byte>(ours.Memory + Header, 64).Clear();
            ours.Memory[Header] = (byte)random.Next(8);
            new ReadOnlySpan<byte>(image.State->YmmHigh, 256).CopyTo(new Span<byte>(ours.Memory + 576, 256));
            byte[] area = new ReadOnlySpan<byte>(ours.Memory, Size).ToArray();
            FillAll(ours, random);
            area.CopyTo(new Span<byte>(ours.Memory, Size));
            Ask(ours, (ulong)random.Next(8));
            Copy(ours, host);
            Assert.Equal(-1, ours.Run(Instruction.Create(Code.Xrstor64_mem, Area)));
            native.Run(host.State);
            string what = $"case {i}, components {ours.State->Gpr[0]} of {area[Header]}";
            AssertSame(new ReadOnlySpan<byte>(host.State->FxArea, 416), new ReadOnlySpan<byte>(ours.State->FxArea, 416), what);
            AssertSame(new ReadOnlySpan<byte>(host.State->YmmHigh, 256), new ReadOnlySpan<byte>(ours.State->YmmHigh, 256), what, all: true);
        }
    }

    /// <summary>XSAVEOPT writes nothing of a component in its initial state, but says so.</summary>
    [AvxFact]
    public void InitialUpperHalvesAreNotWrittenByXsaveopt()
    {
        using BareCpu cpu = NewCpu();
        Ask(cpu, 7);
        foreach (bool used in (bool[])[false, true])
        {
            new Span<byte>(cpu.Memory, Size).Fill(0xA5);
            new Span<byte>(cpu.Memory + Header, 64).Clear();
            cpu.Memory[Header] = 4;
            *CpuState.YmmHighOf(cpu.State, 15) = used ? (byte)1 : (byte)0;
            Assert.Equal(-1, cpu.Run(Instruction.Create(Code.Xsaveopt64_mem, Area)));
            Assert.Equal(used ? 7 : 3, cpu.Memory[Header]);
            Assert.Equal(used, cpu.Memory[576] != 0xA5);
        }
    }

    [AvxFact]
    public void AnAreaThatReachesIntoANotPresentPageFaultsOnlyForWhatIsUsed()
    {
        using BareCpu cpu = NewCpu();
        using var guest = new Oracle.GuestRunner();
        ulong end = Oracle.ArenaLayout.Data + (2 * Oracle.ArenaLayout.PageSize);
        CpuState* state = guest.State;
        state->Gpr[3] = end - 576;
        state->Gpr[2] = 0;
        foreach ((ulong asked, byte used, Code code, int vector) in ((ulong, byte, Code, int)[])
            [(3, 1, Code.Xsave64_mem, -1), (7, 1, Code.Xsave64_mem, 14), (7, 0, Code.Xsave64_mem, 14), (7, 0, Code.Xsaveopt64_mem, -1),
                (7, 1, Code.Xsaveopt64_mem, 14)])
        {
            guest.Page(Oracle.ArenaLayout.Data + Oracle.ArenaLayout.PageSize).Clear();
            *CpuState.YmmHighOf(state, 3) = used;
            state->Gpr[0] = asked;
            Assert.Equal(vector, Run(guest, Instruction.Create(code, Area)));
            Assert.Equal(vector >= 0, guest.Page(Oracle.ArenaLayout.Data + Oracle.ArenaLayout.PageSize)[4096 - 64] == 0);
        }

        // Now XRSTOR: XSTATE_BV says whether there is something behind the header.
        Span<byte> header = guest.Page(Oracle.ArenaLayout.Data + Oracle.ArenaLayout.PageSize)[^64..];
        state->Gpr[0] = 7;
        header.Clear();
        header[0] = 4;
        Assert.Equal(14, Run(guest, Instruction.Create(Code.Xrstor64_mem, Area)));
        Assert.Equal(1, *CpuState.YmmHighOf(state, 3));
        Assert.Equal(end, state->Cr2);
        header[0] = 3;
        guest.Page(Oracle.ArenaLayout.Data + Oracle.ArenaLayout.PageSize)[4096 - 576 + 27] = 0;
        Assert.Equal(-1, Run(guest, Instruction.Create(Code.Xrstor64_mem, Area)));
        Assert.Equal(0, *CpuState.YmmHighOf(state, 3));
    }

    [AvxFact]
    public void Outside64BitModeOnlyEightRegistersAreSavedAndRestored()
    {
        using BareCpu cpu = NewCpu();
        Op* save = stackalloc Op[2];
        Op* restore = stackalloc Op[2];
        cpu.TryTranslate(BareCpu.Decode(Instruction.Create(Code.Xsave_mem, Area)), save);
        cpu.TryTranslate(BareCpu.Decode(Instruction.Create(Code.Xrstor_mem, Area)), restore);
        new Span<byte>(cpu.State->YmmHigh, 256).Fill(0x33);
        new Span<byte>(cpu.Memory, Size).Clear();
        Ask(cpu, 7);

        // 32-bit code, but for addresses, which have to reach the host's memory.
        cpu.State->Mode = CodeMode.Bits32 | CodeMode.Protected | CodeMode.LongMode;
        cpu.State->Ds = new Segment { Base = (ulong)cpu.Memory, Limit = uint.MaxValue, Attributes = 0xC93 };
        ulong low = (ulong)cpu.Memory & uint.MaxValue;
        if (low != (ulong)cpu.Memory)
        {
            // The TLB is asked with what 32-bit addresses can say.
            TlbEntry* entry = cpu.State->Tlb + ((low >> 12) & (TlbEntry.Count - 1));
            *entry = new TlbEntry { ReadTag = low & ~0xFFFUL, WriteTag = low & ~0xFFFUL, Addend = (long)((ulong)cpu.Memory - low) };
        }

        cpu.State->Ds.Base = low;
        cpu.State->Gpr[3] = 0;
        save->AddressSize = restore->AddressSize = 4;
        Assert.Equal(-1, cpu.Run(save));
        Assert.True(new ReadOnlySpan<byte>(cpu.Memory + 576, 128).IndexOfAnyExcept((byte)0x33) < 0);
        Assert.True(new ReadOnlySpan<byte>(cpu.Memory + 576 + 128, 128).IndexOfAnyExcept((byte)0) < 0);
        new Span<byte>(cpu.Memory + 576, 256).Fill(0x44);
        Assert.Equal(-1, cpu.Run(restore));
        Assert.True(new ReadOnlySpan<byte>(cpu.State->YmmHigh, 128).IndexOfAnyExcept((byte)0x44) < 0);
        Assert.True(new ReadOnlySpan<byte>(cpu.State->YmmHigh + 128, 128).IndexOfAnyExcept((byte)0x33) < 0);
    }

    private static int Run(Oracle.GuestRunner guest, in Instruction instruction)
    {
        Op* op = stackalloc Op[2];
        *op = default;
        Instruction decoded = BareCpu.Decode(instruction);
        var context = new TranslationContext { Mode = guest.State->Mode, BlockRip = decoded.IP };
        op->Length = (byte)decoded.Length;
        op->Count = 1;
        InstructionTranslator.Translate(decoded, op, ref context);
        guest.State->Rip = decoded.IP;
        guest.State->FaultVector = -1;
        op->Handler(guest.State, op);
        return guest.State->FaultVector;
    }

    private static void AssertSame(ReadOnlySpan<byte> host, ReadOnlySpan<byte> ours, string what, bool all = false)
    {
        for (int at = 0; at < host.Length; at++)
        {
            if (host[at] != ours[at] && (all || !Array.Exists(Ignored, range => at >= range.Start && at < range.End)))
            {
                Assert.Fail($"{what}: byte {at}: host {host[at]:X2}, ours {ours[at]:X2}");
            }
        }
    }

    private static void FillAll(BareCpu cpu, Random random)
    {
        Values.Fill(cpu, random);
        bool initial = random.Next(3) == 0;
        Span<byte> halves = new(cpu.State->YmmHigh, 256);
        random.NextBytes(halves);
        if (initial)
        {
            halves.Clear();
        }
    }

    private static void Ask(BareCpu cpu, ulong components)
    {
        cpu.State->Gpr[0] = components;
        cpu.State->Gpr[2] = 0;
        cpu.State->Gpr[3] = (ulong)cpu.Memory;
    }

    private static void Copy(BareCpu from, BareCpu to)
    {
        new ReadOnlySpan<byte>(from.State->Gpr, 128).CopyTo(new Span<byte>(to.State->Gpr, 128));
        new ReadOnlySpan<byte>(from.State->FxArea, 512).CopyTo(new Span<byte>(to.State->FxArea, 512));
        new ReadOnlySpan<byte>(from.State->YmmHigh, 256).CopyTo(new Span<byte>(to.State->YmmHigh, 256));
        to.State->Flags = from.State->Flags;
    }

    private static BareCpu NewCpu()
    {
        var cpu = new BareCpu();
        cpu.State->Xcr0 = XsaveLayout.Supported;
        return cpu;
    }
}
