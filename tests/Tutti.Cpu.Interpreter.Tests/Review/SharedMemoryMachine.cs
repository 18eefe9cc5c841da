using System.Runtime.InteropServices;
using Iced.Intel;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.Review;

/// <summary>Several vCPUs in 64-bit mode over one identity-mapped RAM, each with a thread; port accesses go to the test.</summary>
internal sealed unsafe class SharedMemoryMachine : IDisposable, ICpuIo, IGuestClock
{
    public const ulong MemorySize = 4 << 20;
    public const ulong Tables = 0x1000;

    /// <summary>A vCPU that writes here is done.</summary>
    public const byte ExitPort = 0xF4;

    private readonly void* _ram;
    private readonly IPartition _partition;
    private readonly List<Thread> _threads = [];

    public SharedMemoryMachine(int processors)
    {
        _ram = NativeMemory.AlignedAlloc((nuint)MemorySize, 4096);
        NativeMemory.Clear(_ram, (nuint)MemorySize);
        Memory = new GuestMemory(GuestMemoryLayout.Pc(MemorySize), (nint)_ram);
        const ulong Rights = PageTableEntry.Present | PageTableEntry.Writable;
        Memory.TryWrite(Tables, (Tables + 0x1000) | Rights);
        Memory.TryWrite(Tables + 0x1000, (Tables + 0x2000) | Rights);
        for (ulong page = 0; page < 2; page++)
        {
            Memory.TryWrite(Tables + 0x2000 + (page * 8), (page << 21) | Rights | PageTableEntry.PageSize);
        }

        _partition = TestedEngine.Create().CreatePartition(new PartitionOptions
        {
            Memory = Memory,
            Io = this,
            Clock = this,
            Cpu = CpuModel.Host,
            ProcessorCount = processors,
            CreateLocalApic = (_, _) => new Oracle.GuestPlatform(),
        });
        Processors = [.. _partition.Processors.Cast<SoftwareProcessor>()];
    }

    public GuestMemory Memory { get; }

    public SoftwareProcessor[] Processors { get; }

    /// <summary>What a read of a port does, on the vCPU's thread.</summary>
    public Action<ushort>? PortRead { get; set; }

    public Exception? Failure { get; private set; }

    public long Nanoseconds => 0;

    public DateTimeOffset PowerOnTime => DateTimeOffset.UnixEpoch;

    public void Assemble(ulong address, Action<Assembler> write)
    {
        var assembler = new Assembler(64);
        write(assembler);
        var stream = new MemoryStream();
        assembler.Assemble(new StreamCodeWriter(stream), address);
        Assert.True(Memory.TryWrite(address, stream.ToArray()));
    }

    public static void Exit(Assembler a)
    {
        a.@out(ExitPort, AssemblerRegisters.al);
        a.hlt();
    }

    /// <summary>Starts a vCPU at an address, with a stack of its own.</summary>
    public void Start(int processor, ulong rip)
    {
        ProcessorRegisters registers = new();
        Processors[processor].GetRegisters(registers);
        registers.Cr0 = Cr0.ProtectionEnable | Cr0.Paging | Cr0.ExtensionType;
        registers.Cr3 = Tables;
        registers.Cr4 = Cr4.PhysicalAddressExtension | Cr4.OsFxsr;
        registers.Efer = Efer.LongModeEnable | Efer.LongModeActive;
        registers.Segments[1] = new SegmentRegister(8, 0, uint.MaxValue, 0xA09B);
        registers.Activity = ProcessorActivity.Running;
        registers.Rip = rip;
        registers.Gpr[4] = 0x1F_0000 + ((ulong)processor * 0x1000);
        Processors[processor].SetRegisters(registers);
        Thread thread = new(() =>
        {
            try
            {
                ProcessorExit exit = Processors[processor].Run();
                Assert.Equal(ProcessorExitKind.Requested, exit.Kind);
            }
            catch (Exception e)
            {
                Failure = e;
            }
        })
        { IsBackground = true };
        _threads.Add(thread);
        thread.Start();
    }

    /// <summary>Waits for a vCPU's thread, in the order of the starts.</summary>
    public bool Join(int start, TimeSpan patience) => _threads[start].Join(patience);

    public void Dispose()
    {
        foreach (SoftwareProcessor processor in Processors)
        {
            processor.RequestExit();
        }

        foreach (Thread thread in _threads)
        {
            if (!thread.Join(TimeSpan.FromSeconds(10)))
            {
                // It still uses the memory: better a leak than a crash of the tests.
                return;
            }
        }

        _partition.Dispose();
        NativeMemory.AlignedFree(_ram);
    }

    public void ReadPort(ushort port, Span<byte> data)
    {
        data.Clear();
        PortRead?.Invoke(port);
    }

    public void WritePort(ushort port, ReadOnlySpan<byte> data)
    {
        foreach (SoftwareProcessor processor in Processors)
        {
            if (port == ExitPort + processor.Index)
            {
                processor.RequestExit();
            }
        }
    }

    public void ReadMmio(ulong address, Span<byte> data) => data.Fill(0xFF);

    public void WriteMmio(ulong address, ReadOnlySpan<byte> data)
    {
    }

    public IClockTimer CreateTimer(Action onExpired) => throw new NotSupportedException();
}
