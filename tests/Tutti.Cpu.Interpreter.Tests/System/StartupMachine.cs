using System.Runtime.InteropServices;
using Tutti.Devices.InterruptControllers;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.System;

/// <summary>Two vCPUs with the local APICs that machines have, each on its own thread: the first in flat 32-bit mode, the other as power-on leaves it.</summary>
internal sealed unsafe class StartupMachine : IDisposable, ICpuIo, IGuestClock
{
    private const ulong MemorySize = 4 << 20;

    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);

    private readonly void* _ram;
    private readonly IPartition _partition;
    private readonly Lock _chipset = new();
    private readonly ApicBus _bus = new();

    public StartupMachine()
    {
        _ram = NativeMemory.AlignedAlloc((nuint)MemorySize, 4096);
        NativeMemory.Clear(_ram, (nuint)MemorySize);
        Memory = new GuestMemory(GuestMemoryLayout.Pc(MemorySize), (nint)_ram);
        _partition = TestedEngine.Create().CreatePartition(new PartitionOptions
        {
            Memory = Memory,
            Io = this,
            Clock = this,
            Cpu = CpuModel.Host,
            ProcessorCount = 2,
            CreateLocalApic = (index, signals) => new Locked(new LocalApic((uint)index, _bus, this, signals, index == 0), _chipset),
        });
        Processors = [.. _partition.Processors.Cast<SoftwareProcessor>()];
        ProcessorRegisters registers = new();
        Processors[0].GetRegisters(registers);
        registers.Cr0 = Cr0.ProtectionEnable | Cr0.ExtensionType;
        for (int i = 0; i < 6; i++)
        {
            registers.Segments[i] = new SegmentRegister((ushort)(i == 1 ? 8 : 16), 0, uint.MaxValue, (ushort)(i == 1 ? 0xC09B : 0xC093));
        }

        registers.Rip = TestMachine.Code;
        Processors[0].SetRegisters(registers);
    }

    public GuestMemory Memory { get; }

    public SoftwareProcessor[] Processors { get; }

    public long Nanoseconds => 0;

    public DateTimeOffset PowerOnTime => DateTimeOffset.UnixEpoch;

    /// <summary>Runs both until the guest writes the exit port.</summary>
    public void Run()
    {
        Exception? failure = null;
        Thread[] threads = [.. Processors.Select(processor => new Thread(() =>
        {
            try
            {
                Assert.Equal(ProcessorExitKind.Requested, processor.Run().Kind);
            }
            catch (Exception e)
            {
                failure = e;
                RequestExit();
            }
        }))];
        Array.ForEach(threads, thread => thread.Start());
        bool inTime = threads[0].Join(Patience);
        RequestExit();
        Assert.All(threads, thread => Assert.True(thread.Join(Patience), "A vCPU does not stop."));
        Assert.Null(failure);
        Assert.True(inTime, "The guest runs on.");
    }

    public T Read<T>(ulong address)
        where T : unmanaged
    {
        Assert.True(Memory.TryRead(address, out T value));
        return value;
    }

    public void Dispose()
    {
        _partition.Dispose();
        NativeMemory.AlignedFree(_ram);
    }

    public void ReadPort(ushort port, Span<byte> data) => data.Fill(0xFF);

    public void WritePort(ushort port, ReadOnlySpan<byte> data)
    {
        if (port == TestMachine.ExitPort)
        {
            RequestExit();
        }
    }

    public void ReadMmio(ulong address, Span<byte> data) => data.Fill(0xFF);

    public void WriteMmio(ulong address, ReadOnlySpan<byte> data)
    {
    }

    public IClockTimer CreateTimer(Action onExpired) => new Timer();

    private void RequestExit() => Array.ForEach(Processors, processor => processor.RequestExit());

    private sealed class Timer : IClockTimer
    {
        public void Arm(long deadlineNanoseconds)
        {
        }

        public void Cancel()
        {
        }
    }

    /// <summary>Local APICs reach each other, so all of them are behind one lock.</summary>
    private sealed class Locked(LocalApic apic, Lock chipset) : ILocalApic
    {
        public ulong ApicBase => Do(() => apic.ApicBase);

        public byte TaskPriority
        {
            get => Do(() => apic.TaskPriority);
            set => Do(() => apic.TaskPriority = value);
        }

        public long TscOffset
        {
            get => Do(() => apic.TscOffset);
            set => Do(() => apic.TscOffset = value);
        }

        public bool TryWriteApicBase(ulong value) => Do(() => apic.TryWriteApicBase(value));

        public void ReadMmio(uint offset, Span<byte> data)
        {
            lock (chipset)
            {
                apic.ReadMmio(offset, data);
            }
        }

        public void WriteMmio(uint offset, ReadOnlySpan<byte> data)
        {
            lock (chipset)
            {
                apic.WriteMmio(offset, data);
            }
        }

        public bool TryReadMsr(uint msr, out ulong value)
        {
            lock (chipset)
            {
                return apic.TryReadMsr(msr, out value);
            }
        }

        public bool TryWriteMsr(uint msr, ulong value) => Do(() => apic.TryWriteMsr(msr, value));

        public int AcknowledgeInterrupt() => Do(apic.AcknowledgeInterrupt);

        public void Initialize()
        {
            lock (chipset)
            {
                apic.Initialize();
            }
        }

        private T Do<T>(Func<T> call)
        {
            lock (chipset)
            {
                return call();
            }
        }
    }
}
