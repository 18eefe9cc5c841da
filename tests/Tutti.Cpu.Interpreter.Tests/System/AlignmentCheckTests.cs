using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.System;

/// <summary>
/// #AC: level 3, CR0.AM and RFLAGS.AC together, for operands off their natural boundary. Unaligned 16-byte moves do not raise
/// it: the manual leaves that to the processor. Source: Intel SDM volume 3, "Alignment Check Exception (#AC)".
/// </summary>
public sealed class AlignmentCheckTests
{
    private const ulong Before = 0x1122_3344_5566_7788;

    /// <summary>Operand size, and code whose only operand lies at RBX.</summary>
    public static TheoryData<int, byte[]> Accesses() => new()
    {
        { 1, [0x8A, 0x03] },
        { 1, [0x88, 0x03] },
        { 2, [0x66, 0x8B, 0x03] },
        { 2, [0x66, 0x89, 0x03] },
        { 2, [0x66, 0x01, 0x03] },
        { 2, [0x0F, 0xB7, 0x03] }, // movzx eax, word
        { 4, [0x8B, 0x03] },
        { 4, [0x89, 0x03] },
        { 4, [0x01, 0x03] },
        { 4, [0xF0, 0x0F, 0xC1, 0x03] }, // lock xadd
        { 4, [0xF3, 0x0F, 0x10, 0x03] }, // movss
        { 4, [0xD9, 0x03] }, // fld dword
        { 4, [0x48, 0x89, 0xDE, 0xAD] }, // lodsd
        { 8, [0x48, 0x8B, 0x03] },
        { 8, [0x48, 0x89, 0x03] },
        { 8, [0x48, 0x01, 0x03] },
        { 8, [0x48, 0x87, 0x03] }, // xchg, locked by itself
        { 8, [0xF2, 0x0F, 0x10, 0x03] }, // movsd
        { 8, [0x0F, 0x6F, 0x03] }, // movq mm0
        { 8, [0xDD, 0x03] }, // fld qword
        { 8, [0x48, 0x8D, 0x63, 0x08, 0x50] }, // push rax, to RBX
        { 8, [0x48, 0x89, 0xDC, 0x58] }, // pop rax, from RBX
        { 1, [0x0F, 0x10, 0x03] }, // movups
        { 1, [0x0F, 0x11, 0x03] },
    };

    [Theory]
    [MemberData(nameof(Accesses))]
    public void MisalignedOperandFaultsAtLevel3WithBothBitsSet(int size, byte[] code)
    {
        using TestMachine machine = TestMachine.Long();
        byte[] all = [.. code, 0x0F, 0x0B];
        int lastLength = code.Length > 3 && code[0] == 0x48 ? 1 : code.Length;
        machine.Memory.TryWrite(TestMachine.UserCode, all);
        machine.Memory.TryWrite(TestMachine.Code, all);
        foreach (ulong start in (ulong[])[TestMachine.Data, TestMachine.Data + 0xFF0])
        {
            for (ulong address = start; address <= start + 16; address++)
            {
                foreach (int bits in Enumerable.Range(0, 8))
                {
                    Check(machine, address, size, code.Length - lastLength, (bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0);
                }
            }
        }
    }

    private static void Check(TestMachine machine, ulong address, int size, int offset, bool user, bool mask, bool alignment)
    {
        ProcessorRegisters r = machine.Registers;
        machine.Write(address, Before);
        r.Cr0 = (r.Cr0 & ~Cr0.AlignmentMask) | (mask ? Cr0.AlignmentMask : 0);
        r.Rflags = Rflags.AlwaysOne | (alignment ? Rflags.AlignmentCheck : 0);
        r.Gpr[0] = 1;
        r.Gpr[3] = address;
        r.FxState[4] = 0; // all x87 registers empty
        if (user)
        {
            machine.EnterUser();
        }
        else
        {
            r.Segments[1] = new SegmentRegister(TestMachine.KernelCode, 0, uint.MaxValue, 0xA09B);
            r.Segments[2] = new SegmentRegister(TestMachine.KernelData, 0, uint.MaxValue, 0xC093);
            r.Rip = TestMachine.Code;
            r.Gpr[4] = TestMachine.KernelStack;
        }

        machine.Apply();
        bool faults = user && mask && alignment && address % (ulong)size != 0;
        string what = $"{address:X}, user {user}, AM {mask}, AC {alignment}";
        int vector = machine.RunToStub();
        Assert.True(vector == (faults ? ExceptionVector.AlignmentCheck : ExceptionVector.InvalidOpcode), $"{what}: {vector}");
        if (faults)
        {
            Assert.Equal(0UL, machine.Frame(0));
            Assert.Equal(TestMachine.UserCode + (ulong)offset, machine.Frame(1));
            Assert.Equal(Before, machine.Read<ulong>(address));
        }
    }

    [Fact]
    public void AlignedSseMoveOffItsBoundaryIsGeneralProtectionEvenThen()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Registers.Cr0 |= Cr0.AlignmentMask;
        machine.Registers.Rflags |= Rflags.AlignmentCheck;
        machine.Registers.Gpr[3] = TestMachine.Data + 4;
        machine.EnterUser();
        machine.Memory.TryWrite(TestMachine.UserCode, [0x0F, 0x28, 0x03]);
        Assert.Equal(ExceptionVector.GeneralProtection, machine.RunToStub());
    }
}
