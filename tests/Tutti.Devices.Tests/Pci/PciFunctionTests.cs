using System.Buffers.Binary;
using Tutti.Devices.Pci;

namespace Tutti.Devices.Tests.Pci;

/// <summary>Configuration space, ranges and INTx as a guest sees them, through mechanism 1.</summary>
public sealed class PciFunctionTests
{
    private readonly PciBench _bench = new();

    [Fact]
    public void Config_data_reads_bytes_words_and_dwords_of_the_function_that_config_address_names()
    {
        _bench.Bus.Add(new TestFunction(), 3);
        Assert.Equal(0x1234_1AF4u, _bench.ReadConfig(3, 0, 4));
        Assert.Equal(0x1234u, _bench.ReadConfig(3, 2, 2));
        Assert.Equal(0x12u, _bench.ReadConfig(3, 3, 1));
        Assert.Equal(0xFFFF_FFFFu, _bench.ReadConfig(4, 0, 4));
        Assert.Equal(0x1237_8086u, _bench.ReadConfig(0, 0, 4));
    }

    [Fact]
    public void Ecam_and_mechanism_1_show_the_same_space_and_ecam_more_of_it()
    {
        _bench.Bus.Add(new TestFunction(), 31);
        Span<byte> data = stackalloc byte[4];
        _bench.Mmio.Read(PciBench.EcamBase + (31 << 15), data);
        Assert.Equal(0x1234_1AF4u, BinaryPrimitives.ReadUInt32LittleEndian(data));
        _bench.Mmio.Read(PciBench.EcamBase + (31 << 15) + 0xFFC, data);
        Assert.Equal(0u, BinaryPrimitives.ReadUInt32LittleEndian(data));
        _bench.Mmio.Read(PciBench.EcamBase + (31 << 15) + 0x1000, data);
        Assert.Equal(0xFFFF_FFFFu, BinaryPrimitives.ReadUInt32LittleEndian(data));
    }

    [Fact]
    public void Config_address_is_the_dword_only_so_that_the_reset_register_keeps_its_port()
    {
        BytePortDevice reset = new PostCodePort();
        _bench.Ports.Map(0xCF9, 1, reset);
        _bench.Ports.Write(0xCF9, [6]);
        Span<byte> data = stackalloc byte[1];
        _bench.Ports.Read(0xCF9, data);
        Assert.Equal(6, data[0]);
    }

    [Fact]
    public void A_range_is_sized_by_writing_ones()
    {
        _bench.Bus.Add(new TestFunction(), 3);
        _bench.WriteConfig(3, 0x10, 0xFFFF_FFFF);
        _bench.WriteConfig(3, 0x14, 0xFFFF_FFFF);
        _bench.WriteConfig(3, 0x18, 0xFFFF_FFFF);
        Assert.Equal(0xFFFF_C004u, _bench.ReadConfig(3, 0x10, 4));
        Assert.Equal(0xFFFF_FFFFu, _bench.ReadConfig(3, 0x14, 4));
        Assert.Equal(0xFFFF_FFE1u, _bench.ReadConfig(3, 0x18, 4));
        Assert.Equal(0u, _bench.ReadConfig(3, 0x1C, 4));
    }

    [Fact]
    public void A_range_is_decoded_while_the_command_register_says_so_and_follows_its_register()
    {
        TestFunction function = new();
        _bench.Bus.Add(function, 3);
        _bench.WriteConfig(3, 0x10, 0xD000_0000);
        _bench.WriteConfig(3, 0x18, 0xC000);
        Assert.False(_bench.Mmio.Reaches(0xD000_0000, 4));
        _bench.WriteConfig(3, 4, 3, 2);
        Assert.True(_bench.Mmio.Reaches(0xD000_3FFF, 1));
        Assert.False(_bench.Mmio.Reaches(0xD000_4000, 1));
        Assert.True(_bench.Ports.Reaches(0xC01F, 1));
        _bench.WriteConfig(3, 0x10, 0xD100_0000);
        Assert.False(_bench.Mmio.Reaches(0xD000_0000, 4));
        Assert.True(_bench.Mmio.Reaches(0xD100_0000, 4));
        _bench.WriteConfig(3, 0x14, 2);
        Assert.True(_bench.Mmio.Reaches(0x2_D100_0000, 4));
        _bench.WriteConfig(3, 4, 0, 2);
        Assert.False(_bench.Mmio.Reaches(0x2_D100_0000, 4));
        Assert.False(_bench.Ports.Reaches(0xC000, 1));
        Assert.Equal(["0: d0000000", "2: c000", "0: -", "0: d1000000", "0: -", "0: 2d1000000", "0: -", "2: -"], function.Mappings);
    }

    [Fact]
    public void A_range_that_meets_another_is_not_decoded_until_that_one_has_gone()
    {
        TestFunction first = new();
        TestFunction second = new();
        _bench.Bus.Add(first, 3);
        _bench.Bus.Add(second, 4);
        foreach (int slot in (int[])[3, 4])
        {
            _bench.WriteConfig(slot, 0x10, 0xD000_0000);
            _bench.WriteConfig(slot, 4, 2, 2);
        }

        _bench.Mmio.Write(0xD000_0000, [1]);
        Assert.Equal((1, 0), (first.Writes, second.Writes));
        _bench.WriteConfig(3, 4, 0, 2);
        _bench.Mmio.Write(0xD000_0000, [1]);
        Assert.Equal((1, 1), (first.Writes, second.Writes));
    }

    [Fact]
    public void A_removed_function_leaves_nothing_behind_and_its_slot_takes_another()
    {
        TestFunction function = new();
        _bench.Bus.Add(function, 3);
        _bench.WriteConfig(3, 0x10, 0xD000_0000);
        _bench.WriteConfig(3, 4, 2, 2);
        function.SetLine(true);
        Assert.True(_bench.Lines[3].Asserted);
        Assert.Same(function, _bench.Bus.Remove(3));
        Assert.False(_bench.Lines[3].Asserted);
        Assert.False(_bench.Mmio.Reaches(0xD000_0000, 4));
        Assert.Equal(0xFFFF_FFFFu, _bench.ReadConfig(3, 0, 4));
        Assert.Null(_bench.Bus.Remove(3));
        Assert.Equal(1, _bench.Bus.Add(new TestFunction()));
        _bench.Bus.Add(function, 3);
        Assert.True(_bench.Lines[3].Asserted);
    }

    [Fact]
    public void INTA_follows_the_function_unless_the_command_register_disables_it()
    {
        TestFunction function = new();
        _bench.Bus.Add(function, 9);
        function.SetLine(true);
        Assert.True(_bench.Lines[1].Asserted);
        Assert.Equal(8u, _bench.ReadConfig(9, 6, 2) & 8);
        _bench.WriteConfig(9, 4, 0x400, 2);
        Assert.False(_bench.Lines[1].Asserted);
        Assert.Equal(8u, _bench.ReadConfig(9, 6, 2) & 8);
        _bench.WriteConfig(9, 4, 0, 2);
        Assert.True(_bench.Lines[1].Asserted);
        function.SetLine(false);
        Assert.False(_bench.Lines[1].Asserted);
    }

    [Fact]
    public void Slots_that_share_an_interrupt_are_wired_OR()
    {
        TestFunction first = new();
        TestFunction second = new();
        _bench.Bus.Add(first, 2);
        _bench.Bus.Add(second, 10);
        first.SetLine(true);
        second.SetLine(true);
        first.SetLine(false);
        Assert.True(_bench.Lines[2].Asserted);
        second.SetLine(false);
        Assert.False(_bench.Lines[2].Asserted);
        Assert.Equal(1, _bench.Lines[2].Edges);
    }

    [Fact]
    public void Capabilities_are_linked_and_only_their_writable_bits_change()
    {
        TestFunction function = new();
        _bench.Bus.Add(function, 1);
        Assert.Equal(0x10u, _bench.ReadConfig(1, 6, 2) & 0x10);
        uint msix = _bench.ReadConfig(1, 0x34, 1);
        Assert.Equal(0x11u, _bench.ReadConfig(1, (int)msix, 1));
        uint vendor = _bench.ReadConfig(1, (int)msix + 1, 1);
        Assert.Equal(0x09u, _bench.ReadConfig(1, (int)vendor, 2));
        _bench.WriteConfig(1, (int)vendor, 0xFFFF_FFFF);
        Assert.Equal(0x0FAA_0009u, _bench.ReadConfig(1, (int)vendor, 4));
        _bench.WriteConfig(1, 0, 0);
        _bench.WriteConfig(1, 8, 0);
        Assert.Equal(0x1234_1AF4u, _bench.ReadConfig(1, 0, 4));
        Assert.Equal(0x0200_0001u, _bench.ReadConfig(1, 8, 4));
    }

    [Fact]
    public void A_saved_bus_goes_on_in_another_machine()
    {
        TestFunction function = new();
        _bench.Bus.Add(function, 3);
        _bench.WriteConfig(3, 0x10, 0xD000_0000);
        _bench.WriteConfig(3, 4, 6, 2);
        _bench.WriteConfig(3, 0x3C, 11, 1);
        function.SetLine(true);
        PciBusState state = _bench.Bus.Save();
        PciBench other = new();
        TestFunction copy = new();
        other.Bus.Add(copy, 3);
        other.Bus.Restore(state);
        Assert.True(other.Mmio.Reaches(0xD000_0000, 4));
        Assert.True(other.Lines[3].Asserted);
        Assert.True(copy.IsBusMaster);
        Assert.Equal(0x10Bu, other.ReadConfig(3, 0x3C, 2));
        Assert.Throws<ArgumentException>(() => new PciBench().Bus.Restore(state));
    }

    [Fact]
    public void Firmware_places_every_range_at_a_multiple_of_its_size_and_switches_decoding_on()
    {
        for (int slot = 1; slot < 32; slot++)
        {
            _bench.Bus.Add(new TestFunction(), slot);
        }

        Assert.True(_bench.SetUp());
        HashSet<uint> seen = [];
        for (int slot = 1; slot < 32; slot++)
        {
            uint address = _bench.ReadConfig(slot, 0x10, 4) & ~0xFu;
            uint port = _bench.ReadConfig(slot, 0x18, 4) & ~3u;
            Assert.True(seen.Add(address) && seen.Add(port));
            Assert.True(_bench.Mmio.Reaches(address, 4) && _bench.Ports.Reaches((ushort)port, 4));
            Assert.Equal(3u, _bench.ReadConfig(slot, 4, 2));
            Assert.Equal(slot % 2 == 0 ? 10u : 11u, _bench.ReadConfig(slot, 0x3C, 1));
        }
    }
}
