using Iced.Intel;
using Tutti.Cpu.Interpreter.Tests.System;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Interpreter.Tests.Vector;

/// <summary>Unmasked SSE exceptions. Source: Intel SDM volume 1, sections 11.5.2 and 11.5.3.</summary>
public sealed unsafe class SseExceptionTests
{
    private const uint Invalid = 1;
    private const uint Denormal = 2;
    private const uint DivideByZero = 4;
    private const uint Overflow = 8;
    private const uint Underflow = 16;
    private const uint Precision = 32;
    private const uint AllMasked = 0x1F80;
    private const uint FlushToZero = 0x8000;

    private const double Smallest = double.Epsilon;
    private const double SmallestNormal = 2.2250738585072014E-308;

    [Theory]
    [InlineData(Code.Divpd_xmm_xmmm128, 1.0, 0.0, DivideByZero, DivideByZero)]
    [InlineData(Code.Divpd_xmm_xmmm128, 0.0, 0.0, Invalid, Invalid)]
    [InlineData(Code.Sqrtpd_xmm_xmmm128, 1.0, -1.0, Invalid, Invalid)]
    [InlineData(Code.Addpd_xmm_xmmm128, 1.0, Smallest, Denormal, Denormal)]
    [InlineData(Code.Divpd_xmm_xmmm128, 1.0, 3.0, Precision, Precision)]
    [InlineData(Code.Mulpd_xmm_xmmm128, 3e-308, 1e-10, Underflow, Underflow | Precision)]
    [InlineData(Code.Mulpd_xmm_xmmm128, SmallestNormal, 0.5, Underflow, Underflow)]
    [InlineData(Code.Addpd_xmm_xmmm128, double.MaxValue, 9.9792015476736E+291, Overflow, Overflow | Precision)]
    public void UnmaskedOneIsRaisedAndTheDestinationKept(Code code, double left, double right, uint unmasked, uint flags)
    {
        using BareCpu cpu = NewCpu(left, right);
        cpu.Mxcsr = AllMasked & ~(unmasked << 7);
        Instruction instruction = Instruction.Create(code, Register.XMM1, Register.XMM2);
        Assert.Equal(ExceptionVector.SimdFloatingPoint, cpu.Run(instruction));
        Assert.Equal((AllMasked & ~(unmasked << 7)) | flags, cpu.Mxcsr);
        Assert.Equal(left, *(double*)cpu.Xmm(1));

        // Without CR4.OSXMMEXCPT it is #UD.
        cpu.State->Cr4 &= ~Cr4.OsXmmException;
        Assert.Equal(ExceptionVector.InvalidOpcode, cpu.Run(instruction));
    }

    [AvxFact]
    public void TheFrameOfOneOfVexCodeInsideABlockPointsAtTheInstruction()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Registers.Cr4 |= Cr4.OsXsave | Cr4.OsXmmException;
        machine.Registers.Xcr0 = XsaveLayout.Supported;
        machine.Assemble(TestMachine.Code, 64, c =>
        {
            c.mov(__dword_ptr[TestMachine.Data], AllMasked & ~(DivideByZero << 7));
            c.ldmxcsr(__dword_ptr[TestMachine.Data]);
            c.mov(eax, 1);
            c.vxorps(xmm2, xmm2, xmm2);
            c.vcvtsi2sd(xmm1, xmm2, eax);
            c.vdivsd(xmm1, xmm1, xmm2);
        });
        machine.Apply();
        Assert.Equal(ExceptionVector.SimdFloatingPoint, machine.RunToStub());
        byte[] code = new byte[4];
        Assert.True(machine.Memory.TryRead(machine.Frame(0), code));
        Assert.Equal("C5F35ECA", Convert.ToHexString(code));
    }

    [Fact]
    public void ExactTinyResultIsNoMaskedUnderflow()
    {
        using BareCpu cpu = NewCpu(SmallestNormal, 0.5);
        Assert.Equal(-1, cpu.Run(Instruction.Create(Code.Mulpd_xmm_xmmm128, Register.XMM1, Register.XMM2)));
        Assert.Equal(AllMasked, cpu.Mxcsr);
        Assert.Equal(SmallestNormal / 2, *(double*)cpu.Xmm(1));
    }

    [Fact]
    public void OtherUnmaskedExceptionsDoNotHinderTheResult()
    {
        using BareCpu cpu = NewCpu(1.0, 3.0);
        const uint Control = AllMasked & ~((Invalid | Denormal | DivideByZero | Overflow | Underflow) << 7);
        cpu.Mxcsr = Control | FlushToZero;
        Assert.Equal(-1, cpu.Run(Instruction.Create(Code.Divpd_xmm_xmmm128, Register.XMM1, Register.XMM2)));
        Assert.Equal(1.0 / 3.0, *(double*)cpu.Xmm(1));
        Assert.Equal(Control | FlushToZero | Precision, cpu.Mxcsr);
    }

    [Fact]
    public void OldStickyFlagsRaiseNothing()
    {
        using BareCpu cpu = NewCpu(1.0, 2.0);
        cpu.Mxcsr = 0x3F;
        Assert.Equal(-1, cpu.Run(Instruction.Create(Code.Divpd_xmm_xmmm128, Register.XMM1, Register.XMM2)));
        Assert.Equal(0x3Fu, cpu.Mxcsr);
        Assert.Equal(0.5, *(double*)cpu.Xmm(1));
    }

    [Fact]
    public void UnmaskedPreComputationExceptionHidesTheOthersOfOtherElements()
    {
        using BareCpu cpu = NewCpu(1.0, 3.0);
        ((double*)cpu.Xmm(1))[1] = 1.0;
        ((double*)cpu.Xmm(2))[1] = 0.0;
        cpu.Mxcsr = AllMasked & ~(DivideByZero << 7);
        Assert.Equal(ExceptionVector.SimdFloatingPoint, cpu.Run(Instruction.Create(Code.Divpd_xmm_xmmm128, Register.XMM1, Register.XMM2)));
        Assert.Equal((AllMasked & ~(DivideByZero << 7)) | DivideByZero, cpu.Mxcsr);
    }

    [Fact]
    public void ConversionToGeneralRegisterKeepsItOnAnException()
    {
        using BareCpu cpu = NewCpu(0, double.NaN);
        cpu.State->Gpr[0] = 0x1234_5678_9ABC_DEF0;
        cpu.State->Gpr[1] = 77;
        cpu.Mxcsr = AllMasked & ~(Invalid << 7);
        Assert.Equal(ExceptionVector.SimdFloatingPoint, cpu.Run(Instruction.Create(Code.Cvttsd2si_r64_xmmm64, Register.RAX, Register.XMM2)));
        Assert.Equal(0x1234_5678_9ABC_DEF0UL, cpu.State->Gpr[0]);
        cpu.Mxcsr = AllMasked & ~(Denormal << 7);
        Assert.Equal(-1, cpu.Run(Instruction.Create(Code.Cvttsd2si_r64_xmmm64, Register.RAX, Register.XMM2)));
        Assert.Equal(0x8000_0000_0000_0000UL, cpu.State->Gpr[0]);
        Assert.Equal(77UL, cpu.State->Gpr[1]);
    }

    [Fact]
    public void CompareLeavesTheFlagsOnAnException()
    {
        using BareCpu cpu = NewCpu(1.0, double.NaN);
        cpu.State->Flags |= Rflags.Overflow | Rflags.Sign;
        cpu.Mxcsr = AllMasked & ~(Invalid << 7);
        Assert.Equal(ExceptionVector.SimdFloatingPoint, cpu.Run(Instruction.Create(Code.Comisd_xmm_xmmm64, Register.XMM1, Register.XMM2)));
        Assert.Equal(Rflags.Overflow | Rflags.Sign, LazyFlags.Arithmetic(cpu.State));
    }

    [Fact]
    public void HostKeepsItsOwnControlRegister()
    {
        using BareCpu cpu = NewCpu(1.0, 3.0);
        cpu.Mxcsr = AllMasked | 0x6000 | FlushToZero;
        cpu.Run(Instruction.Create(Code.Divpd_xmm_xmmm128, Register.XMM1, Register.XMM2));
        double three = *(double*)cpu.Xmm(2);
        Assert.Equal(BitConverter.DoubleToInt64Bits(2.0 / 3.0), BitConverter.DoubleToInt64Bits(2.0 / three));
        Assert.True(SmallestNormal / three > 0);
    }

    [Fact]
    public void LoadOfReservedBitsIsRefused()
    {
        using BareCpu cpu = NewCpu(0, 0);
        *(uint*)cpu.Memory = 0x1_0000 | AllMasked;
        Assert.Equal(ExceptionVector.GeneralProtection, cpu.Run(Instruction.Create(Code.Ldmxcsr_m32, new MemoryOperand(Register.RBX))));
        Assert.Equal(AllMasked, cpu.Mxcsr);
        *(uint*)cpu.Memory = 0xFFFF;
        Assert.Equal(-1, cpu.Run(Instruction.Create(Code.Ldmxcsr_m32, new MemoryOperand(Register.RBX))));
        Assert.Equal(-1, cpu.Run(Instruction.Create(Code.Stmxcsr_m32, new MemoryOperand(Register.RBX, 8))));
        Assert.Equal(0xFFFFu, *(uint*)(cpu.Memory + 8));
    }

    private static BareCpu NewCpu(double left, double right)
    {
        var cpu = new BareCpu();
        cpu.State->Gpr[3] = (ulong)cpu.Memory;
        for (int i = 0; i < 2; i++)
        {
            ((double*)cpu.Xmm(1))[i] = i == 0 ? left : 1.0;
            ((double*)cpu.Xmm(2))[i] = i == 0 ? right : 1.0;
        }

        return cpu;
    }
}
