using System.Diagnostics;
using System.Text;
using Tutti.Boot;
using Tutti.Cpu;

namespace Tutti.Machine.Tests;

public sealed class VirtualMachineTests
{
    private static readonly ProcessorExit Requested = new(ProcessorExitKind.Requested);
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(30);

    [Fact]
    public void AcpiSoftOffPowersOff() => Assert.Equal(MachineExitKind.PoweredOff, Run(PowerOff).Kind);

    [Fact]
    public void OutputBeforePowerOffIsDelivered()
    {
        FakeConsole console = new();
        MachineExit exit = Run(cpu => Then(PowerOff, cpu, () => cpu.Print(new string('x', 200_000) + "end")), console);
        Assert.Equal(MachineExitKind.PoweredOff, exit.Kind);
        Assert.Equal(200_003, console.Text.Length);
        Assert.EndsWith("xend", console.Text);
    }

    [Fact]
    public void PipedInputReachesTheGuestWholeThroughTheSixteenByteFifo()
    {
        FakeConsole console = new();
        StringBuilder sent = new();
        for (int i = 0; sent.Length < 300_000; i++)
        {
            string line = $"line {i}\n";
            sent.Append(line);
        }

        for (int at = 0; at < sent.Length; at += 4096)
        {
            console.Type(sent.ToString(at, Math.Min(4096, sent.Length - at)));
        }

        console.EndInput();
        StringBuilder received = new();
        MachineExit exit = Run(
            cpu =>
            {
                cpu.Out(0x3FA, 0x07);
                cpu.Out(0x3FC, 0x0B);
                while (received.Length < sent.Length)
                {
                    if ((cpu.In(0x3FD) & 1) != 0)
                    {
                        received.Append((char)cpu.In(0x3F8));
                    }
                }

                return PowerOff(cpu);
            },
            console);
        Assert.Equal(MachineExitKind.PoweredOff, exit.Kind);
        Assert.Equal(sent.ToString(), received.ToString());
    }

    [Fact]
    public void InputWaitsForRequestToSend()
    {
        FakeConsole console = new();
        console.Type("k");
        bool early = false;
        MachineExit exit = Run(
            cpu =>
            {
                cpu.Out(0x3FC, 0x01);
                Thread.Sleep(50);
                early = (cpu.In(0x3FD) & 1) != 0;
                cpu.Out(0x3FC, 0x03);
                Assert.True(SpinWait.SpinUntil(() => (cpu.In(0x3FD) & 1) != 0, Limit));
                Assert.Equal((byte)'k', cpu.In(0x3F8));
                return PowerOff(cpu);
            },
            console);
        Assert.Equal(MachineExitKind.PoweredOff, exit.Kind);
        Assert.False(early);
    }

    [Fact]
    public void EndOfInputLetsTheGuestGoOn()
    {
        FakeConsole console = new();
        console.EndInput();
        MachineExit exit = Run(cpu => Then(PowerOff, cpu, () => Thread.Sleep(50)), console);
        Assert.Equal(MachineExitKind.PoweredOff, exit.Kind);
    }

    [Fact]
    public void ResetLoadsTheGuestAgainIntoZeroedMemory()
    {
        List<byte> found = [];
        FakeEngine engine = new(cpu =>
        {
            Assert.True(cpu.Options.Memory.TryRead(0x5000, out byte value));
            found.Add(value);
            Assert.True(cpu.Options.Memory.TryWrite(0x5000, (byte)0x77));
            return cpu.PowerOn < 3 ? Reset(cpu) : PowerOff(cpu);
        });
        int boots = 0;
        using VirtualMachine machine = new(Options(engine, null) with
        {
            Boot = _ =>
            {
                boots++;
                return new ProcessorRegisters();
            },
        });
        Assert.Equal(MachineExitKind.PoweredOff, machine.Run(Limit).Kind);
        Assert.Equal([0, 0, 0], found);
        Assert.Equal((3, 3), (boots, engine.PowerOns));
    }

    [Fact]
    public void ResetEndsAMachineWithNoReboot()
    {
        using VirtualMachine machine = new(Options(new FakeEngine(Reset), null) with { NoReboot = true });
        Assert.Equal(MachineExitKind.Reset, machine.Run(Limit).Kind);
    }

    [Fact]
    public void ResetAfterAPanicLineIsAPanic()
    {
        FakeConsole console = new();
        MachineExit exit = Run(cpu => Then(Reset, cpu, () => cpu.Print("[    0.9] Kernel panic - not syncing: no init\r\n")), console);
        Assert.Equal(MachineExitKind.GuestPanic, exit.Kind);
        Assert.True(exit.PanicSeen);
    }

    [Fact]
    public void PanicLineAloneEndsNothing()
    {
        FakeConsole console = new();
        MachineExit exit = Run(cpu => Then(PowerOff, cpu, () => cpu.Print("Kernel panic - not syncing")), console);
        Assert.Equal(MachineExitKind.PoweredOff, exit.Kind);
        Assert.True(exit.PanicSeen);
    }

    [Fact]
    public void PanicDeviceReportsAPanic() => Assert.Equal(MachineExitKind.GuestPanic, Run(cpu =>
    {
        Assert.Equal(1, cpu.In(0x505) & 1);
        cpu.Out(0x505, 1);
        return Requested;
    }).Kind);

    [Fact]
    public void TripleFaultShowsTheRegisters()
    {
        MachineExit exit = Run(cpu =>
        {
            cpu.Registers.Rip = 0xABCDEF;
            return new ProcessorExit(ProcessorExitKind.TripleFault);
        });
        Assert.Equal(MachineExitKind.TripleFault, exit.Kind);
        Assert.Contains("0000000000abcdef", exit.Registers);
    }

    [Fact]
    public void EngineThatThrowsIsAnInternalErrorOfThisMachineOnly()
    {
        MachineExit exit = Run(_ => throw new InvalidOperationException("broken engine"));
        Assert.Equal(MachineExitKind.InternalError, exit.Kind);
        Assert.Contains("broken engine", exit.Message);
    }

    [Fact]
    public void DeviceThatThrowsInATimerIsAnInternalErrorOfThisMachineOnly()
    {
        MachineExit exit = Run(cpu =>
        {
            cpu.Options.Clock.CreateTimer(() => throw new InvalidOperationException("broken device")).Arm(1);
            return Requested;
        });
        Assert.Equal(MachineExitKind.InternalError, exit.Kind);
        Assert.Contains("broken device", exit.Message);
        Assert.NotNull(exit.Registers);
    }

    [Fact]
    public void ConsoleThatThrowsIsAnInternalErrorOfThisMachineOnly()
    {
        using VirtualMachine machine = new(Options(new FakeEngine(_ => Requested), null) with { Console = new BrokenConsole() });
        MachineExit exit = machine.Run(TimeSpan.FromSeconds(30));
        Assert.Equal(MachineExitKind.InternalError, exit.Kind);
        Assert.Contains("broken console", exit.Message);
    }

    private sealed class BrokenConsole : IConsoleBackend
    {
        public int Read(Span<byte> buffer) => throw new InvalidOperationException("broken console");

        public void CancelRead()
        {
        }

        public bool Write(ReadOnlySpan<byte> data) => true;

        public void CancelWrite()
        {
        }
    }

    [Fact]
    public void IdleMachineTimesOutOnTime()
    {
        Stopwatch watch = Stopwatch.StartNew();
        using VirtualMachine machine = new(Options(new FakeEngine(_ => Requested), new FakeConsole()));
        Assert.Equal(MachineExitKind.TimedOut, machine.Run(TimeSpan.FromMilliseconds(100)).Kind);
        Assert.InRange(watch.ElapsedMilliseconds, 100, 8000);
    }

    [Fact]
    public void StopFromAnotherThreadEndsTheRunEvenWhenTheConsoleIsStuck()
    {
        FakeConsole console = new();
        console.Gate.Reset();
        using VirtualMachine machine = new(Options(
            new FakeEngine(cpu =>
            {
                cpu.Print(new string('x', 1 << 20));
                return Requested;
            }),
            console));
        using Timer stop = new(_ => machine.Stop("enough"), null, 100, Timeout.Infinite);
        Stopwatch watch = Stopwatch.StartNew();
        MachineExit exit = machine.Run(Limit);
        Assert.Equal((MachineExitKind.Stopped, "enough"), (exit.Kind, exit.Message));
        Assert.InRange(watch.ElapsedMilliseconds, 90, 8000);
    }

    [Fact]
    public void PowerOffWaitsForAProcessorThatASlowConsoleHoldsUp()
    {
        FakeConsole console = new();
        console.Gate.Reset();
        using ManualResetEventSlim isIn = new();
        using ManualResetEventSlim isOff = new();
        FakeEngine engine = new(cpu =>
        {
            if (cpu.Index == 0)
            {
                isIn.Wait();
                PowerOff(cpu);
                isOff.Set();
            }
            else
            {
                isIn.Set();
                isOff.Wait();
                cpu.Print(new string('x', 200_000));
            }

            return Requested;
        });
        MachineOptions options = Options(engine, console) with { ProcessorCount = 2 };
        using VirtualMachine machine = new(options) { Patience = TimeSpan.FromMilliseconds(400) };
        using Timer read = new(_ => console.Gate.Set(), null, 1500, Timeout.Infinite);
        Assert.Equal(MachineExitKind.PoweredOff, machine.Run(Limit).Kind);
        Assert.Equal(200_000, console.Text.Length);
    }

    [Fact]
    public void GuestTimeStandsStillWhilePaused()
    {
        using ManualResetEventSlim running = new();
        IGuestClock? clock = null;
        using VirtualMachine machine = new(Options(
            new FakeEngine(cpu =>
            {
                clock = cpu.Options.Clock;
                running.Set();
                return Requested;
            }),
            null));
        Thread runner = new(() => machine.Run(Limit));
        runner.Start();
        Assert.True(running.Wait(Limit));
        machine.Pause();
        long paused = clock!.Nanoseconds;
        Thread.Sleep(30);
        Assert.Equal(paused, clock.Nanoseconds);
        machine.Resume();
        Assert.True(SpinWait.SpinUntil(() => clock.Nanoseconds > paused, Limit));
        machine.Stop();
        Assert.True(runner.Join(Limit));
    }

    [Fact]
    public void PowerButtonRaisesTheSystemControlInterrupt()
    {
        using ManualResetEventSlim ready = new();
        byte status = 0;
        using VirtualMachine machine = new(Options(
            new FakeEngine(cpu =>
            {
                ready.Set();
                Assert.True(SpinWait.SpinUntil(() => ((status = cpu.In(0x601)) & 1) != 0, Limit));
                return PowerOff(cpu);
            }),
            null));
        using CancellationTokenSource cancel = new();
        Thread press = new(() =>
        {
            ready.Wait();
            machine.PressPowerButton();
        });
        press.Start();
        Assert.Equal(MachineExitKind.PoweredOff, machine.Run(Limit).Kind);
        Assert.Equal(1, status & 1);
        press.Join();
    }

    [Fact]
    public void PortsAndAddressesOfNobodyReadAsOnes() => Assert.Equal(MachineExitKind.PoweredOff, Run(cpu =>
    {
        Assert.Equal(0xFF, cpu.In(0x1234));
        byte[] value = new byte[8];
        cpu.Options.Io.ReadMmio(0xF000_0000, value);
        Assert.All(value, b => Assert.Equal(0xFF, b));
        cpu.Options.Io.WriteMmio(0xF000_0000, value);
        return PowerOff(cpu);
    }).Kind);

    [Fact]
    public void AccessesThatNobodyOwnsDoNotWaitForADeviceThatIsBusy()
    {
        FakeConsole console = new();
        console.Gate.Reset();
        byte[] found = [0, 0];
        FakeEngine engine = new(cpu =>
        {
            if (cpu.Index == 1)
            {
                cpu.Print(new string('x', 1 << 20));
                return Requested;
            }

            // Until the other one is in the UART, which holds it up, and the chipset lock with it.
            Thread.Sleep(200);
            found[0] = cpu.In(0x1234);
            cpu.Out(0x1234, 0);
            cpu.Options.Io.ReadMmio(0xF000_0000, found.AsSpan(1));
            cpu.Options.Io.WriteMmio(0xF000_0000, [0]);
            console.Gate.Set();
            return PowerOff(cpu);
        });
        using VirtualMachine machine = new(Options(engine, console) with { ProcessorCount = 2 });
        Assert.Equal(MachineExitKind.PoweredOff, machine.Run(Limit).Kind);
        Assert.Equal([0xFF, 0xFF], found);
    }

    [Fact]
    public void BootErrorComesOutOfRun()
    {
        using VirtualMachine machine = new(Options(new FakeEngine(PowerOff), new FakeConsole()) with
        {
            Boot = _ => throw new BootException("no kernel"),
        });
        Assert.Equal("no kernel", Assert.Throws<BootException>(() => machine.Run(Limit)).Message);
    }

    [Theory]
    [InlineData(0, 4096)]
    [InlineData(5, 4096)]
    [InlineData(1, 0)]
    [InlineData(1, 4097)]
    public void ImpossibleMachineIsRefused(int processors, long memory)
    {
        MachineOptions options = Options(new FakeEngine(PowerOff), null) with { ProcessorCount = processors, MemorySize = memory };
        Assert.Throws<ArgumentException>(() => new VirtualMachine(options));
    }

    private static MachineExit Run(Func<FakeProcessor, ProcessorExit> script, FakeConsole? console = null)
    {
        using VirtualMachine machine = new(Options(new FakeEngine(script), console));
        return machine.Run(Limit);
    }

    private static MachineOptions Options(IEngine engine, FakeConsole? console) => new()
    {
        MemorySize = 2 << 20,
        Engine = engine,
        Console = console,
        Boot = _ => new ProcessorRegisters(),
    };

    private static ProcessorExit PowerOff(FakeProcessor cpu) => cpu.PowerOff();

    private static ProcessorExit Reset(FakeProcessor cpu) => cpu.Reset();

    private static ProcessorExit Then(Func<FakeProcessor, ProcessorExit> last, FakeProcessor cpu, Action first)
    {
        first();
        return last(cpu);
    }
}
