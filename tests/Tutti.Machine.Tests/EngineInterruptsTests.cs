using System.Diagnostics;
using Tutti.Cpu;
using Tutti.Host;

namespace Tutti.Machine.Tests;

/// <summary>Machines whose engine brings interrupt controllers and time of its own, and what is left of them when that engine fails.</summary>
public sealed class EngineInterruptsTests
{
    private static readonly ProcessorExit Requested = new(ProcessorExitKind.Requested);
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(30);

    [Fact]
    public void DevicesDriveTheLinesOfTheEnginesControllers()
    {
        FakeEngine engine = Engine(cpu =>
        {
            // COM1 and COM3 share IRQ 4, wired-OR: each has its transmitter-empty interrupt enabled (OUT2 gates it).
            cpu.Out(0x3FC, 0x08);
            cpu.Out(0x3F9, 0x02);
            cpu.Out(0x3EC, 0x08);
            cpu.Out(0x3E9, 0x02);
            cpu.Out(0x3F9, 0x00);
            cpu.Out(0x3E9, 0x00);
            return cpu.PowerOff();
        });
        Assert.Equal(MachineExitKind.PoweredOff, Run(engine).Kind);
        Assert.Equal([(4, true), (4, false)], engine.Partition!.Controllers!.Driven);
    }

    [Fact]
    public void MachineTimersReachTheEnginesControllers()
    {
        FakeEngine engine = new(cpu =>
        {
            // The RTC's periodic interrupt at 1024 Hz: rate 6 in register A, PIE in register B.
            cpu.Out(0x70, 0x0A);
            cpu.Out(0x71, 0x26);
            cpu.Out(0x70, 0x0B);
            cpu.Out(0x71, 0x42);
            return Requested;
        })
        {
            BringsInterruptControllers = true,
        };
        using VirtualMachine machine = new(Options(engine));
        Thread runner = new(() => machine.Run(Limit));
        runner.Start();
        Assert.True(SpinWait.SpinUntil(() => engine.Partition?.Controllers?.Driven.Contains((8, true)) == true, Limit));
        machine.Stop();
        Assert.True(runner.Join(Limit));
    }

    [Fact]
    public void ControllersAndIntervalTimerOfTheMachineStayOut()
    {
        List<byte> found = [];
        FakeEngine engine = Engine(cpu =>
        {
            Assert.Null(cpu.Apic);
            Assert.Null(cpu.Options.CreateLocalApic);
            foreach (ushort port in (ushort[])[0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1, 0x40, 0x41, 0x42, 0x43, 0x61])
            {
                cpu.Out(port, 0);
                found.Add(cpu.In(port));
            }

            byte[] version = new byte[4];
            cpu.Options.Io.WriteMmio(0xFEC0_0000, [1, 0, 0, 0]);
            cpu.Options.Io.ReadMmio(0xFEC0_0010, version);
            found.AddRange(version);
            return cpu.PowerOff();
        });
        Assert.Equal(MachineExitKind.PoweredOff, Run(engine).Kind);
        Assert.Equal(15, found.Count);
        Assert.All(found, value => Assert.Equal(0xFF, value));
    }

    [Fact]
    public void ControllersAndIntervalTimerOfTheMachineAreThereForAnEngineWithoutThem()
    {
        byte mask = 0, portB = 0;
        byte[] version = new byte[4];
        FakeEngine engine = new(cpu =>
        {
            Assert.NotNull(cpu.Apic);
            cpu.Out(0x21, 0xA5);
            mask = cpu.In(0x21);
            cpu.Out(0x61, 0x03);
            portB = cpu.In(0x61);
            cpu.Options.Io.WriteMmio(0xFEC0_0000, [1, 0, 0, 0]);
            cpu.Options.Io.ReadMmio(0xFEC0_0010, version);
            return cpu.PowerOff();
        });
        Assert.Equal(MachineExitKind.PoweredOff, Run(engine).Kind);
        Assert.Equal((0xA5, 0x03), (mask, portB & 0x0F));
        Assert.Equal([0x20, 0, 23, 0], version);
    }

    [Fact]
    public void EngineThatPromisesControllersAndHasNoneIsRefusedAndItsPartitionEnds()
    {
        BrokenEngine engine = new();
        using VirtualMachine machine = new(Options(engine));
        Assert.Contains("brings no interrupt controllers", Assert.Throws<InvalidOperationException>(() => machine.Run(Limit)).Message);
        Assert.True(engine.IsDisposed);
    }

    [Fact]
    public void EnginesTimeStopsAndGoesOnWithTheMachinesWhileNoProcessorRuns()
    {
        using ManualResetEventSlim running = new();
        FakeEngine engine = Engine(_ =>
        {
            running.Set();
            return Requested;
        });
        using VirtualMachine machine = new(Options(engine));
        Thread runner = new(() => machine.Run(Limit));
        runner.Start();
        Assert.True(running.Wait(Limit));
        machine.Resume();
        Assert.Empty(engine.Partition!.TimeCalls);
        machine.Pause();
        machine.Pause();
        long paused = engine.Partition.Options.Clock.Nanoseconds;
        machine.Resume();
        machine.Resume();
        machine.Pause();
        machine.Resume();
        machine.Stop();
        Assert.True(runner.Join(Limit));
        (string What, long Time)[] calls = [.. engine.Partition.TimeCalls];
        Assert.Equal(["pause", "resume", "pause", "resume"], calls.Select(c => c.What));
        Assert.Equal(paused, calls[0].Time);
        Assert.True(calls[1].Time >= paused);
    }

    [Fact]
    public void MachineThatIsPausedBeforeItStartsBeginsWithItsTimeStopped()
    {
        bool hasRun = false;
        FakeEngine engine = Engine(cpu =>
        {
            hasRun = true;
            return cpu.PowerOff();
        });
        using VirtualMachine machine = new(Options(engine));
        machine.Pause();
        MachineExit? exit = null;
        Thread runner = new(() => exit = machine.Run(Limit));
        runner.Start();
        Assert.True(SpinWait.SpinUntil(() => engine.Partition is { TimeCalls.IsEmpty: false }, Limit));
        Thread.Sleep(30);
        Assert.False(hasRun);
        Assert.Equal(0, engine.Partition!.Options.Clock.Nanoseconds);
        machine.Resume();
        Assert.True(runner.Join(Limit));
        Assert.Equal(MachineExitKind.PoweredOff, exit!.Kind);
        Assert.Equal(["pause", "resume"], engine.Partition.TimeCalls.Select(c => c.What));
    }

    [Fact]
    public void ConsoleInputDuringAResetDrivesNoLineOfThePartitionThatIsGone()
    {
        FakeConsole console = new();
        List<FakePartition> partitions = [];
        FakeEngine engine = Engine(cpu =>
        {
            // COM1 takes input and asks for interrupts.
            cpu.Out(0x3F9, 0x01);
            cpu.Out(0x3FC, 0x0B);
            return cpu.PowerOn == 1 ? cpu.Reset() : cpu.PowerOff();
        });
        using VirtualMachine machine = new(Options(engine) with { Console = console });
        bool wasRead = false;
        engine.OnPartitionGone = () =>
        {
            partitions.Add(engine.Partition!);
            if (partitions.Count == 1)
            {
                console.Type("x");
                wasRead = SpinWait.SpinUntil(() => machine.HasReadConsole, Limit);
            }
        };
        Assert.Equal(MachineExitKind.PoweredOff, machine.Run(Limit).Kind);
        Assert.True(wasRead);
        Assert.False(partitions[0].Controllers!.WasUsedAfterDisposal);
    }

    [Fact]
    public void ProcessorsThatMayBeGoneAreNotAskedToLeave()
    {
        FakeEngine engine = Engine(cpu => cpu.PowerOff());
        Assert.Equal(MachineExitKind.PoweredOff, Run(engine).Kind);
        FakeProcessor processor = (FakeProcessor)engine.Partition!.Processors[0];
        processor.RequestExit();
        processor.Halt();
        ProcessorGate gate = new([processor]);
        gate.BeginClose();
        Assert.True(processor.IsExitWanted);
        processor.Halt();
        gate.End();
        gate.BeginClose();
        Assert.False(processor.IsExitWanted);
        Assert.False(gate.Enter());
    }

    [Fact]
    public void ResumeStartsNothingOnceTheProcessorsAreToStopForGood()
    {
        using ManualResetEventSlim goOn = new();
        FakeProcessor? processor = null;
        FakeEngine engine = Engine(cpu =>
        {
            processor = cpu;
            goOn.Wait();
            return Requested;
        });
        using VirtualMachine machine = new(Options(engine)) { Patience = TimeSpan.FromSeconds(5) };
        MachineExit? exit = null;
        Thread runner = new(() => exit = machine.Run(TimeSpan.FromMilliseconds(50)));
        runner.Start();
        Assert.True(SpinWait.SpinUntil(() => processor is { IsExitWanted: true }, Limit));
        machine.Resume();
        goOn.Set();
        Assert.True(runner.Join(Limit));
        Assert.Equal(MachineExitKind.TimedOut, exit!.Kind);
        Assert.False(processor!.IsRunning);
    }

    [Fact]
    public void MachineSurvivesPausesAndButtonsDuringManyResets()
    {
        FakeEngine engine = Engine(cpu => cpu.PowerOn < 200 ? cpu.Reset() : cpu.PowerOff());
        using VirtualMachine machine = new(Options(engine));
        MachineExit? exit = null;
        Thread runner = new(() => exit = machine.Run(Limit));
        runner.Start();
        Stopwatch watch = Stopwatch.StartNew();
        while (!runner.Join(0) && watch.Elapsed < Limit)
        {
            machine.PressPowerButton();
            machine.Pause();
            machine.Resume();
        }

        Assert.Equal((MachineExitKind.PoweredOff, 200), (exit?.Kind, engine.PowerOns));
    }

    [Fact]
    public void EngineThatTheHostCannotRunIsToldAtPowerOnAndNothingIsLeft()
    {
        PlatformNotSupportedException error = new("no such hardware");
        FakeConsole console = new();
        using (VirtualMachine machine = new(Options(new FakeEngine(_ => Requested) { CreateFailure = error }) with { Console = console }))
        {
            Assert.Same(error, Assert.Throws<PlatformNotSupportedException>(() => machine.Run(Limit)));
            machine.Stop();
            machine.Pause();
            machine.Resume();
            machine.PressPowerButton();
        }

        Assert.Empty(console.Text);
    }

    [Fact]
    public void HostThatGoesAwayUnderARunningEngineIsOneLineAndSaysThatRegistersAreLost()
    {
        HostException gone = HostRefusal();
        MachineExit exit = Run(new FakeEngine(_ => throw gone) { RegistersFailure = gone, BringsInterruptControllers = true });
        Assert.Equal(MachineExitKind.InternalError, exit.Kind);
        Assert.Equal($"vCPU 0: {gone.Message}", exit.Message);
        Assert.Equal($"vCPU 0: its registers could not be read: {gone.Message}", exit.Registers);
    }

    [Fact]
    public void EngineErrorComesWithItsMessageAndTheRegisters()
    {
        MachineExit exit = Run(Engine(cpu =>
        {
            cpu.Registers.Rip = 0x1234;
            return new ProcessorExit(ProcessorExitKind.InternalError, "emulation failure");
        }));
        Assert.Equal((MachineExitKind.InternalError, "vCPU 0: emulation failure"), (exit.Kind, exit.Message));
        Assert.Contains("0000000000001234", exit.Registers);
        Assert.Contains("code at RIP: 00 00", exit.Registers);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void EngineThatCannotStopItsTimeEndsTheMachine(bool isPausedFirst)
    {
        using ManualResetEventSlim running = new();
        HostException gone = HostRefusal();
        FakeEngine engine = new(_ =>
        {
            running.Set();
            return Requested;
        })
        {
            BringsInterruptControllers = true,
            TimeFailure = gone,
        };
        using VirtualMachine machine = new(Options(engine));
        if (isPausedFirst)
        {
            machine.Pause();
            Assert.Same(gone, Assert.Throws<HostException>(() => machine.Run(Limit)));
            Assert.True(engine.Partition!.IsDisposed);
            return;
        }

        MachineExit? exit = null;
        Thread runner = new(() => exit = machine.Run(Limit));
        runner.Start();
        Assert.True(running.Wait(Limit));
        machine.Pause();
        Assert.True(runner.Join(Limit));
        Assert.Equal((MachineExitKind.InternalError, $"guest time: {gone.Message}"), (exit!.Kind, exit.Message));
    }

    [Fact]
    public void MoreProcessorsThanTheEngineHasAreRefusedWithTheLimit() => Assert.Contains(
        "1 to 4",
        Assert.Throws<ArgumentException>(() => new VirtualMachine(Options(Engine(_ => Requested)) with { ProcessorCount = 5 })).Message);

    private static FakeEngine Engine(Func<FakeProcessor, ProcessorExit> script) => new(script) { BringsInterruptControllers = true };

    private static MachineExit Run(FakeEngine engine)
    {
        using VirtualMachine machine = new(Options(engine));
        return machine.Run(Limit);
    }

    private static MachineOptions Options(IEngine engine) => new()
    {
        MemorySize = 2 << 20,
        Engine = engine,
        Boot = _ => new ProcessorRegisters(),
    };

    /// <summary>A real error of the host: two mappings of half of the address space do not fit.</summary>
    private static HostException HostRefusal() => Assert.Throws<HostException>(() =>
    {
        using HostMapping first = new(1L << 46);
        using HostMapping second = new(1L << 46);
    });

    private sealed class BrokenEngine : IEngine, IPartition
    {
        public string Name => "broken";

        public bool BringsInterruptControllers => true;

        public int MaxProcessors => 1;

        public bool IsDisposed { get; private set; }

        public IReadOnlyList<IVirtualProcessor> Processors => [];

        public IPartition CreatePartition(PartitionOptions options) => this;

        public void Dispose() => IsDisposed = true;
    }
}
