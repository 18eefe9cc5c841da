using System.Collections.Concurrent;
using Iced.Intel;
using Tutti.Cpu;
using Tutti.Devices;
using Tutti.Devices.Pci;
using Tutti.Memory;
using Tutti.Workers;
using static Iced.Intel.AssemblerRegisters;
using static Tutti.Machine.Tests.AssembledGuest;

namespace Tutti.Machine.Tests;

/// <summary>PCI functions on a board: their doorbells, messages and lines, and their end.</summary>
public sealed class PciBoardTests
{
    /// <summary>Where firmware puts the first range.</summary>
    private const uint Range = 0xC000_0000;

    private static readonly ProcessorExit Requested = new(ProcessorExitKind.Requested);
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    /// <summary>The whole way, in every engine: a guest's write rings, the loop's thread answers with a message, the guest's handler runs.</summary>
    [Theory, SoftwareData, KvmData]
    public void A_doorbell_wakes_the_worker_whose_message_interrupts_the_guest(string engine)
    {
        const byte Vector = 0x40;
        ConcurrentQueue<Exception> failures = [];
        using EventLoop loop = new("test device", failures.Enqueue);
        BellFunction? function = null;
        using VirtualMachine machine = new(new MachineOptions
        {
            MemorySize = 2 << 20,
            Engine = MachineEngines.All.Single(e => e.Name == engine),
            Boot = memory => AssembledGuest.Boot(memory, code =>
            {
                PushAddress(code, () => PowerOff(code));
                code.pop(ax);
                code.mov(__word_ptr[Vector * 4], ax);
                code.mov(__word_ptr[(Vector * 4) + 2], 0);
                Store(code, 0xFEE0_00F0, 0x1FF);
                OutConfig(code, 0x04, 0x0006); // memory space, bus master
                OutConfig(code, 0x40, 0x8000_0000); // MSI-X enable
                Store(code, Range + 0x1000, 0xFEE0_0000);
                Store(code, Range + 0x1008, Vector);
                Store(code, Range + 0x100C, 0);
                code.mov(ebx, Range);
                code.mov(__word_ptr[ebx], 1);
                WaitForInterrupts(code);
            }),
            PciFunctions = [services => function = new BellFunction(services, loop)],
        });
        MachineExit exit = machine.Run(Limit);
        Assert.Equal(MachineExitKind.PoweredOff, exit.Kind);
        Assert.Empty(failures);
        Assert.Equal((1, 0), (function!.Rings, function.BellWrites));
    }

    /// <summary>INTA twice, level-triggered: by the I/O APIC's input 17, or the slave 8259's input 3 (IRQ 11), where slot 1 goes.</summary>
    [Theory]
    [SoftwareData]
    [KvmData]
    public void INTA_interrupts_a_guest_by_whichever_controller_it_uses(string engine)
    {
        foreach (bool usesIoApic in (bool[])[false, true])
        {
            using EventLoop loop = new("test device", _ => { });
            GuestMemory? ram = null;
            using VirtualMachine machine = new(new MachineOptions
            {
                MemorySize = 2 << 20,
                Engine = MachineEngines.All.Single(e => e.Name == engine),
                Boot = memory =>
                {
                    ram = memory;
                    return AssembledGuest.Boot(memory, code => ServeLine(code, usesIoApic));
                },
                PciFunctions = [services => new BellFunction(services, loop)],
            });
            Assert.Equal(MachineExitKind.PoweredOff, machine.Run(Limit).Kind);
            Assert.True(ram!.TryRead(Counter, out int count));
            Assert.Equal(2, count);
        }
    }

    [Fact]
    public void A_doorbell_rings_while_another_holds_the_chipset_lock()
    {
        using EventLoop loop = new("test device", _ => { });
        using ManualResetEventSlim isHeld = new();
        BellFunction? function = null;
        bool rang = false;
        FakeEngine engine = new(cpu =>
        {
            Thread holder = new(() =>
            {
                lock (function!.Services.ChipsetLock)
                {
                    isHeld.Set();
                    rang = SpinWait.SpinUntil(() => function.Rings == 1, Limit);
                }
            });
            holder.Start();
            isHeld.Wait();
            cpu.Options.Io.WriteMmio(Range, [0, 0]);
            holder.Join();
            cpu.Options.Io.WriteMmio(Range, [0]);
            return cpu.PowerOff();
        });
        using VirtualMachine machine = new(Options(engine, services => function = new BellFunction(services, loop)));
        Assert.Equal(MachineExitKind.PoweredOff, machine.Run(Limit).Kind);
        Assert.True(rang);
        Assert.Equal(1, function!.BellWrites);
    }

    [Fact]
    public void Functions_are_made_for_each_board_and_end_before_its_memory_and_its_partition()
    {
        using EventLoop loop = new("test device", _ => { });
        List<BellFunction> functions = [];
        FakeEngine engine = new(cpu =>
        {
            Assert.True(cpu.Options.Memory.TryWrite(0x700, 0x5555_0000 + cpu.PowerOn));
            return cpu.PowerOn < 3 ? cpu.Reset() : cpu.PowerOff();
        });
        using (VirtualMachine machine = new(Options(engine, Make)))
        {
            Assert.Equal(MachineExitKind.PoweredOff, machine.Run(Limit).Kind);
        }

        Assert.Equal([0x5555_0001, 0x5555_0002, 0x5555_0003], functions.Select(function => function.AtEnd));
        Assert.All(functions, function => Assert.False(function.WasPartitionGone));

        BellFunction Make(BoardServices services)
        {
            functions.Add(new BellFunction(services, loop) { IsPartitionGone = () => engine.Partition!.IsDisposed });
            return functions[^1];
        }
    }

    [Fact]
    public void INTA_drives_an_input_of_the_IO_APIC_and_one_of_the_8259s_and_shared_lines_are_ORed()
    {
        using EventLoop loop = new("test device", _ => { });
        List<BellFunction> functions = [];
        FakeEngine engine = new(cpu =>
        {
            lock (functions[0].Services.ChipsetLock)
            {
                functions[0].SetLine(true);
                functions[2].SetLine(true);
                functions[0].SetLine(false);
                functions[2].SetLine(false);
            }

            return cpu.PowerOff();
        })
        {
            BringsInterruptControllers = true,
        };
        Func<BoardServices, PciFunction> make = services =>
        {
            functions.Add(new BellFunction(services, loop));
            return functions[^1];
        };
        using VirtualMachine machine = new(Options(engine, make) with { PciFunctions = [make, make, make] });
        Assert.Equal(MachineExitKind.PoweredOff, machine.Run(Limit).Kind);
        Assert.Equal([(17, true), (11, true), (19, true), (17, false), (19, false), (11, false)], engine.Partition!.Controllers!.Driven);
    }

    [Fact]
    public void A_factory_that_fails_ends_what_was_made_and_the_partition()
    {
        using EventLoop loop = new("test device", _ => { });
        BellFunction? function = null;
        FakeEngine engine = new(_ => Requested);
        using VirtualMachine machine = new(Options(engine, _ => throw new NotSupportedException("no")) with
        {
            PciFunctions = [services => function = new BellFunction(services, loop), _ => throw new NotSupportedException("no")],
        });
        Assert.Equal("no", Assert.Throws<NotSupportedException>(() => machine.Run(Limit)).Message);
        Assert.True(engine.Partition!.IsDisposed);
        Assert.NotNull(function!.AtEnd);
    }

    [Fact]
    public void More_functions_than_slots_are_refused() => Assert.Contains(
        "at most 31",
        Assert.Throws<ArgumentException>(() => new VirtualMachine(
            Options(new FakeEngine(_ => Requested), _ => null!) with { PciFunctions = [.. Enumerable.Repeat<Func<BoardServices, PciFunction>>(_ => null!, 32)] })).Message);

    private static MachineOptions Options(FakeEngine engine, Func<BoardServices, PciFunction> factory) => new()
    {
        MemorySize = 2 << 20,
        Engine = engine,
        Boot = _ => new ProcessorRegisters(),
        PciFunctions = [factory],
    };

    private static void ServeLine(Assembler code, bool usesIoApic)
    {
        const byte Vector = 0x2B;
        SetUpInterrupts(code, irq: 2, () => code.nop());
        Out(code, 0xA1, usesIoApic ? (byte)0xFF : (byte)0xF7);
        PushAddress(code, () =>
        {
            Label again = code.CreateLabel();
            code.pushad();
            Store(code, Range + 8, 0);
            Store(code, 0xFEE0_00B0, 0);
            Out(code, 0xA0, 0x20);
            Out(code, 0x20, 0x20);
            code.inc(__dword_ptr[Counter]);
            code.cmp(__dword_ptr[Counter], 2);
            code.jb(again);
            PowerOff(code);
            code.Label(ref again);
            code.mov(ebx, Range);
            code.mov(__word_ptr[ebx], 1);
            code.popad();
            code.iret();
        });
        code.pop(ax);
        code.mov(__word_ptr[Vector * 4], ax);
        code.mov(__word_ptr[(Vector * 4) + 2], 0);
        if (usesIoApic)
        {
            Out(code, 0x21, 0xFF);
            Store(code, 0xFEE0_00F0, 0x1FF);
            Store(code, 0xFEC0_0000, 0x10 + (2 * 17) + 1);
            Store(code, 0xFEC0_0010, 0);
            Store(code, 0xFEC0_0000, 0x10 + (2 * 17));
            Store(code, 0xFEC0_0010, Vector | (1 << 15) | (1 << 13));
        }

        code.mov(ebx, Range);
        code.mov(__word_ptr[ebx], 1);
        WaitForInterrupts(code);
    }

    private static void Store(Assembler code, uint address, uint value)
    {
        code.mov(ebx, address);
        code.mov(__dword_ptr[ebx], value);
    }

    private static void OutConfig(Assembler code, byte register, uint value)
    {
        code.mov(dx, 0xCF8);
        code.mov(eax, 0x8000_0800 | register);
        code.@out(dx, eax);
        code.mov(dx, 0xCFC);
        code.mov(eax, value);
        code.@out(dx, eax);
    }

    /// <summary>A function in slot 1 with a doorbell at its range's start, whose worker sends vector 0 or asserts INTA; a write at 8 takes INTA back.</summary>
    private sealed class BellFunction : PciFunction, IMmioDevice
    {
        private readonly IDoorbell _bell;
        private readonly MsixTable _msix;
        private ulong _bellAddress;
        private int _rings;

        public BellFunction(BoardServices services, EventLoop loop)
            : base(new PciIdentity(0x1AF4, 0x1234, 0xFF, 0, 0))
        {
            Services = services;
            AddBar(0, PciBarKind.Memory64, 0x4000, this);
            _msix = AddMsix(1, 0, 0x1000, 0x2000);
            _bell = loop.AddDoorbell(() =>
            {
                Interlocked.Increment(ref _rings);
                if (IsMsixEnabled)
                {
                    _msix.Signal(0);
                    return;
                }

                lock (Services.ChipsetLock)
                {
                    SetInterruptLine(true);
                }
            });
        }

        public BoardServices Services { get; }

        public Func<bool>? IsPartitionGone { get; init; }

        public int Rings => Volatile.Read(ref _rings);

        /// <summary>Writes to the doorbell that came as accesses.</summary>
        public int BellWrites { get; private set; }

        /// <summary>What guest memory held when the function ended; null before.</summary>
        public int? AtEnd { get; private set; }

        public bool WasPartitionGone { get; private set; }

        public void SetLine(bool asserted) => SetInterruptLine(asserted);

        public IoResult ReadMmio(ulong offset, Span<byte> data) => IoResult.Unclaimed;

        public IoResult WriteMmio(ulong offset, ReadOnlySpan<byte> data)
        {
            if (offset == 0)
            {
                BellWrites++;
            }
            else if (offset == 8)
            {
                SetInterruptLine(false);
            }
            else if (offset is >= 0x1000 and < 0x2000)
            {
                _msix.WriteTable(offset - 0x1000, data);
            }

            return IoResult.Ok;
        }

        public override void Dispose()
        {
            AtEnd ??= Services.Memory.TryRead(0x700, out int value) ? value : -1;
            WasPartitionGone |= IsPartitionGone?.Invoke() == true;
            _bell.Dispose();
            base.Dispose();
        }

        protected override void OnBarMapped(int bar, ulong? address)
        {
            if (address is ulong place)
            {
                _bellAddress = place;
                Services.Doorbells.Attach(place, _bell);
            }
            else
            {
                Services.Doorbells.Detach(_bellAddress, _bell);
            }
        }
    }
}
