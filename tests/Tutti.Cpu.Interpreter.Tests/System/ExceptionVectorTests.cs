using Iced.Intel;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Interpreter.Tests.System;

/// <summary>Each exception in 64-bit and 32-bit code: its error code, and whether the saved RIP is the instruction's or the next one's.</summary>
public sealed class ExceptionVectorTests
{
    private const ushort NotPresent = TestMachine.FreeSelector;
    private const ushort TooSmallTss = TestMachine.FreeSelector + 16;
    private const ushort BeyondTable = 0x1FF8;
    private const int NoCode = -1;
    private const int Both = 0;

    /// <summary>One way to an exception. The last instruction is the one that meets it.</summary>
    /// <param name="Vector">What is expected.</param>
    /// <param name="Bitness">64, 32, or 0 for both.</param>
    /// <param name="Code">The instructions.</param>
    /// <param name="Error">The error code, or -1 where none is pushed.</param>
    /// <param name="Trap">The saved RIP is behind the instruction.</param>
    /// <param name="Prepare">Changes the machine before.</param>
    private sealed record Way(string Name, int Vector, int Bitness, Action<Assembler> Code, int Error = NoCode, bool Trap = false, Action<TestMachine>? Prepare = null);

    private static readonly Way[] Ways =
    [
        new("DIV by zero", 0, Both, a => { a.xor(ecx, ecx); a.div(ecx); }),
        new("DIV overflow", 0, Both, a => { a.mov(edx, 2); a.mov(ecx, 2); a.div(ecx); }),
        new("IDIV of the least number by -1", 0, Both, a => { a.mov(eax, int.MinValue); a.cdq(); a.mov(ecx, -1); a.idiv(ecx); }),
        new("IDIV with 8 bits, overflow", 0, Both, a => { a.mov(eax, 0x80); a.mov(cl, 1); a.idiv(cl); }),
        new("AAM 0", 0, 32, a => a.aam(0)),
        new("INT1", 1, Both, a => a.int1(), Trap: true),
        new("single step", 1, Both, a => a.nop(), Trap: true, Prepare: m => m.Registers.Rflags |= Rflags.Trap),
        new("code breakpoint", 1, Both, a => { a.nop(); a.inc(ebx); }, Prepare: m => Watch(m, TestMachine.Code + 1, 0)),
        new("general detect", 1, Both, a => a.db(0x0F, 0x21, 0xF8), Prepare: m => m.Registers.Dr[7] |= Dr7.GeneralDetect),
        new("INT3", 3, Both, a => a.int3(), Trap: true),
        new("INT 3 of two bytes", 3, Both, a => a.db(0xCD, 0x03), Trap: true),
        new("INTO", 4, 32, a => { a.mov(eax, int.MaxValue); a.inc(eax); a.into(); }, Trap: true),
        new("BOUND above", 5, 32, a => { a.mov(eax, 11); a.bound(eax, __qword_ptr[(int)TestMachine.Data]); }, Prepare: SetBounds),
        new("BOUND below, signed", 5, 32, a => { a.mov(eax, -11); a.bound(eax, __qword_ptr[(int)TestMachine.Data]); }, Prepare: SetBounds),
        new("UD2", 6, Both, a => a.ud2()),
        new("LOCK on a register", 6, Both, a => a.db(0xF0, 0x01, 0xC0)),
        new("INTO in 64-bit code", 6, 64, a => a.db(0xCE)),
        new("MOV to CS", 6, Both, a => a.db(0x8E, 0xC8)),
        new("CR1", 6, Both, a => a.db(0x0F, 0x20, 0xC8)),
        new("DR4 with CR4.DE", 6, Both, a => a.db(0x0F, 0x21, 0xE0), Prepare: m => m.Registers.Cr4 |= Cr4.DebuggingExtensions),
        new("SSE with CR0.EM", 6, Both, a => a.movaps(xmm0, xmm1), Prepare: m => Change(m, Cr0.Emulation, Cr4.OsFxsr)),
        new("SSE without CR4.OSFXSR", 6, Both, a => a.movaps(xmm0, xmm1), Prepare: m => m.Registers.Cr4 &= ~Cr4.OsFxsr),
        new("SSE exception without CR4.OSXMMEXCPT", 6, Both, DivideSseByZero, Prepare: m => Change(m, 0, Cr4.OsFxsr)),
        new("x87 with CR0.TS", 7, Both, a => a.fld1(), Prepare: m => Change(m, Cr0.TaskSwitched, 0)),
        new("x87 with CR0.EM", 7, Both, a => a.fld1(), Prepare: m => Change(m, Cr0.Emulation, 0)),
        new("SSE with CR0.TS", 7, Both, a => a.movaps(xmm0, xmm1), Prepare: m => Change(m, Cr0.TaskSwitched, Cr4.OsFxsr)),
        new("FWAIT with CR0.TS and MP", 7, Both, a => a.wait(), Prepare: m => Change(m, Cr0.TaskSwitched | Cr0.MonitorCoprocessor, 0)),
        new("#GP on #GP", 8, Both, LoadBeyondTable, 0, Prepare: m => m.SetGate(13, 0x0E)),
        new("task switch to a TSS that is too small", 10, 32, a => a.db(0xEA, 0, 0, 0, 0, (byte)TooSmallTss, 0), TooSmallTss, Prepare: SetSmallTss),
        new("IST entry behind the TSS", 10, 64, a => a.@int(0x50), TestMachine.TssSelector, Prepare: m =>
        {
            m.SetGate(0x50, 0x8E, ist: 7);
            m.Registers.Tr = m.Registers.Tr with { Limit = 90 };
        }),
        new("DS not present", 11, Both, a => { a.mov(eax, NotPresent); a.mov(ds, eax); }, NotPresent, Prepare: SetNotPresent),
        new("gate not present", 11, Both, a => a.@int(0x50), (0x50 * 8) + 2, Prepare: m => m.SetGate(0x50, 0x0E)),
        new("SS not present", 12, Both, a => { a.mov(eax, NotPresent); a.mov(ss, eax); }, NotPresent, Prepare: SetNotPresent),
        new("push, not canonical", 12, 64, a => { a.mov(rsp, 0x8000_0000_0010L); a.push(rax); }, 0, Prepare: m => m.SetGate(12, 0x8E, ist: 1)),
        new("stack limit", 12, 32, a => a.mov(eax, __dword_ptr[ebp]), 0, Prepare: m =>
        {
            m.Registers.Segments[2] = m.Registers.Segments[2] with { Limit = 0xF_FFFF };
            m.Registers.Gpr[5] = 0x10_0000;
        }),
        new("selector behind the table", 13, Both, LoadBeyondTable, BeyondTable),
        new("WRMSR of an unknown register", 13, Both, a => a.db(0x0F, 0x30), 0, Prepare: m => m.Registers.Gpr[1] = 0xDEAD),
        new("read, not canonical", 13, 64, a => { a.mov(rax, 0x8000_0000_0000L); a.mov(eax, __dword_ptr[rax]); }, 0),
        new("REP STOS whose first element is not canonical at its end", 13, 64, a => { a.mov(rdi, 0x7FFF_FFFF_FFFEL); a.mov(ecx, 3); a.rep.stosq(); }, 0),
        new("REP MOVS whose first element is not canonical at its end", 13, 64, a => { a.mov(rsi, 0x7FFF_FFFF_FFFEL); a.mov(ecx, 3); a.rep.movsq(); }, 0),
        new("reserved bit of CR4", 13, Both, a => a.db(0x0F, 0x22, 0xE0), 0, Prepare: m => m.Registers.Gpr[0] = 1UL << 30),
        new("PG without PE", 13, Both, a => a.db(0x0F, 0x22, 0xC0), 0, Prepare: m => m.Registers.Gpr[0] = Cr0.Paging),
        new("misaligned MOVAPS", 13, Both, a => { a.mov(eax, (int)TestMachine.Data + 8); a.db(0x0F, 0x28, 0x00); }, 0, Prepare: m => Change(m, 0, Cr4.OsFxsr)),
        new("page not present", 14, 64, a => { a.mov(eax, 0x40_0000); a.mov(ecx, __dword_ptr[rax]); }, 0),
        new("x87 exception at FWAIT", 16, Both, a =>
        {
            a.fninit();
            a.fldcw(__word_ptr[(int)TestMachine.Data]);
            a.fld1();
            a.fldz();
            a.fdivp(st1, st0);
            a.nop();
            a.wait();
        }, Prepare: m => { Change(m, Cr0.NumericError, 0); m.Write(TestMachine.Data, (ushort)0x37B); }),
        new("SSE exception", 19, Both, DivideSseByZero, Prepare: m => Change(m, 0, Cr4.OsFxsr | Cr4.OsXmmException)),
    ];

    public static TheoryData<string, int> Cases()
    {
        var data = new TheoryData<string, int>();
        foreach (Way way in Ways)
        {
            foreach (int bitness in (int[])[32, 64])
            {
                if (way.Bitness == Both || way.Bitness == bitness)
                {
                    data.Add(way.Name, bitness);
                }
            }
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void ExceptionPushesItsErrorCodeAndTheRightInstructionPointer(string name, int bitness)
    {
        Way way = Ways.Single(w => w.Name == name);
        using TestMachine machine = bitness == 64 ? TestMachine.Long() : TestMachine.Protected();
        machine.Registers.Rflags = Rflags.AlwaysOne | Rflags.Interrupt;
        way.Prepare?.Invoke(machine);
        machine.Apply();
        byte[] code = Assemble(bitness, way.Code);
        machine.Memory.TryWrite(TestMachine.Code, code);
        (ulong last, ulong end) = FindLast(code, bitness);
        int size = bitness / 8;
        Assert.Equal(way.Vector, machine.RunToStub());
        int first = way.Error == NoCode ? 0 : 1;
        if (way.Error != NoCode)
        {
            Assert.Equal((ulong)way.Error, machine.Frame(0, size));
        }

        Assert.Equal(way.Trap ? end : last, machine.Frame(first, size));
        Assert.Equal(TestMachine.KernelCode, machine.Frame(first + 1, size));

        // RF is for faults, so that a code breakpoint does not come twice; the debug exception and #DF leave it clear.
        bool resumes = !way.Trap && way.Vector is not (1 or 8);
        Assert.Equal(resumes ? Rflags.Resume : 0, machine.Frame(first + 2, size) & Rflags.Resume);
        Assert.Equal(0UL, machine.Registers.Rflags & (Rflags.Interrupt | Rflags.Trap | Rflags.Resume));
    }

    [Fact]
    public void AbsentPageFaultsInProtectedModeToo()
    {
        using TestMachine machine = PagingFormat.All[0].CreateMachine();
        machine.Registers.Gpr[3] = 0x40_0000;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [0x90, 0x89, 0x03]);
        Assert.Equal(14, machine.RunToStub());
        Assert.Equal([2UL, TestMachine.Code + 1, TestMachine.KernelCode], Enumerable.Range(0, 3).Select(i => machine.Frame(i, 4)));
        Assert.Equal(0x40_0000UL, machine.Registers.Cr2);
    }

    private static void LoadBeyondTable(Assembler a)
    {
        a.mov(eax, BeyondTable);
        a.mov(ds, eax);
    }

    private static void DivideSseByZero(Assembler a)
    {
        a.push(0x1D80);
        if (a.Bitness == 64)
        {
            a.ldmxcsr(__dword_ptr[rsp]);
        }
        else
        {
            a.ldmxcsr(__dword_ptr[esp]);
        }

        a.mov(eax, 1);
        a.cvtsi2ss(xmm0, eax);
        a.xorps(xmm1, xmm1);
        a.divss(xmm0, xmm1);
    }

    private static void Change(TestMachine machine, ulong cr0, ulong cr4)
    {
        machine.Registers.Cr0 |= cr0;
        machine.Registers.Cr4 |= cr4;
    }

    private static void Watch(TestMachine machine, ulong linear, uint condition)
    {
        machine.Registers.Dr[0] = linear;
        machine.Registers.Dr[7] = 0x402 | (condition << 16);
    }

    private static void SetBounds(TestMachine machine)
    {
        machine.Write(TestMachine.Data, -10);
        machine.Write(TestMachine.Data + 4, 10);
    }

    private static void SetNotPresent(TestMachine machine) =>
        machine.SetDescriptor(NotPresent, TestMachine.Segment(0xFFFFF, 0x13, 0xC));

    private static void SetSmallTss(TestMachine machine) =>
        machine.SetDescriptor(TooSmallTss, TestMachine.Segment(0x66, 0x89, 0, (uint)TestMachine.OtherTss));

    private static byte[] Assemble(int bitness, Action<Assembler> write)
    {
        var assembler = new Assembler(bitness);
        write(assembler);
        var stream = new MemoryStream();
        assembler.Assemble(new StreamCodeWriter(stream), TestMachine.Code);
        return stream.ToArray();
    }

    private static (ulong Last, ulong End) FindLast(byte[] code, int bitness)
    {
        Decoder decoder = Decoder.Create(bitness, code);
        decoder.IP = TestMachine.Code;
        ulong last = decoder.IP;
        while (decoder.IP < TestMachine.Code + (ulong)code.Length)
        {
            last = decoder.IP;
            decoder.Decode();
        }

        return (last, decoder.IP);
    }
}
