using Iced.Intel;
using Tutti.Host;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Cpu.Kvm.Tests;

/// <summary>
/// A partition with a little memory, and the threads that run its vCPUs. A write to <see cref="EndPort"/> asks the vCPU
/// that made it to leave, so a guest ends by <c>OUT</c>.
/// </summary>
internal sealed class SmallGuest : ICpuIo, IDisposable
{
    internal const ushort EndPort = 0xF4;
    internal const ulong CodeAddress = 0x1000;
    internal const ulong HandlerAddress = 0x4000;
    internal const ulong DataAddress = 0x3_0000;

    /// <summary>How long anything may take on a busy host before it counts as never.</summary>
    internal static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    /// <summary>The vCPU that the calling thread runs.</summary>
    [ThreadStatic]
    private static IVirtualProcessor? _current;

    private readonly HostMapping _mapping;
    private readonly int[] _threads;

    internal SmallGuest(int processors = 1, long memorySize = 1 << 20, ICpuIo? io = null)
    {
        _mapping = new HostMapping(memorySize);
        Memory = new GuestMemory(GuestMemoryLayout.Pc((ulong)memorySize), _mapping.Address);
        _threads = new int[processors];
        Partition = KvmEngine.CreateKvmPartition(new PartitionOptions
        {
            Memory = Memory,
            Io = io ?? this,
            Clock = new StandingClock(),
            Cpu = CpuModel.Host,
            ProcessorCount = processors,
        });
    }

    internal GuestMemory Memory { get; }

    internal KvmPartition Partition { get; }

    internal IVirtualProcessor Processor => Partition.Processors[0];

    /// <summary>What guests did, in order: "out 3f8 41", "in 60/1", "write fee0 01", "read d0000000/4". Whole after the run.</summary>
    internal List<string> Accesses { get; } = [];

    /// <summary>What ports and addresses answer, by the first byte of each read.</summary>
    internal byte Answer { get; set; } = 0x42;

    /// <summary>Called on the vCPU's thread for each access, after it was noted.</summary>
    internal Action<string>? OnAccess { get; set; }

    internal void Load(ulong address, params byte[] bytes) => Assert.True(Memory.TryWrite(address, bytes));

    /// <summary>Writes code for a mode at an address.</summary>
    internal void Load(ulong address, GuestMode mode, Action<Assembler> write)
    {
        Assembler assembler = new(GuestTables.Bits(mode));
        write(assembler);
        using MemoryStream code = new();
        assembler.Assemble(new StreamCodeWriter(code), address);
        Load(address, code.ToArray());
    }

    /// <summary>Loads code at the code address and puts a vCPU there.</summary>
    internal void Start(GuestMode mode, Action<Assembler> write, int processor = 0)
    {
        ulong address = CodeAddress + ((ulong)processor * 0x800);
        GuestTables.Write(Memory);
        Load(address, mode, write);
        Enter(mode, address, processor);
    }

    /// <summary>Puts a vCPU into a mode at an address.</summary>
    internal void Enter(GuestMode mode, ulong address, int processor = 0)
    {
        ProcessorRegisters registers = GetRegisters(processor);
        GuestTables.Enter(registers, mode, address);
        registers.Gpr[4] -= (ulong)processor * 0x400;
        Partition.Processors[processor].SetRegisters(registers);
    }

    /// <summary>Loads an interrupt or exception handler of a mode for a vector.</summary>
    internal void SetHandler(GuestMode mode, int vector, Action<Assembler> write)
    {
        ulong address = HandlerAddress + ((ulong)vector * 0x40);
        Load(address, mode, write);
        GuestTables.SetHandler(Memory, mode, vector, address);
    }

    /// <summary>Runs vCPU 0 on a thread of its own until it ends; fails the test when it does not.</summary>
    internal ProcessorExit Run() => Finish(BeginRun());

    /// <summary>The same for a guest that ends itself.</summary>
    internal void RunToEnd()
    {
        ProcessorExit exit = Run();
        Assert.True(exit.Kind == ProcessorExitKind.Requested, $"{exit.Kind} {exit.Message} after " + Describe());
    }

    /// <summary>Lets a vCPU run on a thread of its own.</summary>
    internal Task<ProcessorExit> BeginRun(int processor = 0)
    {
        // The thread of an earlier run is none that one could wait for.
        Volatile.Write(ref _threads[processor], 0);
        return Task.Factory.StartNew(
            () =>
            {
                _current = Partition.Processors[processor];
                Volatile.Write(ref _threads[processor], ThreadInterruption.CurrentThread);
                ProcessorExit exit = _current.Run();
                if (exit.Kind != ProcessorExitKind.Requested)
                {
                    Note($"{exit.Kind} {exit.Message}");
                }

                return exit;
            },
            CancellationToken.None,
            TaskCreationOptions.LongRunning,
            TaskScheduler.Default);
    }

    /// <summary>Waits for the end of a run; fails the test when it does not come.</summary>
    internal ProcessorExit Finish(Task<ProcessorExit> run)
    {
        if (!run.Wait(Patience))
        {
            foreach (IVirtualProcessor processor in Partition.Processors)
            {
                processor.RequestExit();
            }

            _ = run.Wait(Patience);
            Assert.Fail("The guest did not end: " + Describe());
        }

        return run.Result;
    }

    /// <summary>Waits until a guest has done something so often; fails the test when it does not.</summary>
    internal void WaitFor(string access, int count = 1)
    {
        long limit = Environment.TickCount64 + (long)Patience.TotalMilliseconds;
        lock (Accesses)
        {
            while (Accesses.Count(a => a == access) < count)
            {
                string? end = Accesses.Find(a => a.StartsWith(nameof(ProcessorExitKind.TripleFault), StringComparison.Ordinal)
                    || a.StartsWith(nameof(ProcessorExitKind.InternalError), StringComparison.Ordinal));
                int left = end != null ? 0 : (int)Math.Max(0, limit - Environment.TickCount64);
                if (left == 0 || !Monitor.Wait(Accesses, left))
                {
                    Assert.Fail($"No '{access}': " + Describe());
                }
            }
        }
    }

    /// <summary>Waits until the thread of a vCPU sleeps in the kernel, as one that has halted does.</summary>
    internal void WaitUntilAsleep(int processor = 0) => Assert.True(
        SpinWait.SpinUntil(
            () => Volatile.Read(ref _threads[processor]) is var thread and not 0
                && File.ReadAllText($"/proc/self/task/{thread}/stat").Split(") ")[1][0] == 'S',
            Patience),
        "The vCPU did not halt.");

    internal ProcessorRegisters GetRegisters(int processor = 0)
    {
        ProcessorRegisters registers = new();
        Partition.Processors[processor].GetRegisters(registers);
        return registers;
    }

    internal T Read<T>(ulong address)
        where T : unmanaged
    {
        Assert.True(Memory.TryRead(address, out T value));
        return value;
    }

    public void ReadPort(ushort port, Span<byte> data)
    {
        data.Clear();
        data[0] = Answer;
        Note($"in {port:x}/{data.Length}");
    }

    public void WritePort(ushort port, ReadOnlySpan<byte> data)
    {
        Note($"out {port:x} {Convert.ToHexString(data)}");
        if (port == EndPort)
        {
            _current!.RequestExit();
        }
    }

    public void ReadMmio(ulong address, Span<byte> data)
    {
        data.Clear();
        data[0] = Answer;
        Note($"read {address:x}/{data.Length}");
    }

    public void WriteMmio(ulong address, ReadOnlySpan<byte> data) => Note($"write {address:x} {Convert.ToHexString(data)}");

    public void Dispose()
    {
        Partition.Dispose();
        _mapping.Dispose();
    }

    private string Describe()
    {
        lock (Accesses)
        {
            return Accesses.Count == 0 ? "it did nothing" : string.Join(", ", Accesses.TakeLast(50));
        }
    }

    private void Note(string access)
    {
        lock (Accesses)
        {
            Accesses.Add(access);
            Monitor.PulseAll(Accesses);
        }

        OnAccess?.Invoke(access);
    }
}
