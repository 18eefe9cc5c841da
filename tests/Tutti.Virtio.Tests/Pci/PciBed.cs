using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Tutti.Devices;
using Tutti.Devices.Pci;
using Tutti.Memory;
using Tutti.Virtio.Pci;

namespace Tutti.Virtio.Tests.Pci;

/// <summary>A worker whose thread is the test: what has been rung runs when the test says so.</summary>
internal sealed class StepWorker : IDeviceWorker
{
    private readonly List<Bell> _bells = [];

    public IDoorbell AddDoorbell(Action work)
    {
        Bell bell = new(this, work);
        _bells.Add(bell);
        return bell;
    }

    /// <summary>Runs what has been rung, and what that rings, at most so many times; returns how many times.</summary>
    internal int Run(int most = 1000)
    {
        for (int runs = 0; ; runs++)
        {
            Bell? bell = null;
            foreach (Bell candidate in _bells)
            {
                if (candidate.IsRung)
                {
                    bell = candidate;
                    break;
                }
            }

            if (bell == null || runs == most)
            {
                return runs;
            }

            bell.IsRung = false;
            bell.Work();
        }
    }

    private sealed class Bell(StepWorker worker, Action work) : IDoorbell
    {
        internal Action Work { get; } = work;

        internal bool IsRung { get; set; }

        public void Ring() => IsRung = true;

        public void Dispose() => worker._bells.Remove(this);
    }
}

/// <summary>A PCI bus with RAM in two regions, between guards that nobody may write.</summary>
internal sealed unsafe class PciBed : IMessageInterrupts, IDoorbellMap, IInterruptLine, IDisposable
{
    internal const int RegionSize = 0x8_0000;
    internal const ulong HighStart = 0x1_0000_0000;
    internal const ulong RegisterBar = 0xD000_0000;
    internal const ulong MsixBar = 0xD001_0000;
    private const int GuardSize = 0x1_0000;
    private const byte Guard = 0xA5;
    private readonly byte* _block;

    internal PciBed()
    {
        _block = (byte*)NativeMemory.AlignedAlloc((2 * GuardSize) + (2 * RegionSize), 4096);
        new Span<byte>(_block, (2 * GuardSize) + (2 * RegionSize)).Fill(Guard);
        new Span<byte>(_block + GuardSize, 2 * RegionSize).Clear();
        Memory = new GuestMemory([new GuestMemoryRegion(0, RegionSize), new GuestMemoryRegion(HighStart, RegionSize)], (nint)(_block + GuardSize));
        Bus = new PciBus(Mmio, new PortBus(), this, [.. Enumerable.Repeat(this, PciBus.InterruptCount)]);
    }

    internal GuestMemory Memory { get; }

    internal MmioBus Mmio { get; } = new();

    internal PciBus Bus { get; }

    internal StepWorker Worker { get; } = new();

    internal Lock Chipset { get; } = new();

    /// <summary>Messages by their data.</summary>
    internal Dictionary<uint, int> Messages { get; } = [];

    internal Dictionary<ulong, IDoorbell> Doorbells { get; } = [];

    internal bool Line { get; private set; }

    IMessageInterrupt IMessageInterrupts.Create() => new Message(this);

    void IDoorbellMap.Attach(ulong address, IDoorbell doorbell) => Doorbells.Add(address, doorbell);

    void IDoorbellMap.Detach(ulong address, IDoorbell doorbell) => Assert.True(Doorbells.Remove(address));

    void IInterruptLine.Set(bool asserted) => Line = asserted;

    /// <summary>Puts a device on the bus, as firmware does.</summary>
    internal VirtioPciFunction Plug(VirtioDevice device)
    {
        VirtioPciFunction function = new(device, Memory, this, Chipset);
        int slot = Bus.Add(function);
        Span<byte> bar = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bar, RegisterBar);
        Bus.WriteConfig(0, slot << 3, 0x10, bar[..4]);
        Bus.WriteConfig(0, slot << 3, 0x14, bar[4..]);
        BinaryPrimitives.WriteUInt64LittleEndian(bar, MsixBar);
        Bus.WriteConfig(0, slot << 3, 0x18, bar[..4]);
        return function;
    }

    internal int MessageCount(uint data) => Messages.GetValueOrDefault(data);

    internal Span<byte> Ram(ulong address, int length)
    {
        Assert.True(Memory.TryGetSpan(address, length, out Span<byte> span));
        return span;
    }

    /// <summary>Whether nobody has written outside RAM.</summary>
    internal bool AreGuardsWhole() =>
        !new ReadOnlySpan<byte>(_block, GuardSize).ContainsAnyExcept(Guard)
        && !new ReadOnlySpan<byte>(_block + GuardSize + (2 * RegionSize), GuardSize).ContainsAnyExcept(Guard);

    public void Dispose() => NativeMemory.AlignedFree(_block);

    private sealed class Message(PciBed bed) : IMessageInterrupt
    {
        private uint _data;

        public void SetMessage(ulong address, uint data) => _data = data;

        public void Signal()
        {
            lock (bed.Messages)
            {
                bed.Messages[_data] = bed.Messages.GetValueOrDefault(_data) + 1;
            }
        }

        public void Dispose()
        {
        }
    }
}
