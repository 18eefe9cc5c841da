using System.Buffers.Binary;
using System.Text;
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
public class SeaBiosTests
{
    private const int MemorySize = 64 << 20;

    [PackageFact(nameof(PackageFile.SeaBios))]
    public void SeaBIOS_runs_until_it_finds_nothing_to_boot()
    {
        byte[] rom = File.ReadAllBytes(PackageFile.SeaBios.Path);
        DebugPort debug = new();
        using VirtualMachine machine = new(new MachineOptions
        {
            MemorySize = MemorySize,
            Engine = MachineEngines.All[0],
            Boot = memory => PlaceRom(memory, rom),
            AddDevices = ports =>
            {
                ports.Map(DebugPort.Port, 1, debug);
                HostBridge.Add(ports);
            },
        });
        debug.Expected += () => machine.Stop("seen");
        MachineExit exit = machine.Run(TimeSpan.FromMinutes(1));
        Assert.True(exit.Kind == MachineExitKind.Stopped, $"{exit}\n{debug.Text}");
        Assert.Contains("SeaBIOS (version", debug.Text, StringComparison.Ordinal);
        Assert.Contains($"RamSize: 0x{MemorySize:x8}", debug.Text, StringComparison.Ordinal);
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
    private sealed class DebugPort : IPortDevice
    {
        public const ushort Port = 0x402;
        private readonly StringBuilder _text = new();

        /// <summary>Told once the last line of a start without a disk has come.</summary>
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

            if (data[0] == '\n' && Text.Contains("No bootable device.", StringComparison.Ordinal))
            {
                Expected?.Invoke();
            }

            return IoResult.Ok;
        }
    }

    /// <summary>
    /// A PCI host bridge alone on its bus, by whose identity SeaBIOS knows a virtual machine, and that says that all memory
    /// below 1 MiB is RAM. Source: Intel 82441FX data sheet, "CONFADD", "CONFDATA", "PAM".
    /// </summary>
    private sealed class HostBridge
    {
        private readonly byte[] _configuration = new byte[256];
        private readonly AddressRegister _address = new();

        private HostBridge()
        {
            BinaryPrimitives.WriteUInt32LittleEndian(_configuration, 0x1237_8086);
            BinaryPrimitives.WriteUInt32LittleEndian(_configuration.AsSpan(8), 0x0600_0002);
            BinaryPrimitives.WriteUInt32LittleEndian(_configuration.AsSpan(0x2C), 0x1100_1AF4);
            _configuration.AsSpan(0x59, 7).Fill(0x33);
        }

        public static void Add(PortBus ports)
        {
            HostBridge bridge = new();
            ports.MapDword(0xCF8, bridge._address);
            ports.Map(0xCFC, 4, new DataRegister(bridge), maxWidth: 4);
        }

        private sealed class AddressRegister : IPortDevice
        {
            public uint Value { get; private set; }

            public IoResult ReadPort(ushort offset, Span<byte> data)
            {
                BinaryPrimitives.WriteUInt32LittleEndian(data, Value);
                return IoResult.Ok;
            }

            public IoResult WritePort(ushort offset, ReadOnlySpan<byte> data)
            {
                Value = BinaryPrimitives.ReadUInt32LittleEndian(data);
                return IoResult.Ok;
            }
        }

        private sealed class DataRegister(HostBridge bridge) : IPortDevice
        {
            public IoResult ReadPort(ushort offset, Span<byte> data)
            {
                // Enabled, bus 0, device 0, function 0; there is no other.
                uint address = bridge._address.Value;
                if ((address & 0xFFFF_FF00) != 0x8000_0000)
                {
                    return IoResult.Unclaimed;
                }

                bridge._configuration.AsSpan((int)(address & 0xFC) + offset, data.Length).CopyTo(data);
                return IoResult.Ok;
            }

            // Nothing that the bridge's registers switch is there: memory below 1 MiB stays RAM.
            public IoResult WritePort(ushort offset, ReadOnlySpan<byte> data) => IoResult.Ok;
        }
    }
}
