using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Interpreter.Tests.Review;

/// <summary>What happens to a guest whose engine gives memory back while it runs.</summary>
public sealed unsafe class ReleaseTests
{
    private const ulong Code = 0x1_0000;

    /// <summary>A page each, called in turn.</summary>
    private const int Functions = 64;

    private const int Releases = 100;

    /// <summary>The guests end when the byte here is no longer 0.</summary>
    private const ulong Stop = 0x9000;

    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    [Fact]
    public void GuestsGoOnRightlyWhileTheirTranslationsAreTakenFromThem()
    {
        using SharedMemoryMachine machine = new(2);
        for (int processor = 0; processor < 2; processor++)
        {
            Write(machine, processor);
            machine.Start(processor, Start(processor));
        }

        foreach (SoftwareProcessor processor in machine.Processors)
        {
            for (int release = 1; release <= Releases; release++)
            {
                processor.ReleaseMemory();
                Wait(() => processor.Watch.FlushCount >= release);
            }
        }

        Assert.True(machine.Memory.TryWrite(Stop, (byte)1));
        for (int processor = 0; processor < 2; processor++)
        {
            Assert.True(machine.Join(processor, Patience));
            Assert.Null(machine.Failure);
            ProcessorRegisters registers = new();
            machine.Processors[processor].GetRegisters(registers);
            Assert.NotEqual(0UL, registers.Gpr[1]);
            Assert.Equal(registers.Gpr[1] * Functions * (Functions + 1) / 2, registers.Gpr[3]);
        }
    }

    [Fact]
    public void HaltedProcessorHasNothingLeftToReleaseSoonAfter()
    {
        using SharedMemoryMachine machine = new(1);
        Write(machine, 0, andHalts: true);
        Assert.True(machine.Memory.TryWrite(Stop, (byte)1));
        machine.Start(0, Start(0));
        // It counts as halted before it begins, too.
        Wait(() => machine.Processors[0].ReleasableBytes > Functions * 48);
        Wait(() => (Volatile.Read(ref machine.Processors[0].State->Attention) & Attention.Halted) != 0);
        Assert.InRange(machine.Processors[0].ReleasableBytes, Functions * 48, 1 << 20);
        machine.Processors[0].ReleaseMemory();
        Wait(() => machine.Processors[0].ReleasableBytes == 0);
        Assert.False(machine.Join(0, TimeSpan.FromMilliseconds(10)), "It halts no more.");
    }

    private static ulong Start(int processor) => Code + ((ulong)processor * (Functions + 1) * 4096);

    private static void Wait(Func<bool> isSo) => Assert.True(SpinWait.SpinUntil(isSo, Patience));

    /// <summary>A loop that counts in RCX, over functions that add up in RBX: function n adds n + 1.</summary>
    private static void Write(SharedMemoryMachine machine, int processor, bool andHalts = false)
    {
        ulong start = Start(processor);
        machine.Assemble(start, a =>
        {
            Label again = a.CreateLabel();
            a.xor(ebx, ebx);
            a.xor(ecx, ecx);
            a.Label(ref again);
            for (int function = 0; function < Functions; function++)
            {
                a.call(start + ((ulong)(function + 1) * 4096));
            }

            a.inc(rcx);
            a.cmp(__byte_ptr[Stop], 0);
            a.je(again);
            if (!andHalts)
            {
                a.@out((byte)(SharedMemoryMachine.ExitPort + processor), al);
            }

            a.hlt();
        });
        for (int function = 0; function < Functions; function++)
        {
            machine.Assemble(start + ((ulong)(function + 1) * 4096), a =>
            {
                a.add(rbx, function + 1);
                a.ret();
            });
        }
    }
}
