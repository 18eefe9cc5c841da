using Tutti.Cpu.Interpreter.Tests.System;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.Review;

/// <summary>Deliveries that fail again and again, and faults around task switches.</summary>
public sealed class DeliveryTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);

    /// <summary>
    /// #AC is benign, so one met while delivering another never becomes a double fault: processors loop there for good (Intel
    /// and AMD parts alike, CVE-2015-5307), and the engine may too, but whoever asks must get the vCPU back.
    /// </summary>
    [Fact]
    public void AlignmentCheckThatIsDeliveredOntoAMisalignedStackCanBeStopped()
    {
        using TestMachine machine = TestMachine.Protected();
        machine.SetGate(ExceptionVector.AlignmentCheck, 0xEE, TestMachine.UserCode32);
        machine.Memory.TryWrite(TestMachine.UserCode, [0xA1, 0x01, 0xA0, 0, 0]);
        machine.Registers.Cr0 |= Cr0.AlignmentMask;
        machine.Registers.Rflags |= Rflags.AlignmentCheck;
        machine.EnterUser();
        machine.Registers.Gpr[4] = TestMachine.UserStack + 1;
        machine.Apply();
        RunUntilStopped(machine.Cpu);
    }

    [Fact]
    public void FaultingFarJumpAfterATaskSwitchPointsAtItself()
    {
        using TestMachine machine = TestMachine.Protected();
        uint[] tss = new uint[26];
        tss[8] = (uint)TestMachine.UserCode;
        tss[9] = (uint)Rflags.AlwaysOne;
        tss[14] = (uint)TestMachine.InnerStack;
        tss[18] = tss[20] = tss[21] = TestMachine.KernelData;
        tss[19] = TestMachine.KernelCode;
        for (int i = 0; i < tss.Length; i++)
        {
            machine.Write(TestMachine.OtherTss + ((ulong)i * 4), tss[i]);
        }

        // jmp far OtherTss:0; there: two NOPs, then jmp far to a null selector.
        machine.Memory.TryWrite(TestMachine.Code, [0xEA, 0, 0, 0, 0, (byte)TestMachine.OtherTssSelector, 0]);
        machine.Memory.TryWrite(TestMachine.UserCode, [0x90, 0x90, 0xEA, 0, 0, 0, 0, 0, 0]);
        Assert.Equal(ExceptionVector.GeneralProtection, machine.RunToStub());
        Assert.Equal(TestMachine.UserCode + 2, machine.Frame(1, 4));
    }

    private static void RunUntilStopped(SoftwareProcessor processor)
    {
        ProcessorExit exit = default;
        Thread worker = new(() => exit = processor.Run()) { IsBackground = true };
        worker.Start();
        Thread.Sleep(100);
        processor.RequestExit();
        Assert.True(worker.Join(Patience), "The vCPU does not stop.");
        Assert.Equal(ProcessorExitKind.Requested, exit.Kind);
    }
}
