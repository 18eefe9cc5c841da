using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.System;

/// <summary>
/// RCL and RCR whose count is a multiple of all bits and CF: the operand comes round, and no flag changes (Intel SDM volume 2, "RCL/RCR"). AMD
/// leaves OF undefined where the count is not 1, and its processors change it: so may copies that run on them.
/// </summary>
public sealed class RotateTests
{
    private static readonly ulong s_compared = Rflags.Carry | (TestedEngine.CopiesCode && Oracle.HostFeatures.IsAmd ? 0 : Rflags.Overflow);

    [Theory]
    [InlineData(new byte[] { 0xC0, 0x16, 9 })] // rcl byte [rsi],9
    [InlineData(new byte[] { 0xC0, 0x1E, 27 })] // rcr byte [rsi],27
    [InlineData(new byte[] { 0x66, 0xC1, 0x16, 17 })] // rcl word [rsi],17
    [InlineData(new byte[] { 0x66, 0xC1, 0x1E, 17 })] // rcr word [rsi],17
    [InlineData(new byte[] { 0xD2, 0x16 })] // rcl byte [rsi],cl
    [InlineData(new byte[] { 0xD2, 0x1E })] // rcr byte [rsi],cl
    public void TurnAllTheWayRoundChangesNoFlag(byte[] rotate)
    {
        foreach (ulong flags in (ulong[])[0, Rflags.Carry, Rflags.Overflow, Rflags.Carry | Rflags.Overflow])
        {
            foreach (ushort value in (ushort[])[0x9A9A, 0x5A5A, 0xD1D1])
            {
                using TestMachine machine = TestMachine.Long();
                machine.Registers.Gpr[1] = 18;
                machine.Registers.Gpr[6] = TestMachine.Data;
                machine.Registers.Rflags = Rflags.AlwaysOne | flags;
                machine.Write(TestMachine.Data, value);
                machine.Apply();
                machine.Memory.TryWrite(TestMachine.Code, [.. rotate, 0x0F, 0x0B]);
                Assert.Equal(6, machine.RunToStub());
                Assert.Equal(flags & s_compared, machine.Frame(2) & s_compared);
                Assert.Equal(value, machine.Read<ushort>(TestMachine.Data));
            }
        }
    }
}
