using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Interpreter.Tests.System;

/// <summary>
/// CR4.LA57: linear addresses of 57 bits. What pages and rights there are is in <see cref="PagingMatrixTests"/>; here is which addresses are
/// canonical, and that code runs and is left and entered in the far halves. Source: Intel SDM volume 3, "5-Level Paging".
/// </summary>
public sealed class FiveLevelPagingTests
{
    private const ulong FarTables = TestMachine.PageTables + 0x1_0000;

    /// <summary>Pages that only 57 bits reach: <see cref="FarCode"/> shows <see cref="TestMachine.Data"/>, the one behind it is a stack.</summary>
    private const ulong FarCode = 0xFF12_3480_8040_A000;

    private const ulong FarStackEnd = FarCode + 0x2000;

    /// <summary>The user's half.</summary>
    private const ulong FarUserCode = 0x0012_3480_8040_A000;

    private static TestMachine Prepare(bool la57 = true)
    {
        if (!la57)
        {
            return TestMachine.Long();
        }

        PagingFormat format = PagingFormat.All.First(format => format.IsLa57);
        TestMachine machine = format.CreateMachine();
        machine.Registers.Cr4 |= Cr4.OsFxsr | Cr4.FsGsBase;
        foreach (ulong start in (ulong[])[FarCode, FarUserCode])
        {
            ulong table = TestMachine.PageTables;
            ulong next = FarTables + (start == FarCode ? 0 : 0x8000UL);
            for (int shift = 48; shift > 12; shift -= 9)
            {
                machine.Write(table + (((start >> shift) & 511) * 8), next | 7);
                table = next;
                next += 0x1000;
            }

            ulong user = start == FarCode ? 0 : PageTableEntry.User;
            machine.Write(table + (((start >> 12) & 511) * 8), TestMachine.Data | 3 | user);
            machine.Write(table + ((((start >> 12) + 1) & 511) * 8), (TestMachine.Data + 0x1000) | 3 | user);
        }

        machine.Apply();
        return machine;
    }

    public static TheoryData<bool, ulong, int> Addresses => new()
    {
        { false, 0x0000_7FFF_FFFF_F000, 14 }, { false, 0x0000_8000_0000_0000, 13 }, { false, 0xFFFF_7FFF_FFFF_F000, 13 },
        { false, 0xFFFF_8000_0000_0000, 14 }, { false, FarCode + 0x5000, 13 },
        { true, 0x0000_8000_0000_0000, 14 }, { true, 0x00FF_FFFF_FFFF_F000, 14 }, { true, 0x0100_0000_0000_0000, 13 },
        { true, 0xFEFF_FFFF_FFFF_F000, 13 }, { true, 0xFF00_0000_0000_0000, 14 }, { true, 0xFFFF_7FFF_FFFF_F000, 14 }, { true, 0x8000_0000_0000_0000, 13 },
    };

    /// <summary>Nothing is mapped there: what is canonical is a page fault, the rest #GP (#SS on the stack), for data, jumps, RET and IRETQ.</summary>
    [Theory]
    [MemberData(nameof(Addresses))]
    public void TheModeSaysWhatIsCanonical(bool la57, ulong address, int vector)
    {
        (byte[] Code, bool Lands, int Other)[] ways =
        [
            ([0x8B, 0x03], false, 13), ([0x89, 0x03], false, 13), ([0x48, 0x8B, 0x0C, 0x03], false, 13), // mov eax,[rbx]; mov [rbx],eax; mov rcx,[rbx+rax]
            ([0x48, 0x89, 0xDC, 0x58], false, 12), // mov rsp,rbx; pop rax
            ([0xFF, 0xE3], true, 13), ([0x53, 0xC3], true, 13), // jmp rbx; push rbx; ret
            ([0x49, 0x89, 0xE0, 0x6A, (byte)TestMachine.KernelData, 0x41, 0x50, 0x6A, 2, 0x6A, (byte)TestMachine.KernelCode, 0x53, 0x48, 0xCF], true, 13), // iretq to rbx
        ];
        foreach ((byte[] code, bool lands, int other) in ways)
        {
            for (int time = 0; time < 2; time++)
            {
                using TestMachine machine = Prepare(la57);
                machine.SetGate(14, 0x8E, ist: 1);
                machine.SetGate(12, 0x8E, ist: 1);
                machine.SetGate(13, 0x8E, ist: 1);
                machine.Registers.Gpr[3] = address;
                machine.Registers.Gpr[0] = 0;
                machine.Apply();
                machine.Memory.TryWrite(TestMachine.Code, code);
                string what = $"{address:x}, {Convert.ToHexString(code)}";
                Assert.True(machine.RunToStub() == (vector == 14 ? 14 : other), what);
                Assert.True(vector != 14 || machine.Registers.Cr2 == address, what);
                Assert.True(vector != 14 || (machine.Frame(1) == address) == lands, what);
            }
        }
    }

    /// <summary>A loop with calls, a stack, data and an interrupt's frame, all in the far half.</summary>
    [Fact]
    public void CodeRunsWhereOnlyFiftySevenBitsReach()
    {
        for (int time = 0; time < 2; time++)
        {
            using TestMachine machine = Prepare();
            machine.SetGate(3, 0x8E, ist: 1);
            machine.Assemble(TestMachine.Code, 64, a =>
            {
                a.mov(rbx, FarCode);
                a.mov(rsp, FarStackEnd);
                a.mov(ecx, 100);
                Iced.Intel.Label again = a.CreateLabel();
                a.Label(ref again);
                a.call(rbx);
                a.dec(ecx);
                a.jnz(again);
                a.mov(rax, rsp);
                a.push(TestMachine.KernelData);
                a.push(rax);
                a.push((int)Rflags.AlwaysOne);
                a.push(TestMachine.KernelCode);
                a.lea(rdx, __[rbx + 0x20]);
                a.push(rdx);
                a.iretq();
            });

            // add rsi,[rsp]; mov [rip+80h],rsi; push rsi; pop rdi; ret ... int3
            machine.Memory.TryWrite(TestMachine.Data, [0x48, 0x03, 0x34, 0x24, 0x48, 0x89, 0x35, 0x75, 0, 0, 0, 0x56, 0x5F, 0xC3]);
            machine.Memory.TryWrite(TestMachine.Data + 0x20, [0xCC]);
            Assert.Equal(3, machine.RunToStub());
            Assert.Equal(FarCode + 0x21, machine.Frame(0));
            Assert.Equal(machine.Registers.Gpr[6], machine.Registers.Gpr[7]);
            Assert.Equal(machine.Registers.Gpr[6], machine.Read<ulong>(TestMachine.Data + 0x80));
            Assert.Equal(FarStackEnd, machine.Frame(3));
        }
    }

    /// <summary>SYSCALL's entry and SYSRET's target there.</summary>
    [Fact]
    public void SystemCallsReachTheFarHalves()
    {
        using TestMachine machine = Prepare();
        machine.Registers.Msrs[Msr.Star] = (0x18UL << 48) | ((ulong)TestMachine.KernelCode << 32);
        machine.Registers.Msrs[Msr.Lstar] = FarCode + 0x40;
        machine.Registers.Msrs[Msr.Sfmask] = Rflags.Trap | Rflags.Direction | Rflags.AlignmentCheck | Rflags.NestedTask;
        machine.Registers.Gpr[1] = FarUserCode;
        machine.Registers.Gpr[11] = Rflags.AlwaysOne;
        machine.Registers.Gpr[5] = 50;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [0x48, 0x0F, 0x07]); // sysretq
        machine.Memory.TryWrite(TestMachine.Data, [0x0F, 0x05, 0xFF, 0xC3, 0xEB, 0xFA]); // syscall; inc ebx; jmp -6
        machine.Memory.TryWrite(TestMachine.Data + 0x40, [0xFF, 0xCD, 0x74, 0x03, 0x48, 0x0F, 0x07, 0xCC]); // dec ebp; jz +3; sysretq; int3
        Assert.Equal(3, machine.RunToStub());
        Assert.Equal(FarCode + 0x48, machine.Frame(0));
        Assert.Equal(49UL, machine.Registers.Gpr[3]);
        Assert.Equal(FarUserCode + 2, machine.Registers.Gpr[1]);
    }

    /// <summary>
    /// Registers that hold addresses take what the processor has bits for, in every mode: 57 where CPUID shows LA57, and 48 in a model that does
    /// not.
    /// </summary>
    [Theory]
    [InlineData(0x0000_8000_0000_0000UL, true, false)]
    [InlineData(0xFF00_0000_0000_0000UL, true, false)]
    [InlineData(0x0100_0000_0000_0000UL, false, false)]
    [InlineData(0xFEFF_FFFF_FFFF_FFFFUL, false, false)]
    [InlineData(0xFFFF_8000_0000_0000UL, true, true)]
    public void RegistersTakeTheAddressesThatTheProcessorHas(ulong address, bool allowed, bool allowedIn48)
    {
        foreach (CpuModel model in (CpuModel[])[CpuModel.Host, CpuModel.X8664V2])
        {
            bool expected = model == CpuModel.Host ? allowed : allowedIn48;
            foreach (uint msr in (uint[])[Msr.FsBase, Msr.GsBase, Msr.KernelGsBase, Msr.Lstar, Msr.Cstar, Msr.SysenterEsp, Msr.SysenterEip])
            {
                using TestMachine machine = TestMachine.Long(model);
                machine.Registers.Gpr[0] = (uint)address;
                machine.Registers.Gpr[2] = address >> 32;
                machine.Registers.Gpr[1] = msr;
                machine.Apply();
                machine.Memory.TryWrite(TestMachine.Code, [0x0F, 0x30, 0x0F, 0x0B]); // wrmsr; ud2
                Assert.Equal(expected ? 6 : 13, machine.RunToStub());
            }

            // lgdt [rbx]; lldt cx; mov cr4 leaves FSGSBASE set: wrfsbase rax
            foreach (byte[] code in (byte[][])[[0x0F, 0x01, 0x13], [0x0F, 0x00, 0xD1], [0xF3, 0x48, 0x0F, 0xAE, 0xD0]])
            {
                using TestMachine machine = TestMachine.Long(model);
                machine.Registers.Cr4 |= Cr4.FsGsBase;
                machine.Registers.Gpr[0] = address;
                machine.Registers.Gpr[1] = TestMachine.FreeSelector;
                machine.Registers.Gpr[3] = TestMachine.Data;
                machine.Write(TestMachine.Data, (ushort)0xFFF);
                machine.Write(TestMachine.Data + 2, address);
                ulong low = TestMachine.Segment(0xFFF, 0x82, 0, (uint)address);
                machine.SetDescriptor(TestMachine.FreeSelector, low);
                machine.SetDescriptor(TestMachine.FreeSelector + 8, address >> 32);
                machine.Apply();
                machine.Memory.TryWrite(TestMachine.Code, [.. code, 0xE6, TestMachine.ExitPort, 0xEB, 0xFE]);
                Assert.Equal(expected ? -1 : 13, machine.RunToStub());
            }
        }
    }

    [Fact]
    public void ItIsSwitchedOutsideLongModeOnly()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Registers.Gpr[0] = machine.Registers.Cr4 | Cr4.LinearAddress57;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [0x0F, 0x22, 0xE0]); // mov cr4,rax
        Assert.Equal(13, machine.RunToStub());
        using TestMachine outside = TestMachine.Protected();
        outside.Registers.Gpr[0] = Cr4.PhysicalAddressExtension | Cr4.LinearAddress57;
        outside.Apply();
        outside.Memory.TryWrite(TestMachine.Code, [0x0F, 0x22, 0xE0, 0x0F, 0x20, 0xE3, 0x0F, 0x0B]); // mov cr4,eax; mov ebx,cr4; ud2
        Assert.Equal(6, outside.RunToStub());
        Assert.Equal(Cr4.PhysicalAddressExtension | Cr4.LinearAddress57, outside.Registers.Gpr[3]);
    }

    /// <summary>As a kernel does it that was started with four levels: from 32-bit code without paging into 64-bit code behind five.</summary>
    [Fact]
    public void LongModeBeginsWithFiveLevels()
    {
        using TestMachine machine = Prepare();
        ProcessorRegisters r = machine.Registers;
        r.Cr0 = Cr0.ProtectionEnable | Cr0.ExtensionType;
        r.Cr4 = 0;
        r.Efer = 0;
        r.Segments[1] = new SegmentRegister(TestMachine.KernelCode32, 0, uint.MaxValue, 0xC09B);
        r.Msrs.Clear();
        machine.Apply();
        machine.Assemble(TestMachine.Code, 32, a =>
        {
            a.mov(eax, (int)(Cr4.PhysicalAddressExtension | Cr4.LinearAddress57));
            a.mov(cr4, eax);
            a.mov(eax, (int)TestMachine.PageTables);
            a.mov(cr3, eax);
            a.mov(ecx, unchecked((int)Msr.Efer));
            a.xor(edx, edx);
            a.mov(eax, (int)Efer.LongModeEnable);
            a.wrmsr();
            a.mov(eax, unchecked((int)(Cr0.Paging | Cr0.ProtectionEnable | Cr0.ExtensionType)));
            a.mov(cr0, eax);
            a.db(0xEA, 0x00, 0x90, 0, 0, (byte)TestMachine.KernelCode, 0); // jmp 8:9000h
        });
        machine.Assemble(0x9000, 64, a =>
        {
            a.mov(rbx, FarCode);
            a.jmp(rbx);
        });
        machine.Memory.TryWrite(TestMachine.Data, [0xCC]);
        Assert.Equal(3, machine.RunToStub());
        Assert.Equal(FarCode + 1, machine.Frame(0));
        Assert.NotEqual(0UL, r.Efer & Efer.LongModeActive);
    }

    /// <summary>MOV to DR0 to DR3 looks at no address (Intel SDM volume 3, "Debug Registers and Intel 64 Processors").</summary>
    [Theory]
    [InlineData(0x0000_8000_0000_0000UL)]
    [InlineData(0x0100_0000_0000_0000UL)]
    public void BreakpointsMayBeAnywhere(ulong address)
    {
        using TestMachine machine = TestMachine.Long();
        machine.Registers.Gpr[0] = address;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [0x0F, 0x23, 0xC0, 0x0F, 0x21, 0xC3, 0x0F, 0x0B]); // mov dr0,rax; mov rbx,dr0; ud2
        Assert.Equal(6, machine.RunToStub());
        Assert.Equal(address, machine.Registers.Gpr[3]);
    }
}
