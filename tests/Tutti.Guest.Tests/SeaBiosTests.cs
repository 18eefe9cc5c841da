using System.Buffers.Binary;
using System.Text;
using System.Text.RegularExpressions;
using Tutti.Cpu;
using Tutti.Devices;
using Tutti.Machine;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Guest.Tests;

/// <summary>
/// A PC BIOS from its first instruction in real mode: 16-bit and 32-bit code, switches between both, interrupts through the
/// real-mode vector table, and the old devices, as no kernel uses them any more.
/// </summary>
[Collection("guests")]
public partial class SeaBiosTests
{
    private const int MemorySize = 64 << 20;

    [PackageFact(nameof(PackageFile.SeaBios))]
    public void SeaBIOS_runs_until_it_finds_nothing_to_boot()
    {
        DebugPort debug = new("No bootable device.");
        using VirtualMachine machine = MakeMachine(debug, floppy: null, _ => { });
        debug.Expected += () => machine.Stop("seen");
        MachineExit exit = machine.Run(TimeSpan.FromMinutes(1));
        Assert.True(exit.Kind == MachineExitKind.Stopped, $"{exit}\n{debug.Text}");
        Assert.Contains("SeaBIOS (version", debug.Text, StringComparison.Ordinal);
        Assert.Contains($"RamSize: 0x{MemorySize:x8}", debug.Text, StringComparison.Ordinal);
    }

    [PackageFact(nameof(PackageFile.SeaBios), nameof(PackageFile.MemTest))]
    public void MemTest_loads_itself_from_a_floppy_in_real_mode_and_finds_no_error()
    {
        byte[] floppy = new byte[360 << 10];
        File.ReadAllBytes(PackageFile.MemTest.Path).CopyTo(floppy, 0);
        DebugPort debug = new("nothing");
        GuestMemory? ram = null;
        using VirtualMachine machine = MakeMachine(debug, floppy, memory => ram = memory);
        string screen = "";
        using var timer = new Timer(
            _ =>
            {
                screen = ReadScreen(ram);
                if (MemTestProgress().IsMatch(screen))
                {
                    machine.Stop("seen");
                }
            },
            null,
            500,
            200);
        MachineExit exit = machine.Run(TimeSpan.FromMinutes(2));
        Assert.True(exit.Kind == MachineExitKind.Stopped, $"{exit}\n{screen}\n{debug.Text}");
        Assert.Contains("Memtest86+", screen, StringComparison.Ordinal);
        Assert.Matches(@"Errors: 0\b", screen);
    }

    [GeneratedRegex(@"Test #?[1-9]")]
    private static partial Regex MemTestProgress();

    /// <summary>The text that a VGA adapter would show, 25 lines of 80.</summary>
    private static string ReadScreen(GuestMemory? memory)
    {
        byte[] cells = new byte[25 * 80 * 2];
        if (memory is null || !memory.TryRead(0xB_8000, cells))
        {
            return "";
        }

        StringBuilder text = new();
        for (int i = 0; i < cells.Length; i += 2)
        {
            text.Append(cells[i] is >= 0x20 and < 0x7F ? (char)cells[i] : ' ').Append(i % 160 == 158 ? "\n" : "");
        }

        return text.ToString();
    }

    private static VirtualMachine MakeMachine(DebugPort debug, byte[]? floppy, Action<GuestMemory> onMemory)
    {
        byte[] rom = File.ReadAllBytes(PackageFile.SeaBios.Path);
        return new VirtualMachine(new MachineOptions
        {
            MemorySize = MemorySize,
            Engine = MachineEngines.Software,
            Boot = memory =>
            {
                onMemory(memory);
                return PlaceRom(memory, rom);
            },
            AddDevices = (ports, _) =>
            {
                ports.Map(DebugPort.Port, 1, debug);
                if (floppy is not null)
                {
                    FirmwareConfiguration.Add(ports, "floppyimg/test", floppy);
                }
            },
        });
    }

    /// <summary>The ROM where its last byte is the last of the first MiB, and a processor that has just made the reset vector's jump there.</summary>
    private static ProcessorRegisters PlaceRom(GuestMemory memory, byte[] rom)
    {
        Assert.True(memory.TryWrite(0x10_0000 - (ulong)rom.Length, rom));
        ProcessorRegisters registers = new()
        {
            Rip = 0xFFF0,
            Rflags = 2,
            Cr0 = 0x6000_0010,
            IdtLimit = 0xFFFF,
            GdtLimit = 0xFFFF,
            Ldtr = new SegmentRegister(0, 0, 0xFFFF, 0x82),
            Tr = new SegmentRegister(0, 0, 0xFFFF, 0x8B),
        };
        registers.Segments.AsSpan().Fill(new SegmentRegister(0, 0, 0xFFFF, 0x93));
        registers.Segments[1] = new SegmentRegister(0xF000, 0xF_0000, 0xFFFF, 0x9B);
        registers.Dr[6] = 0xFFFF_0FF0;
        registers.Dr[7] = 0x400;
        BinaryPrimitives.WriteUInt16LittleEndian(registers.FxState, 0x37F);
        BinaryPrimitives.WriteUInt32LittleEndian(registers.FxState.AsSpan(24), 0x1F80);
        return registers;
    }

    /// <summary>What SeaBIOS prints its log to when the port reads as 0xE9. Source: SeaBIOS, docs/Debugging.md.</summary>
    private sealed class DebugPort(string expected) : IPortDevice
    {
        public const ushort Port = 0x402;
        private readonly StringBuilder _text = new();

        /// <summary>Told when a line ends and the expected text has come.</summary>
        public event Action? Expected;

        public string Text
        {
            get
            {
                lock (_text)
                {
                    return _text.ToString();
                }
            }
        }

        public IoResult ReadPort(ushort offset, Span<byte> data)
        {
            data.Fill(0xE9);
            return IoResult.Ok;
        }

        public IoResult WritePort(ushort offset, ReadOnlySpan<byte> data)
        {
            lock (_text)
            {
                _text.Append((char)data[0]);
            }

            if (data[0] == '\n' && Text.Contains(expected, StringComparison.Ordinal))
            {
                Expected?.Invoke();
            }

            return IoResult.Ok;
        }
    }

    /// <summary>QEMU's firmware configuration device with one file, read byte by byte. Source: QEMU, docs/specs/fw_cfg.</summary>
    private sealed class FirmwareConfiguration
    {
        private const ushort Signature = 0x00;
        private const ushort Directory = 0x19;
        private const ushort FirstFile = 0x20;
        private readonly Dictionary<ushort, byte[]> _items = [];
        private byte[] _item = [];
        private int _position;

        public static void Add(PortBus ports, string name, byte[] content)
        {
            byte[] directory = new byte[4 + 64];
            BinaryPrimitives.WriteUInt32BigEndian(directory, 1);
            BinaryPrimitives.WriteInt32BigEndian(directory.AsSpan(4), content.Length);
            BinaryPrimitives.WriteUInt16BigEndian(directory.AsSpan(8), FirstFile);
            Encoding.ASCII.GetBytes(name, directory.AsSpan(12));
            FirmwareConfiguration device = new();
            device._items[Signature] = "QEMU"u8.ToArray();
            device._items[Directory] = directory;
            device._items[FirstFile] = content;
            ports.Map(0x510, 1, new Selector(device));
            ports.Map(0x511, 1, new Data(device));
        }

        private sealed class Selector(FirmwareConfiguration device) : IPortDevice
        {
            public IoResult ReadPort(ushort offset, Span<byte> data) => IoResult.Unclaimed;

            public IoResult WritePort(ushort offset, ReadOnlySpan<byte> data)
            {
                // Keys below 0x100 are all that there is; the word's high byte falls on the data register, which ignores it.
                device._item = device._items.GetValueOrDefault(data[0], []);
                device._position = 0;
                return IoResult.Ok;
            }
        }

        private sealed class Data(FirmwareConfiguration device) : IPortDevice
        {
            public IoResult ReadPort(ushort offset, Span<byte> data)
            {
                data[0] = device._position < device._item.Length ? device._item[device._position++] : (byte)0;
                return IoResult.Ok;
            }

            public IoResult WritePort(ushort offset, ReadOnlySpan<byte> data) => IoResult.Ok;
        }
    }
}
