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

    public IPartition CreatePartition(PartitionOptions options)
    {
        PowerOns++;
        return new Partition([.. Enumerable.Range(0, options.ProcessorCount).Select(i => new FakeProcessor(i, PowerOns, options, script))]);
    }

    private sealed class Partition(FakeProcessor[] processors) : IPartition
    {
        public IReadOnlyList<IVirtualProcessor> Processors => processors;

        public void Dispose() => Array.ForEach(processors, p => p.RequestExit());
    }
}

internal sealed class FakeProcessor : IVirtualProcessor, IProcessorSignals
{
    private readonly Func<FakeProcessor, ProcessorExit> _script;
    private readonly AutoResetEvent _wake = new(false);
    private volatile bool _isExitWanted;
    private bool _hasRun;

    public FakeProcessor(int index, int powerOn, PartitionOptions options, Func<FakeProcessor, ProcessorExit> script)
    {
        Index = index;
        PowerOn = powerOn;
        Options = options;
        _script = script;
        Apic = options.CreateLocalApic!(index, this);
    }

    public int Index { get; }

    /// <summary>1 for the first power-on, 2 after the first reset, and so on.</summary>
    public int PowerOn { get; }

    public PartitionOptions Options { get; }

    public ILocalApic Apic { get; }

    public ProcessorRegisters Registers { get; } = new();

    public ulong InstructionCount => 7;

    public ManualResetEventSlim Interrupted { get; } = new();

    public void GetRegisters(ProcessorRegisters registers) => registers.Rip = Registers.Rip;

    public void SetRegisters(ProcessorRegisters registers) => Registers.Rip = registers.Rip;

    public ProcessorExit Run()
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
