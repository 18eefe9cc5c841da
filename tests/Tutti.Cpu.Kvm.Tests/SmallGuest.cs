using Tutti.Host;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Cpu.Kvm.Tests;

/// <summary>
/// A partition with a little memory, and the thread that runs its vCPUs. A write to <see cref="EndPort"/> asks the vCPU
/// that made it to leave, so a guest ends by <c>OUT</c>.
/// </summary>
internal sealed class SmallGuest : ICpuIo, IDisposable
{
    internal const ushort EndPort = 0xF4;
    internal const ulong CodeAddress = 0x1000;
    internal static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    private readonly HostMapping _mapping;

    internal SmallGuest(int processors = 1, int memorySize = 1 << 20)
    {
        _mapping = new HostMapping(memorySize);
        Memory = new GuestMemory(GuestMemoryLayout.Pc((ulong)memorySize), _mapping.Address);
        Partition = KvmEngine.CreateKvmPartition(new PartitionOptions
        {
            Memory = Memory,
            Io = this,
            Clock = new StandingClock(),
            Cpu = CpuModel.Host,
            ProcessorCount = processors,
        });
    }

    internal GuestMemory Memory { get; }

    internal KvmPartition Partition { get; }

    internal IVirtualProcessor Processor => Partition.Processors[0];

    /// <summary>What guests did, in order: "out 3f8 41", "in 60/1", "write fee0 01", "read d0000000/4".</summary>
    internal List<string> Accesses { get; } = [];

    /// <summary>What ports and addresses answer, by the first byte of each read.</summary>
    internal byte Answer { get; set; } = 0x42;

    /// <summary>Called on the vCPU's thread for each access, after it was noted.</summary>
    internal Action<string>? OnAccess { get; set; }

    internal void Load(ulong address, params byte[] bytes) => Assert.True(Memory.TryWrite(address, bytes));

    /// <summary>Puts vCPU 0 into real mode at the code address, all segments based at 0.</summary>
    internal void StartInRealMode()
    {
        ProcessorRegisters registers = new();
        Processor.GetRegisters(registers);
        registers.Rip = CodeAddress;
        for (int i = 0; i < registers.Segments.Length; i++)
        {
            registers.Segments[i] = new SegmentRegister(0, 0, 0xFFFF, (ushort)(i == 1 ? 0x9B : 0x93));
        }

        registers.Gpr[4] = 0x8000;
        Processor.SetRegisters(registers);
    }

    /// <summary>Runs vCPU 0 on a thread of its own until it ends; fails the test when it does not.</summary>
    internal ProcessorExit Run()
    {
        Task<ProcessorExit> run = Task.Factory.StartNew(Processor.Run, TaskCreationOptions.LongRunning);
        if (!run.Wait(Patience))
        {
            Processor.RequestExit();
            Assert.Fail("The guest did not end: " + string.Join(", ", Accesses));
        }

        return run.Result;
    }

    internal ProcessorRegisters GetRegisters()
    {
        ProcessorRegisters registers = new();
        Processor.GetRegisters(registers);
        return registers;
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
            Processor.RequestExit();
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

    private void Note(string access)
    {
        lock (Accesses)
        {
            Accesses.Add(access);
        }

        OnAccess?.Invoke(access);
    }

    private sealed class StandingClock : IGuestClock
    {
        public long Nanoseconds => 0;

        public DateTimeOffset PowerOnTime => DateTimeOffset.UnixEpoch;

        public IClockTimer CreateTimer(Action onExpired) => throw new NotSupportedException("The engine keeps time itself.");
    }
}
