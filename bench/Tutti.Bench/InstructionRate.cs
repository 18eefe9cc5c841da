using System.Diagnostics;
using System.Runtime.InteropServices;
using Tutti.Cpu;
using Tutti.Host;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Bench;

/// <summary>Guest instructions a second in 64-bit integer code, in an engine by itself: no devices, no interrupts.</summary>
internal static class InstructionRate
{
    private const ulong MemorySize = 16 << 20;
    private const ulong PageTables = 0x1000;

    /// <summary>Runs a program a few times and gives instructions run and the best time in seconds.</summary>
    public static (ulong Instructions, double Seconds) Measure(IEngine engine, byte[] program, int runs)
    {
        ulong instructions = 0;
        double best = double.MaxValue;
        for (int i = 0; i < runs; i++)
        {
            using var mapping = new HostMapping((long)MemorySize);
            var memory = new GuestMemory(GuestMemoryLayout.Pc(MemorySize), mapping.Address);
            var io = new ExitPort();
            using IPartition partition = engine.CreatePartition(new PartitionOptions
            {
                Memory = memory,
                Io = io,
                Clock = new RunningClock(),
                Cpu = CpuModel.Host,
                CreateLocalApic = (_, _) => new NoApic(),
            });
            IVirtualProcessor processor = partition.Processors[0];
            io.Processor = processor;
            Load(memory, program);
            processor.SetRegisters(LongModeRegisters());
            ulong before = processor.InstructionCount;
            var watch = Stopwatch.StartNew();
            ProcessorExit exit = processor.Run();
            watch.Stop();
            if (exit.Kind != ProcessorExitKind.Requested)
            {
                throw new InvalidOperationException($"The benchmark guest ended with {exit.Kind} {exit.Message}.");
            }

            instructions = processor.InstructionCount - before;
            best = Math.Min(best, watch.Elapsed.TotalSeconds);
        }

        return (instructions, best);
    }

    private static void Load(GuestMemory memory, byte[] program)
    {
        memory.TryWrite(GuestProgram.Code, program);

        // The first GiB mapped to itself by 2 MiB pages.
        memory.TryWrite(PageTables, PageTables + 0x1003UL);
        memory.TryWrite(PageTables + 0x1000, PageTables + 0x2003UL);
        for (ulong i = 0; i < 512; i++)
        {
            memory.TryWrite(PageTables + 0x2000 + (i * 8), (i << 21) | 0x83);
        }
    }

    private static ProcessorRegisters LongModeRegisters()
    {
        var registers = new ProcessorRegisters
        {
            Rip = GuestProgram.Code,
            Cr0 = Cr0.ProtectionEnable | Cr0.ExtensionType | Cr0.NumericError | Cr0.WriteProtect | Cr0.Paging,
            Cr3 = PageTables,
            Cr4 = Cr4.PhysicalAddressExtension | Cr4.OsFxsr,
            Efer = Efer.LongModeEnable | Efer.LongModeActive,
        };
        registers.Gpr[4] = GuestProgram.StackTop;
        var data = new SegmentRegister(0x10, 0, uint.MaxValue, 0xC093);
        Array.Fill(registers.Segments, data);
        registers.Segments[1] = new SegmentRegister(0x8, 0, uint.MaxValue, 0xA09B);
        registers.Tr = new SegmentRegister(0x18, 0, 0x67, 0x8B);
        return registers;
    }

    private sealed class ExitPort : ICpuIo
    {
        public IVirtualProcessor? Processor { get; set; }

        public void ReadPort(ushort port, Span<byte> data) => data.Fill(0xFF);

        public void WritePort(ushort port, ReadOnlySpan<byte> data) => Processor!.RequestExit();

        public void ReadMmio(ulong address, Span<byte> data) => data.Fill(0xFF);

        public void WriteMmio(ulong address, ReadOnlySpan<byte> data)
        {
        }
    }

    private sealed class RunningClock : IGuestClock
    {
        private readonly long _start = Stopwatch.GetTimestamp();

        public long Nanoseconds => Stopwatch.GetElapsedTime(_start).Ticks * 100;

        public DateTimeOffset PowerOnTime { get; } = DateTimeOffset.UnixEpoch;

        public IClockTimer CreateTimer(Action onExpired) => throw new NotSupportedException("The benchmark has no timers.");
    }

    private sealed class NoApic : ILocalApic
    {
        public ulong ApicBase => 0xFEE0_0900;

        public byte TaskPriority { get; set; }

        public long TscOffset { get; set; }

        public bool TryWriteApicBase(ulong value) => false;

        public void ReadMmio(uint offset, Span<byte> data) => data.Clear();

        public void WriteMmio(uint offset, ReadOnlySpan<byte> data)
        {
        }

        public bool TryReadMsr(uint msr, out ulong value)
        {
            value = 0;
            return false;
        }

        public bool TryWriteMsr(uint msr, ulong value) => false;

        public int AcknowledgeInterrupt() => -1;

        public void Initialize()
        {
        }
    }
}
