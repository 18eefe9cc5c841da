using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.System;

/// <summary>CPUID of the interpreter, as the partition's model has it.</summary>
public sealed class CpuidTests
{
    private static bool HostHasAvx => global::System.Runtime.Intrinsics.X86.Avx.IsSupported && global::System.Runtime.Intrinsics.X86.Avx2.IsSupported
        && global::System.Runtime.Intrinsics.X86.Fma.IsSupported;

    private static readonly (uint Leaf, uint Subleaf)[] Questions =
    [
        .. Enumerable.Range(0, 0x20).SelectMany(leaf => Enumerable.Range(0, 4).Select(i => ((uint)leaf, (uint)i))),
        .. Enumerable.Range(0, 0x12).Select(leaf => (CpuidLeaf.Hypervisor + (uint)leaf, 0u)),
        .. Enumerable.Range(0, 0x24).SelectMany(leaf => Enumerable.Range(0, 5).Select(i => (CpuidLeaf.ExtendedVendor + (uint)leaf, (uint)i))),
        (0x7FFF_FFFF, 0), (uint.MaxValue, uint.MaxValue),
    ];

    [Fact]
    public void TheHostModelShowsAllThatTheInterpreterHas()
    {
        var cpuid = new ProcessorCpuid(CpuModel.Host, index: 1, processorCount: 3);
        foreach ((uint leaf, uint subleaf) in Questions)
        {
            CpuidResult expected = SoftwareCpuid.Query(leaf, subleaf, new CpuidContext(1, 3, Cr4.OsXsave, 3));
            CpuidResult shown = cpuid.Query(leaf, subleaf, Cr4.OsXsave, 3);
            if (leaf == CpuidLeaf.Xsave && !HostHasAvx)
            {
                continue;
            }

            if (leaf is CpuidLeaf.Features or CpuidLeaf.ExtendedFeatures or CpuidLeaf.ExtendedSignature)
            {
                // Less what runs on the host's own units and the host lacks.
                Assert.Equal((expected.Eax, expected.Edx), (shown.Eax, shown.Edx));
                Assert.Equal((0u, 0u), (shown.Ebx & ~expected.Ebx, shown.Ecx & ~expected.Ecx));
                continue;
            }

            Assert.Equal(expected, shown);
        }
    }

    [Fact]
    public void ALevelShowsItsTableWhateverCr4Says()
    {
        var cpuid = new ProcessorCpuid(CpuModel.X8664V2, index: 1, processorCount: 3);
        CpuidEntry[] table = CpuModel.X8664V2.Build(
            [.. SoftwareCpuid.Supported],
            new CpuidProcessor { ApicId = 1, ProcessorCount = 3, TscKilohertz = 1_000_000 });
        Assert.All(Questions, question => Assert.Equal(
            CpuidTable.Query(table, question.Leaf, question.Subleaf),
            cpuid.Query(question.Leaf, question.Subleaf, ulong.MaxValue, 3)));
        Assert.Equal(0u, cpuid.Query(CpuidLeaf.Features, 0, ulong.MaxValue, 3).Ecx & (1u << 26 | 1u << 27));
        Assert.Equal(new(1, 1, 1_000_000_000, 0), cpuid.Query(CpuidLeaf.TscFrequency, 0, 0, 0));
    }

    [Fact]
    public void AGuestOfALevelSeesItInItsRegisters()
    {
        using TestMachine machine = TestMachine.Long(CpuModel.X8664V2);
        machine.Registers.Gpr[0] = 0x1234_5678_0000_0001;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [0x0F, 0xA2, 0x0F, 0x0B]); // cpuid; ud2
        Assert.Equal(6, machine.RunToStub());
        CpuidResult expected = new ProcessorCpuid(CpuModel.X8664V2, 0, 1).Query(1, 0, 0, 0);
        Assert.Equal(
            (expected.Eax, expected.Ebx, expected.Ecx, expected.Edx),
            (machine.Registers.Gpr[0], machine.Registers.Gpr[3], machine.Registers.Gpr[1], machine.Registers.Gpr[2]));
    }

    /// <summary>Intel SDM volume 3, 10.1.1.</summary>
    [Fact]
    public void EdxAfterResetIsTheModelsSignature()
    {
        using var machine = new TestMachine(CpuModel.X8664V2);
        var registers = new ProcessorRegisters();
        machine.Cpu.GetRegisters(registers);
        Assert.Equal(0x0080_0F12UL, registers.Gpr[2]);
    }

    [Fact]
    public void LevelThreeRunsWhereTheHostHasItsInstructionsAndIsRefusedByNameElsewhere()
    {
        if (!HostHasAvx)
        {
            PlatformNotSupportedException refusal = Assert.Throws<PlatformNotSupportedException>(() => new TestMachine(CpuModel.X8664V3));
            Assert.Matches("^the software engine lacks FMA, .*AVX2.*: the CPU model x86-64-v3 needs them; choose another with --cpu$", refusal.Message);
            return;
        }

        var cpuid = new ProcessorCpuid(CpuModel.X8664V3, 0, 1);
        Assert.Equal(new(7, 576, 832, 0), cpuid.Query(CpuidLeaf.Xsave, 0, Cr4.OsXsave, 3));
        Assert.Equal(new(7, 832, 832, 0), cpuid.Query(CpuidLeaf.Xsave, 0, Cr4.OsXsave, 7));
        Assert.Equal(new(256, 576, 0, 0), cpuid.Query(CpuidLeaf.Xsave, 2, Cr4.OsXsave, 7));
        Assert.Equal(1u << 5, cpuid.Query(CpuidLeaf.ExtendedFeatures, 0, 0, 7).Ebx & (1u << 5));
        Assert.Equal(0u, cpuid.Query(CpuidLeaf.ExtendedFeatures, 0, 0, 7).Ecx);
    }

    /// <summary>Level 2 shows no XSAVE, and a guest that turns it on all the same gets no AVX.</summary>
    [Fact]
    public void LevelTwoHasNoAvx()
    {
        using TestMachine machine = TestMachine.Long(CpuModel.X8664V2);
        machine.Registers.Cr4 |= Cr4.OsXsave;
        machine.Registers.Gpr[0] = 7;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [0x31, 0xC9, 0x31, 0xD2, 0x0F, 0x01, 0xD1]); // xor ecx,ecx; xor edx,edx; xsetbv
        Assert.Equal(13, machine.RunToStub());
    }

    /// <summary>Where IA32_APIC_BASE.EN is clear there is no APIC to see, in either leaf (Intel SDM volume 3, 12.4.3; AMD APM volume 3, E.3.2).</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void TheApicsBitFollowsItsEnable(bool level)
    {
        using TestMachine machine = TestMachine.Long(level ? CpuModel.X8664V2 : CpuModel.Host);
        foreach (uint leaf in (uint[])[1, 0x8000_0001])
        {
            foreach (bool enabled in (bool[])[true, false, true])
            {
                machine.ApicBase = enabled ? 0xFEE0_0900UL : 0xFEE0_0100UL;
                machine.Registers.Rip = TestMachine.Code;
                machine.Registers.Gpr[0] = leaf;
                machine.Apply();
                machine.Memory.TryWrite(TestMachine.Code, [0x0F, 0xA2, 0x0F, 0x0B]); // cpuid; ud2
                Assert.Equal(6, machine.RunToStub());
                Assert.Equal(enabled, (machine.Registers.Gpr[2] & (1u << 9)) != 0);
            }
        }
    }

    [Fact]
    public void AnswersAllocateNothing()
    {
        ProcessorCpuid[] models = [new(CpuModel.Host, 0, 1), new(CpuModel.X8664V2, 0, 1)];
        uint sum = Ask(models);
        long before = GC.GetAllocatedBytesForCurrentThread();
        sum += Ask(models);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        Assert.NotEqual(0u, sum);
    }

    private static uint Ask(ProcessorCpuid[] models)
    {
        uint sum = 0;
        foreach (ProcessorCpuid cpuid in models)
        {
            foreach ((uint leaf, uint subleaf) in Questions)
            {
                sum += cpuid.Query(leaf, subleaf, Cr4.OsXsave, 3).Eax;
            }
        }

        return sum;
    }
}
