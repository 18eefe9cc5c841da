using Tutti.Cpu.Interpreter;
using Tutti.Cpu.Interpreter.Tests.Oracle;
using Tutti.Host;
using Tutti.Memory;
using Tutti.X86;
using static Tutti.Cpu.Translator.Tests.Kernel.KernelLayout;

namespace Tutti.Cpu.Translator.Tests.Kernel;

/// <summary>How a program ended.</summary>
internal enum KernelEnding
{
    Exit,
    TripleFault,
    TooLate,
    InternalError,
}

/// <summary>One engine with RAM for random kernel programs.</summary>
internal sealed class KernelMachine : ICpuIo, IDisposable
{
    private const int LimitMilliseconds = 20_000;

    private readonly HostMapping _mapping = new((long)RamSize);
    private readonly GuestPlatform _platform = new();
    private readonly GuestMemory _memory;
    private readonly IPartition _partition;
    private readonly SoftwareProcessor _processor;
    private readonly Timer _limit;
    private readonly Lock _events = new();
    private bool _takesInterrupts;
    private bool _hasExited;
    private bool _isLate;

    public KernelMachine(SoftwareEngine engine)
    {
        _memory = new GuestMemory(GuestMemoryLayout.Pc(RamSize), _mapping.Address);
        _partition = engine.CreatePartition(new PartitionOptions
        {
            Memory = _memory,
            Io = this,
            Clock = _platform,
            Cpu = CpuModel.Host,
            CreateLocalApic = (_, _) => _platform,
        });
        _processor = (SoftwareProcessor)_partition.Processors[0];
        _limit = new Timer(_ =>
        {
            _isLate = true;
            _processor.RequestExit();
        });
    }

    public ProcessorRegisters Registers { get; } = new();

    public ReadOnlySpan<byte> Ram => Span;

    private Span<byte> Span => _memory.TryGetSpan(0, (int)RamSize, out Span<byte> span) ? span : default;

    public KernelEnding Run(KernelImage image)
    {
        // Only what differs, as a device would write it: blocks of the run before that still hold may be used again.
        for (int at = 0; at < (int)RamSize; at += 256)
        {
            ReadOnlySpan<byte> wanted = image.Ram.AsSpan(at, 256);
            if (!wanted.SequenceEqual(Span.Slice(at, 256)))
            {
                _memory.TryWrite((ulong)at, wanted);
            }
        }

        _hasExited = false;
        _isLate = false;
        _limit.Change(LimitMilliseconds, Timeout.Infinite);
        lock (_events)
        {
            // What came too late for the program before is not for this one.
            _takesInterrupts = image.HasInterrupts;
            _platform.PendingVector = -1;
            _processor.SetRegisters(image.Registers);
        }

        ProcessorExit exit;
        do
        {
            exit = _processor.Run();
        }
        while (exit.Kind == ProcessorExitKind.Requested && !_hasExited && !_isLate);
        _limit.Change(Timeout.Infinite, Timeout.Infinite);
        _processor.GetRegisters(Registers);
        return exit.Kind switch
        {
            ProcessorExitKind.Requested when _hasExited => KernelEnding.Exit,
            ProcessorExitKind.Requested => KernelEnding.TooLate,
            ProcessorExitKind.TripleFault => KernelEnding.TripleFault,
            _ => KernelEnding.InternalError,
        };
    }

    /// <summary>An interrupt, an NMI or only a request to come out, which is all that a program without interrupts gets; from any thread.</summary>
    public void Disturb(SeededRandom random)
    {
        lock (_events)
        {
            switch (_takesInterrupts ? random.Below(10) : 9)
            {
                case < 7:
                    _platform.PendingVector = FirstInterrupt + random.Below(InterruptVectors);
                    _processor.SignalInterrupt();
                    break;
                case 7:
                    _processor.SignalNmi();
                    break;
                default:
                    _processor.RequestExit();
                    break;
            }
        }
    }

    /// <summary>Lookups miss, and there is no reason: who asked for attention was late.</summary>
    public void Distract() => _processor.Signal(0);

    public void Dispose()
    {
        _limit.Dispose();
        _partition.Dispose();
        _mapping.Dispose();
    }

    public void ReadPort(ushort port, Span<byte> data) => data.Fill(0xFF);

    public void WritePort(ushort port, ReadOnlySpan<byte> data)
    {
        if (port == ExitPort)
        {
            _hasExited = true;
            _processor.RequestExit();
        }
    }

    public void ReadMmio(ulong address, Span<byte> data) => data.Fill(0xFF);

    public void WriteMmio(ulong address, ReadOnlySpan<byte> data)
    {
    }
}
