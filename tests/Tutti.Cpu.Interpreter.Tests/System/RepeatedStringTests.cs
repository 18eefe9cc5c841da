using Tutti.Cpu;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Interpreter.Tests.System;

/// <summary>Repeated string instructions go a page at a time in every mode, and end where a processor ends them.</summary>
public sealed class RepeatedStringTests
{
    private const ulong Source = 0x8_0000;
    private const int Pages = 16;

    /// <summary>Linear addresses that share the TLB's entries with those 4 MiB below.</summary>
    private const ulong Far = 0x40_0000;

    private const ulong FarTable = 0x11_0000;
    private const ulong FarPhysical = 0x20_0000;

    /// <summary>MOVS, CMPS, SCAS, STOS and LODS of doublewords, upwards and downwards.</summary>
    [Theory]
    [InlineData(0xA5, false)]
    [InlineData(0xA5, true)]
    [InlineData(0xA7, false)]
    [InlineData(0xA7, true)]
    [InlineData(0xAF, false)]
    [InlineData(0xAF, true)]
    [InlineData(0xAB, false)]
    [InlineData(0xAB, true)]
    [InlineData(0xAD, false)]
    [InlineData(0xAD, true)]
    public void AddressesOf32BitsTakeAPageWalkAPageNotAnElement(byte opcode, bool down)
    {
        using TestMachine machine = TestMachine.Long();
        ulong rights = PageTableEntry.Present | PageTableEntry.Writable | PageTableEntry.User;
        machine.Write(TestMachine.PageTables + 0x2000 + (8 * (Far >> 21)), FarTable | rights);
        for (ulong page = 0; page < 512; page++)
        {
            machine.Write(FarTable + (page * 8), (FarPhysical + (page << 12)) | rights);
        }

        bool isCompared = opcode is 0xA7 or 0xAF;
        for (ulong i = 0; i < Pages * 4096; i += 4)
        {
            machine.Write(Source + i, isCompared ? 0x77u : 0x77 + (uint)i);
            machine.Write(FarPhysical + Source + i, isCompared ? 0x77u : 0u);
        }

        const int Count = Pages * 1024;
        ulong start = down ? (Count - 1) * 4UL : 0;
        machine.Registers.Gpr[0] = 0x77;
        machine.Registers.Gpr[1] = Count;
        machine.Registers.Gpr[6] = Source + start;
        machine.Registers.Gpr[7] = Far + Source + start;
        machine.Registers.Rflags |= down ? Rflags.Direction : 0;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [0x67, 0xF3, opcode, 0xE6, TestMachine.ExitPort, 0xF4]);
        long before = machine.Cpu.Walker.Count;
        machine.RunToExit();

        Assert.InRange(machine.Cpu.Walker.Count - before, 1, 200);
        Assert.Equal(0UL, machine.Registers.Gpr[1]);
        ulong moved = down ? unchecked((ulong)(-4L * Count)) : 4UL * Count;
        bool movesSource = opcode is 0xA5 or 0xA7 or 0xAD;
        bool movesTarget = opcode != 0xAD;
        Assert.Equal(Source + start + (movesSource ? moved : 0), machine.Registers.Gpr[6]);
        Assert.Equal(Far + Source + start + (movesTarget ? moved : 0), machine.Registers.Gpr[7]);
        for (ulong i = 0; i < Pages * 4096 && opcode is 0xA5 or 0xAB; i += 4)
        {
            Assert.Equal(opcode == 0xA5 ? 0x77 + (uint)i : 0x77u, machine.Read<uint>(FarPhysical + Source + i));
        }

        Assert.Equal(opcode != 0xAD ? 0x77u : 0x77 + (uint)(down ? 0 : 4 * (Count - 1)), (uint)machine.Registers.Gpr[0]);
    }

    /// <summary>INS and OUTS of doublewords, upwards and downwards, with addresses of 32 and 64 bits.</summary>
    [Theory]
    [InlineData(true, false, 4)]
    [InlineData(true, true, 4)]
    [InlineData(true, false, 8)]
    [InlineData(false, false, 4)]
    [InlineData(false, true, 4)]
    [InlineData(false, false, 8)]
    public void PortsTakeAPageWalkAPageNotAnElement(bool input, bool down, int addressSize)
    {
        const int Count = Pages * 1024;
        const ushort Port = 0x1F0;
        using TestMachine machine = TestMachine.Long();
        for (uint i = 0; i < Count; i++)
        {
            machine.Write(Source + (4 * i), i);
        }

        uint given = 0x9000_0000;
        machine.PortRead = port => port == Port ? given++ : 0;
        ulong start = Source + (down ? (Count - 1) * 4UL : 0);
        machine.Registers.Gpr[1] = Count;
        machine.Registers.Gpr[2] = Port;
        machine.Registers.Gpr[6] = machine.Registers.Gpr[7] = start;
        machine.Registers.Rflags |= down ? Rflags.Direction : 0;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [addressSize == 4 ? (byte)0x67 : (byte)0x3E, 0xF3, input ? (byte)0x6D : (byte)0x6F, 0xE6, TestMachine.ExitPort, 0xF4]);
        long before = machine.Cpu.Walker.Count;
        machine.RunToExit();

        Assert.InRange(machine.Cpu.Walker.Count - before, 1, 200);
        Assert.Equal(0UL, machine.Registers.Gpr[1]);
        Assert.Equal(unchecked(start + (ulong)((down ? -4L : 4L) * Count)), machine.Registers.Gpr[input ? 7 : 6]);
        for (uint i = 0; i < Count; i++)
        {
            uint at = down ? Count - 1 - i : i;
            Assert.Equal(input ? 0x9000_0000 + i : at, input ? machine.Read<uint>(Source + (4 * at)) : (uint)machine.PortWrites[(int)i].Value);
        }
    }

    [Theory]
    [InlineData(true, 3, false)]
    [InlineData(false, 10, false)]
    [InlineData(false, 10, true)]
    public void ASegmentsLimitStopsAtItsElement(bool down, int done, bool overlaps)
    {
        using TestMachine machine = TestMachine.Protected();
        uint target = overlaps ? (uint)TestMachine.Data + 4 : 0x3_0000;
        machine.SetDescriptor(TestMachine.FreeSelector, TestMachine.Segment(41, 0x93, 4, target));
        for (uint i = 0; i < 64; i++)
        {
            machine.Write(TestMachine.Data + (4 * i), i + 1);
        }

        machine.Assemble(TestMachine.Code, 32, a =>
        {
            a.mov(eax, TestMachine.FreeSelector);
            a.mov(es, eax);
            a.mov(esi, (int)TestMachine.Data + (down ? 80 : 0));
            a.mov(edi, down ? 8 : 0);
            a.mov(ecx, 20);
            if (down)
            {
                a.std();
            }

            a.rep.movsd();
        });
        Assert.Equal(13, machine.RunToStub());
        int moved = down ? -4 * done : 4 * done;
        Assert.Equal(20UL - (ulong)done, machine.Registers.Gpr[1]);
        Assert.Equal((uint)((int)TestMachine.Data + (down ? 80 : 0) + moved), (uint)machine.Registers.Gpr[6]);
        Assert.Equal((uint)((down ? 8 : 0) + moved), (uint)machine.Registers.Gpr[7]);
        for (int i = 0; i < done; i++)
        {
            // Moved upwards by one element, the first repeats.
            uint expected = overlaps ? 1u : down ? (uint)(21 - i) : (uint)(i + 1);
            Assert.Equal(expected, machine.Read<uint>(target + (ulong)(down ? 8 - (4 * i) : 4 * i)));
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void OffsetsOf16BitsWrap(bool down)
    {
        using TestMachine machine = TestMachine.Real();
        machine.Registers.Segments[0] = new SegmentRegister(0x3008, 0x3_0080, 0xFFFF, 0x93);
        machine.Registers.Gpr[0] = 0xAB;
        machine.Registers.Gpr[1] = 0x5555_0040;
        machine.Registers.Gpr[7] = down ? 0x6666_001FUL : 0x6666_FFE0UL;
        machine.Registers.Rflags |= down ? Rflags.Direction : 0;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [0xF3, 0xAA, 0xE6, TestMachine.ExitPort, 0xF4]);
        machine.RunToExit();
        Assert.Equal(0x5555_0000UL, machine.Registers.Gpr[1]);
        Assert.Equal(down ? 0x6666_FFDFUL : 0x6666_0020UL, machine.Registers.Gpr[7]);
        for (uint i = 0; i < 0x40; i++)
        {
            Assert.Equal(0xAB, machine.Read<byte>(0x3_0080 + ((0xFFE0 + i) & 0xFFFF)));
        }

        Assert.Equal(0, machine.Read<byte>(0x3_0080 + 0xFFDF));
        Assert.Equal(0, machine.Read<byte>(0x3_0080 + 0x20));
        Assert.Equal(0, machine.Read<byte>(0x4_0080));
    }

    [Theory]
    [InlineData(0xA6, 0xF3, 5000)]
    [InlineData(0xAE, 0xF2, 5000)]
    [InlineData(0xAE, 0xF2, 700)]
    public void ScansEndBehindTheElementThatDecides(byte opcode, byte prefix, int decides)
    {
        using TestMachine machine = TestMachine.Protected();
        for (ulong i = 0; i < 8192; i++)
        {
            machine.Write(Source + i, (byte)1);
            machine.Write(Source + 0x4000 + i, (byte)1);
        }

        machine.Write(Source + 0x4000 + (ulong)decides, (byte)9);
        machine.Registers.Gpr[0] = 9;
        machine.Registers.Gpr[1] = 8192;
        machine.Registers.Gpr[6] = Source;
        machine.Registers.Gpr[7] = Source + 0x4000;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [prefix, opcode, 0xE6, TestMachine.ExitPort, 0xF4]);
        machine.RunToExit();
        Assert.Equal(8192UL - (ulong)decides - 1, machine.Registers.Gpr[1]);
        Assert.Equal(Source + 0x4000 + (ulong)decides + 1, machine.Registers.Gpr[7]);
        Assert.Equal(opcode == 0xA6 ? Source + (ulong)decides + 1 : Source, machine.Registers.Gpr[6]);
        Assert.Equal(opcode == 0xAE, (machine.Registers.Rflags & Rflags.Zero) != 0);
    }
}
