using System.Diagnostics;
using Tutti.Cpu;
using Tutti.Host;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Engines.Compare;

/// <summary>One engine with one vCPU, RAM and devices that only note what is done to them.</summary>
internal sealed class GuestMachine : IDisposable
{
    /// <summary>How long a guest may run, generous for emulated hosts: compared guests take microseconds.</summary>
    public static readonly TimeSpan Limit = TimeSpan.FromSeconds(10);

    private readonly HostMapping _mapping;
    private readonly IPartition _partition;
    private readonly Watchdog _watchdog;
    private bool _exited;

    /// <param name="engine">What runs the guest.</param>
    /// <param name="ramSize">Bytes of RAM.</param>
    /// <exception cref="PlatformNotSupportedException">This host can't run the engine.</exception>
    public GuestMachine(IEngine engine, ulong ramSize)
    {
        EngineName = engine.Name;
        _mapping = new HostMapping((long)ramSize);
        try
        {
            Memory = new GuestMemory(GuestMemoryLayout.Pc(ramSize), _mapping.Address);
            var platform = new QuietPlatform();
            _partition = engine.CreatePartition(new PartitionOptions
            {
                Memory = Memory,
                Io = Io,
                Clock = platform,
                Cpu = CpuModel.Host,
                CreateLocalApic = engine.BringsInterruptControllers ? null : (_, _) => platform,
            });
        }
        catch
        {
            _mapping.Dispose();
            throw;
        }

        Processor = _partition.Processors[0];
        Io.OnExit = () =>
        {
            _exited = true;
            Processor.RequestExit();
        };
        _watchdog = new Watchdog(Processor);
    }

    public string EngineName { get; }

    public GuestMemory Memory { get; }

    public IoLog Io { get; } = new();

    public IVirtualProcessor Processor { get; }

    /// <summary>Time spent in <see cref="IVirtualProcessor.Run"/>, in stopwatch ticks.</summary>
    public long RunTicks { get; private set; }

    /// <summary>Runs from a state to the guest's end and takes its state out.</summary>
    public void Run(ProcessorRegisters from, EndState end)
    {
        Io.Clear();
        _exited = false;
        Processor.SetRegisters(from);
        _watchdog.Start();
        long start = Stopwatch.GetTimestamp();
        ProcessorExit exit;
        do
        {
            exit = Processor.Run();
        }
        while (exit.Kind == ProcessorExitKind.Requested && !_exited && !_watchdog.HasFired);
        RunTicks += Stopwatch.GetTimestamp() - start;
        _watchdog.Stop();
        Processor.GetRegisters(end.Registers);
        end.Ending = exit.Kind switch
        {
            ProcessorExitKind.Requested when _exited => Ending.Exit,
            ProcessorExitKind.Requested => Ending.TooLate,
            ProcessorExitKind.TripleFault => Ending.TripleFault,
            _ => Ending.InternalError,
        };
        end.Message = exit.Message;
        end.Calls.Clear();
        end.Calls.AddRange(Io.Calls);
    }

    public void Dispose()
    {
        _watchdog.Dispose();
        _partition.Dispose();
        _mapping.Dispose();
    }

    /// <summary>Asks a guest that runs too long to stop.</summary>
    private sealed class Watchdog(IVirtualProcessor processor) : IDisposable
    {
        private readonly Lock _lock = new();
        private Timer? _timer;
        private bool _armed;
        private long _deadline;

        public bool HasFired { get; private set; }

        public void Start()
        {
            lock (_lock)
            {
                _armed = true;
                HasFired = false;
                _deadline = Stopwatch.GetTimestamp() + (long)(Limit.TotalSeconds * Stopwatch.Frequency);
            }

            // One slow tick for all runs: arming a timer for each would cost more than the run.
            _timer ??= new Timer(_ => Look(), null, TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(1));
        }

        public void Stop()
        {
            lock (_lock)
            {
                _armed = false;
            }
        }

        public void Dispose()
        {
            Stop();
            _timer?.Dispose();
        }

        private void Look()
        {
            lock (_lock)
            {
                if (_armed && Stopwatch.GetTimestamp() > _deadline)
                {
                    HasFired = true;
                    processor.RequestExit();
                }
            }
        }
    }
}
