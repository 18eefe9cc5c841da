using Iced.Intel;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.Vector;

/// <summary>#UD, #NM, #MF, #GP(0) of vector and x87 instructions, and what a fault must leave alone.</summary>
public sealed unsafe class AvailabilityTests
{
    private static readonly MemoryOperand Operand = new(Register.RBX, 64);

    private static Instruction Example(string kind) => kind switch
    {
        "sse move" => Instruction.Create(Code.Movaps_xmm_xmmm128, Register.XMM1, Register.XMM2),
        "sse" => Instruction.Create(Code.Paddd_xmm_xmmm128, Register.XMM1, Register.XMM2),
        "sse load" => Instruction.Create(Code.Movups_xmm_xmmm128, Register.XMM1, Operand),
        "sse store" => Instruction.Create(Code.Movups_xmmm128_xmm, Operand, Register.XMM1),
        "sse float" => Instruction.Create(Code.Addpd_xmm_xmmm128, Register.XMM1, Register.XMM2),
        "sse to flags" => Instruction.Create(Code.Ptest_xmm_xmmm128, Register.XMM1, Register.XMM2),
        "sse to general" => Instruction.Create(Code.Pmovmskb_r32_xmm, Register.EAX, Register.XMM2),
        "ldmxcsr" => Instruction.Create(Code.Ldmxcsr_m32, Operand),
        "mmx" => Instruction.Create(Code.Paddd_mm_mmm64, Register.MM1, Register.MM2),
        "mmx store" => Instruction.Create(Code.Movq_mmm64_mm, Operand, Register.MM1),
        "emms" => Instruction.Create(Code.Emms),
        "mmx and sse" => Instruction.Create(Code.Cvtps2pi_mm_xmmm64, Register.MM1, Register.XMM2),
        "x87" => Instruction.Create(Code.Fld1),
        "x87 store" => Instruction.Create(Code.Fstp_m64fp, Operand),
        "x87 no wait" => Instruction.Create(Code.Fnstsw_AX, Register.AX),
        "fninit" => Instruction.Create(Code.Fninit),
        "fnstenv" => Instruction.Create(Code.Fnstenv_m28byte, Operand),
        "fwait" => Instruction.Create(Code.Wait),
        "fxsave" => Instruction.Create(Code.Fxsave64_m512byte, Operand),
        "xsave" => Instruction.Create(Code.Xsave64_mem, Operand),
        "general" => Instruction.Create(Code.VEX_Andn_r64_r64_rm64, Register.RAX, Register.RCX, Register.RDX),
        "popcnt" => Instruction.Create(Code.Popcnt_r64_rm64, Register.RAX, Register.RDX),
        _ => throw new ArgumentException(kind),
    };

    [Theory]
    [InlineData("sse move", 7, 6, 6, -1)]
    [InlineData("sse", 7, 6, 6, -1)]
    [InlineData("sse load", 7, 6, 6, -1)]
    [InlineData("sse store", 7, 6, 6, -1)]
    [InlineData("sse float", 7, 6, 6, -1)]
    [InlineData("sse to flags", 7, 6, 6, -1)]
    [InlineData("sse to general", 7, 6, 6, -1)]
    [InlineData("ldmxcsr", 7, 6, 6, -1)]
    [InlineData("mmx", 7, 6, -1, 16)]
    [InlineData("mmx store", 7, 6, -1, 16)]
    [InlineData("emms", 7, 6, -1, 16)]
    [InlineData("mmx and sse", 7, 6, 6, 16)]
    [InlineData("x87", 7, 7, -1, 16)]
    [InlineData("x87 store", 7, 7, -1, 16)]
    [InlineData("x87 no wait", 7, 7, -1, -1)]
    [InlineData("fninit", 7, 7, -1, -1)]
    [InlineData("fnstenv", 7, 7, -1, -1)]
    [InlineData("fwait", -1, -1, -1, 16)]
    [InlineData("fxsave", 7, 7, -1, -1)]
    [InlineData("xsave", 7, -1, -1, -1)]
    [InlineData("general", -1, -1, -1, -1)]
    [InlineData("popcnt", -1, -1, -1, -1)]
    public void ControlRegisterBitsMakeItFault(string kind, int taskSwitched, int emulation, int noOsFxsr, int pending)
    {
        Assert.Equal(-1, FaultOf(kind, 0));
        Assert.Equal(taskSwitched, FaultOf(kind, FpuTrap.TaskSwitched));
        Assert.Equal(emulation, FaultOf(kind, FpuTrap.Emulation));
        Assert.Equal(noOsFxsr, FaultOf(kind, FpuTrap.NoOsFxsr));
        using BareCpu cpu = NewCpu();
        cpu.X87Control = 0x37E;
        cpu.X87Status = 0x8081;
        Assert.Equal(pending, cpu.Run(Example(kind)));
    }

    [Fact]
    public void WaitFaultsWhenTheTaskWasSwitchedAndTheMonitorBitIsSet()
    {
        using BareCpu cpu = NewCpu();
        cpu.State->Cr0 |= Cr0.TaskSwitched | Cr0.MonitorCoprocessor;
        Assert.Equal(ExceptionVector.DeviceNotAvailable, cpu.Run(Example("fwait")));
    }

    [Theory]
    [InlineData(Code.Movaps_xmm_xmmm128, true)]
    [InlineData(Code.Movdqa_xmm_xmmm128, true)]
    [InlineData(Code.Movntdqa_xmm_m128, true)]
    [InlineData(Code.Paddd_xmm_xmmm128, true)]
    [InlineData(Code.Addps_xmm_xmmm128, true)]
    [InlineData(Code.Aesenc_xmm_xmmm128, true)]
    [InlineData(Code.Sha1msg1_xmm_xmmm128, true)]
    [InlineData(Code.Ptest_xmm_xmmm128, true)]
    [InlineData(Code.Movups_xmm_xmmm128, false)]
    [InlineData(Code.Movdqu_xmm_xmmm128, false)]
    [InlineData(Code.Lddqu_xmm_m128, false)]
    [InlineData(Code.Movsd_xmm_xmmm64, false)]
    [InlineData(Code.Punpcklbw_xmm_xmmm128, true)]
    [InlineData(Code.Cvtps2pd_xmm_xmmm64, false)]
    public void SixteenByteOperandsMustBeAligned(Code code, bool aligned)
    {
        using BareCpu cpu = NewCpu();
        UInt128 before = *cpu.Xmm(1);
        for (int offset = 1; offset < 16; offset++)
        {
            int fault = cpu.Run(Instruction.Create(code, Register.XMM1, new MemoryOperand(Register.RBX, offset)));
            Assert.Equal(aligned ? ExceptionVector.GeneralProtection : -1, fault);
            Assert.Equal(0u, cpu.State->FaultError);
        }

        Assert.True(!aligned || before == *cpu.Xmm(1), "A fault changes nothing.");
    }

    [Fact]
    public void StringComparesTakeMisalignedOperands()
    {
        using BareCpu cpu = NewCpu();
        Assert.Equal(-1, cpu.Run(Instruction.Create(Code.Pcmpistri_xmm_xmmm128_imm8, Register.XMM1, new MemoryOperand(Register.RBX, 3), 0)));
        Assert.Equal(-1, cpu.Run(Instruction.Create(Code.Pcmpestrm_xmm_xmmm128_imm8, Register.XMM1, new MemoryOperand(Register.RBX, 3), 0)));
    }

    [Theory]
    [InlineData(Code.Movaps_xmmm128_xmm)]
    [InlineData(Code.Movdqa_xmmm128_xmm)]
    [InlineData(Code.Movntps_m128_xmm)]
    [InlineData(Code.Movntdq_m128_xmm)]
    public void MisalignedStoresFaultBeforeTheyWrite(Code code)
    {
        using BareCpu cpu = NewCpu();
        *cpu.Xmm(1) = UInt128.MaxValue;
        Assert.Equal(ExceptionVector.GeneralProtection, cpu.Run(Instruction.Create(code, new MemoryOperand(Register.RBX, 8), Register.XMM1)));
        Assert.True(new ReadOnlySpan<byte>(cpu.Memory, BareCpu.MemorySize).IndexOfAnyExcept((byte)0) < 0);
    }

    [Theory]
    [InlineData("C4E37168C230")] // FMA4 VFMADDPS
    [InlineData("C4E27150C2")] // AVX-VNNI VPDPBUSD
    [InlineData("C5F892CB")] // KMOVW
    [InlineData("8FE978C2C1")] // XOP VPHADDBW
    [InlineData("62F17C4858C1")] // EVEX VADDPS
    [InlineData("0F0FC09E")] // 3DNow! PFADD
    [InlineData("660F79C1")] // SSE4A EXTRQ
    [InlineData("0F01C8")] // MONITOR
    [InlineData("0F0E")] // FEMMS
    [InlineData("0FC723")] // XSAVEC
    [InlineData("F00F58C1")] // LOCK ADDPS
    [InlineData("DBE5")] // FRSTPM
    public void WhatCpuidDoesNotShowIsInvalid(string bytes)
    {
        using BareCpu cpu = NewCpu();
        cpu.State->Xcr0 = XsaveLayout.Supported;
        Decoder decoder = Decoder.Create(64, Convert.FromHexString(bytes));
        Op* op = stackalloc Op[2];
        cpu.TryTranslate(decoder.Decode(), op);
        Assert.Equal(ExceptionVector.InvalidOpcode, cpu.Run(op));
    }

    [Fact]
    public void VexInstructionsNeedProtectedMode()
    {
        using BareCpu cpu = NewCpu();
        Op* op = stackalloc Op[2];
        Instruction andn = BareCpu.Decode(Instruction.Create(Code.VEX_Andn_r32_r32_rm32, Register.EAX, Register.ECX, Register.EDX));
        cpu.State->Mode = CodeMode.Bits32 | CodeMode.Protected;
        Assert.True(cpu.TryTranslate(andn, op));
        cpu.State->Mode = CodeMode.Bits16;
        Assert.False(cpu.TryTranslate(andn, op));
        cpu.State->Mode = CodeMode.Bits16 | CodeMode.Protected | CodeMode.Virtual8086;
        Assert.False(cpu.TryTranslate(andn, op));
    }

    [Fact]
    public void RandomNumbersDifferAndSetCarryAlone()
    {
        using BareCpu cpu = NewCpu();
        var seen = new HashSet<ulong>();
        foreach (Code code in (Code[])[Code.Rdrand_r64, Code.Rdseed_r64])
        {
            for (int i = 0; i < 100; i++)
            {
                cpu.State->Flags |= Rflags.Arithmetic;
                Assert.Equal(-1, cpu.Run(Instruction.Create(code, Register.RAX)));
                Assert.True(seen.Add(cpu.State->Gpr[0]));
                Assert.Equal(Rflags.Carry, LazyFlags.Arithmetic(cpu.State));
            }
        }

        cpu.State->Gpr[0] = ulong.MaxValue;
        cpu.Run(Instruction.Create(Code.Rdrand_r32, Register.EAX));
        Assert.Equal(0UL, cpu.State->Gpr[0] >> 32);
        cpu.State->Gpr[0] = ulong.MaxValue;
        cpu.Run(Instruction.Create(Code.Rdrand_r16, Register.AX));
        Assert.Equal(ulong.MaxValue >> 16, cpu.State->Gpr[0] >> 16);
    }

    private static int FaultOf(string kind, uint traps)
    {
        using BareCpu cpu = NewCpu();
        cpu.State->FpuTraps = traps;
        return cpu.Run(Example(kind));
    }

    private static BareCpu NewCpu()
    {
        var cpu = new BareCpu();
        cpu.State->Gpr[3] = (ulong)cpu.Memory;
        return cpu;
    }
}
