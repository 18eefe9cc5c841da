using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.System;

/// <summary>Registers that guests read without protection, because every processor of the vendor has them.</summary>
public sealed class ModelSpecificTests
{
    public static TheoryData<uint, ulong> Registers
    {
        get
        {
            var data = new TheoryData<uint, ulong>
            {
                { 0x0, 0 }, { 0x1, 0 }, // machine checks of the P5
                { 0x179, 0 }, { 0x17A, 0 }, // no banks
                { 0x1D9, 0 }, { 0x1DB, 0 }, { 0x1DC, 0 }, { 0x1DD, 0 }, { 0x1DE, 0 }, // branch records
                { 0xC001_0016, 0 }, { 0xC001_0019, 0 },
                { 0xC001_001B, 0x2000_0000 },
                { 0xC001_0055, 0 }, { 0xC001_0058, 0 }, { 0xC001_0112, 0 }, { 0xC001_0113, 0 }, { 0xC001_0114, 0x10 }, { 0xC001_0117, 0 },
                { 0xC001_0020, 0 }, { 0xC001_1021, 0 }, { 0xC001_1022, 0 }, { 0xC001_1023, 0 }, { 0xC001_102A, 0 }, { 0xC001_102C, 0 },
            };
            for (uint i = 0; i < 8; i++)
            {
                data.Add(0xC001_0000 + i, 0);
            }

            return data;
        }
    }

    /// <summary>Read; what is read is written back; read again.</summary>
    [Theory]
    [MemberData(nameof(Registers))]
    public void RegisterIsThereAndTakesBackWhatItGave(uint number, ulong value)
    {
        using TestMachine machine = TestMachine.Long();
        machine.Registers.Gpr[1] = number;
        machine.Registers.Gpr[0] = machine.Registers.Gpr[2] = ulong.MaxValue;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [0x0F, 0x32, 0x0F, 0x30, 0x0F, 0x32, 0x0F, 0x0B]); // rdmsr; wrmsr; rdmsr; ud2
        Assert.Equal(6, machine.RunToStub());
        Assert.Equal(TestMachine.Code + 6, machine.Frame(0));
        Assert.Equal(value, machine.Registers.Gpr[0] | (machine.Registers.Gpr[2] << 32));
    }

    /// <summary>A kernel that looks for counters writes one and reads it back: it must not take these for ones that count.</summary>
    [Theory]
    [InlineData(0xC001_0000)]
    [InlineData(0xC001_0003)]
    [InlineData(0xC001_0004)]
    [InlineData(0xC001_0007)]
    [InlineData(0x1D9)]
    public void WhatHasNoEffectIsNotKept(uint number)
    {
        using TestMachine machine = TestMachine.Long();
        machine.Registers.Gpr[1] = number;
        machine.Registers.Gpr[0] = 0xABCD;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [0x0F, 0x30, 0x0F, 0x32, 0x0F, 0x0B]); // wrmsr; rdmsr; ud2
        Assert.Equal(6, machine.RunToStub());
        Assert.Equal(0UL, machine.Registers.Gpr[0]);
    }

    /// <summary>Registers that only a CPUID bit promises, or another vendor's processors have.</summary>
    [Theory]
    [InlineData(0x17B)] // MCG_CTL, without MCG_CAP.CTL_P
    [InlineData(0x400)] // bank 0
    [InlineData(0x1A0)] // IA32_MISC_ENABLE
    [InlineData(0xCE)] // MSR_PLATFORM_INFO
    [InlineData(0x48)] // SPEC_CTRL
    [InlineData(0xDA0)] // IA32_XSS
    [InlineData(0xC001_0200)] // PERFCTR_CORE
    [InlineData(0xC001_0008)]
    [InlineData(0xC001_1020)] // LS_CFG: Linux would show its switch of speculation as a mitigation (ssbd), which it is not here
    public void RegisterThatNothingPromisesIsNotThere(uint number)
    {
        using TestMachine machine = TestMachine.Long();
        machine.Registers.Gpr[1] = number;
        machine.Registers.Gpr[0] = machine.Registers.Gpr[2] = 0x1234_5678_9ABC_DEF0;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [0x0F, 0x32]);
        Assert.Equal(13, machine.RunToStub());

        // ACRN, pull request 6711: a read that faults leaves EDX and EAX alone.
        Assert.Equal((0x1234_5678_9ABC_DEF0UL, 0x1234_5678_9ABC_DEF0UL), (machine.Registers.Gpr[0], machine.Registers.Gpr[2]));
    }

    [Theory]
    [InlineData(0, 6)]
    [InlineData(3, 6)]
    [InlineData(4, 13)]
    [InlineData(0x8000_0000, 13)]
    public void RdpmcReadsFourCounters(uint counter, int vector)
    {
        using TestMachine machine = TestMachine.Long();
        machine.Registers.Gpr[1] = counter;
        machine.Registers.Gpr[0] = machine.Registers.Gpr[2] = ulong.MaxValue;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [0x0F, 0x33, 0x0F, 0x0B]);
        Assert.Equal(vector, machine.RunToStub());
        Assert.Equal(vector == 6 ? 0 : ulong.MaxValue, machine.Registers.Gpr[0]);
    }
}
