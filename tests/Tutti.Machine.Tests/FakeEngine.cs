using System.Collections.Concurrent;
using System.Text;
using Tutti.Cpu;

namespace Tutti.Machine.Tests;

/// <summary>An engine whose vCPUs run a script of the test instead of guest code, once after each power-on.</summary>
internal sealed class FakeEngine(Func<FakeProcessor, ProcessorExit> script) : IEngine
{
    public string Name => "fake";

    public bool BringsInterruptControllers { get; init; }

    public int MaxProcessors => 4;

    /// <summary>Partitions made so far: one for each power-on.</summary>
    public int PowerOns { get; private set; }

    /// <summary>The partition of the last power-on.</summary>
    public FakePartition? Partition { get; private set; }

    /// <summary>Thrown instead of making a partition.</summary>
    public Exception? CreateFailure { get; init; }

    /// <summary>Thrown when somebody asks for registers.</summary>
    public Exception? RegistersFailure { get; init; }

    /// <summary>Thrown when somebody stops or starts the engine's time.</summary>
    public Exception? TimeFailure { get; init; }

    /// <summary>Called when a partition has just gone.</summary>
    public Action? OnPartitionGone { get; set; }

    public IPartition CreatePartition(PartitionOptions options)
    {
        if (CreateFailure != null)
        {
            throw CreateFailure;
        }

        PowerOns++;
        FakeProcessor[] processors = [.. Enumerable.Range(0, options.ProcessorCount).Select(i => new FakeProcessor(i, PowerOns, options, script))];
        Array.ForEach(processors, p => p.RegistersFailure = RegistersFailure);
        Partition = new FakePartition(this, processors, options);
        return Partition;
    }
}

internal sealed class FakePartition(FakeEngine engine, FakeProcessor[] processors, PartitionOptions options) : IPartition
{
    public IReadOnlyList<IVirtualProcessor> Processors => processors;

    public FakeControllers? Controllers { get; } = engine.BringsInterruptControllers ? new FakeControllers() : null;

    public IInterruptControllers? InterruptControllers => Controllers;

    public PartitionOptions Options => options;

    /// <summary>What was asked of the engine's time, and where the machine's stood then.</summary>
    public ConcurrentQueue<(string What, long Time)> TimeCalls { get; } = [];

    public bool IsDisposed { get; private set; }

    public void PauseTime() => Tell("pause");

    public void ResumeTime() => Tell("resume");

    public void Dispose()
    {
        IsDisposed = true;
        Controllers?.Dispose();
        engine.OnPartitionGone?.Invoke();
    }

    private void Tell(string what)
    {
        Assert.DoesNotContain(processors, p => p.IsRunning);
        TimeCalls.Enqueue((what, options.Clock.Nanoseconds));
        if (engine.TimeFailure != null)
        {
            throw engine.TimeFailure;
        }
    }
}

/// <summary>Controllers that remember what drove them, and may not be used once their partition is gone.</summary>
internal sealed class FakeControllers : IInterruptControllers, IDisposable
{
    private readonly ConcurrentQueue<(int Irq, bool Asserted)> _driven = [];
    private volatile bool _isDisposed;

    public IReadOnlyList<(int Irq, bool Asserted)> Driven => [.. _driven];

    public bool WasUsedAfterDisposal { get; private set; }

    public void SetLine(int irq, bool asserted)
    {
        WasUsedAfterDisposal |= _isDisposed;
        _driven.Enqueue((irq, asserted));
    }

    public void SignalMsi(ulong address, uint data) => throw new NotSupportedException();

    public void Dispose() => _isDisposed = true;
}

internal sealed class FakeProcessor : IVirtualProcessor, IProcessorSignals
{
    private readonly Func<FakeProcessor, ProcessorExit> _script;
    private readonly AutoResetEvent _wake = new(false);
    private volatile bool _isExitWanted;
    private volatile bool _isRunning;
    private bool _hasRun;

    public FakeProcessor(int index, int powerOn, PartitionOptions options, Func<FakeProcessor, ProcessorExit> script)
    {
        Index = index;
        PowerOn = powerOn;
        Options = options;
        _script = script;
        Apic = options.CreateLocalApic?.Invoke(index, this);
    }

    public int Index { get; }

    /// <summary>1 for the first power-on, 2 after the first reset, and so on.</summary>
    public int PowerOn { get; }

    public PartitionOptions Options { get; }

    /// <summary>The machine's APIC for this vCPU; null where the engine brings its own.</summary>
    public ILocalApic? Apic { get; }

    public bool IsRunning => _isRunning;

    /// <summary>Whether somebody waits for this vCPU to leave guest code.</summary>
    public bool IsExitWanted => _isExitWanted;

    public Exception? RegistersFailure { get; set; }

    public ProcessorRegisters Registers { get; } = new();

    public ulong InstructionCount => 7;

    public ManualResetEventSlim Interrupted { get; } = new();

    public void GetRegisters(ProcessorRegisters registers)
    {
        if (RegistersFailure != null)
        {
            throw RegistersFailure;
        }

        registers.Rip = Registers.Rip;
    }

    public void SetRegisters(ProcessorRegisters registers) => Registers.Rip = registers.Rip;

    public ProcessorExit Run()
    {
        _isRunning = true;
        try
        {
            return RunScript();
        }
        finally
        {
            _isRunning = false;
        }
    }

    private ProcessorExit RunScript()
    {
        if (!_hasRun)
        {
            _hasRun = true;
            ProcessorExit exit = _script(this);
            if (exit.Kind != ProcessorExitKind.Requested)
            {
                return exit;
            }
        }

        Halt();
        return new ProcessorExit(ProcessorExitKind.Requested);
    }

    /// <summary>Waits as a halted processor does.</summary>
    public void Halt()
    {
        while (!_isExitWanted)
        {
            _wake.WaitOne();
        }

        _isExitWanted = false;
    }

    public void RequestExit()
    {
        _isExitWanted = true;
        _wake.Set();
    }

    /// <summary>ACPI soft-off: SLP_EN with the sleep type of S5 (5) in bits 12:10.</summary>
    public ProcessorExit PowerOff()
    {
        Out(0x604, 0x00, 0x34);
        return new ProcessorExit(ProcessorExitKind.Requested);
    }

    public ProcessorExit Reset()
    {
        Out(0xCF9, 0x02);
        Out(0xCF9, 0x06);
        return new ProcessorExit(ProcessorExitKind.Requested);
    }

    public void Out(ushort port, params byte[] data) => Options.Io.WritePort(port, data);

    public byte In(ushort port)
    {
        Span<byte> value = stackalloc byte[1];
        Options.Io.ReadPort(port, value);
        return value[0];
    }

    public void Print(string text)
    {
        foreach (byte value in Encoding.ASCII.GetBytes(text))
        {
            Out(0x3F8, value);
        }
    }

    public void SignalInterrupt() => Interrupted.Set();

    public void SignalNmi()
    {
    }

    public void SignalInit()
    {
    }

    public void SignalStartup(byte vector)
    {
    }
}
