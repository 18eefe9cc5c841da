namespace Tutti.Devices.Tests;

public sealed class BusTests
{
    private sealed class Recorder(bool claims = true) : IPortDevice, IMmioDevice
    {
        public List<(ulong Offset, byte[] Data)> Writes { get; } = [];

        public List<(ulong Offset, int Length)> Reads { get; } = [];

        public IoResult ReadPort(ushort offset, Span<byte> data) => ReadMmio(offset, data);

        public IoResult WritePort(ushort offset, ReadOnlySpan<byte> data) => WriteMmio(offset, data);

        public IoResult ReadMmio(ulong offset, Span<byte> data)
        {
            Reads.Add((offset, data.Length));
            data.Fill(0x11);
            return claims ? IoResult.Ok : IoResult.Unclaimed;
        }

        public IoResult WriteMmio(ulong offset, ReadOnlySpan<byte> data)
        {
            Writes.Add((offset, data.ToArray()));
            return IoResult.Ok;
        }
    }

    [Fact]
    public void Unclaimed_ports_read_as_all_ones_also_beyond_the_last()
    {
        PortBus bus = new();
        byte[] data = new byte[4];
        bus.Read(0xCF8, data);
        Assert.Equal([0xFF, 0xFF, 0xFF, 0xFF], data);
        bus.Map(0, 1, new Recorder());
        bus.Read(0xFFFE, data);
        Assert.Equal([0xFF, 0xFF, 0xFF, 0xFF], data);
        bus.Write(0xFFFE, data);

        bus.Map(0x10, 4, new Recorder(claims: false), maxWidth: 4);
        data.AsSpan().Clear();
        bus.Read(0x10, data);
        Assert.Equal([0xFF, 0xFF, 0xFF, 0xFF], data);
    }

    [Fact]
    public void Four_byte_accesses_at_a_port_may_have_a_device_of_their_own()
    {
        PortBus bus = new();
        Recorder address = new();
        Recorder reset = new();
        bus.Map(0xCF9, 1, reset);
        bus.MapDword(0xCF8, address);
        byte[] data = new byte[4];
        bus.Write(0xCF8, [1, 2, 3, 4]);
        bus.Read(0xCF8, data);
        Assert.Equal([0x11, 0x11, 0x11, 0x11], data);
        Assert.Empty(reset.Writes);
        Assert.Equal([1, 2, 3, 4], Assert.Single(address.Writes).Data);

        bus.Write(0xCF9, [6]);
        bus.Write(0xCF8, [7, 8]);
        Assert.Equal([[6], [8]], reset.Writes.Select(write => write.Data));
        Assert.Single(address.Writes);
        Assert.Throws<ArgumentException>(() => bus.MapDword(0xCF8, reset));

        PortBus unclaimed = new();
        unclaimed.MapDword(0xCF8, new Recorder(claims: false));
        unclaimed.Read(0xCF8, data);
        Assert.Equal([0xFF, 0xFF, 0xFF, 0xFF], data);
    }

    [Fact]
    public void Port_accesses_are_split_by_width_and_at_the_end_of_a_device()
    {
        PortBus bus = new();
        Recorder bytes = new();
        Recorder words = new();
        bus.Map(0x60, 1, bytes);
        bus.Map(0x61, 3, words, maxWidth: 2);
        byte[] data = new byte[4];
        bus.Read(0x60, data);
        Assert.Equal([0x11, 0x11, 0x11, 0x11], data);
        Assert.Equal([(0UL, 1)], bytes.Reads);
        Assert.Equal([(0UL, 2), (2UL, 1)], words.Reads);
        bus.Write(0x63, [1, 2]);
        (ulong offset, byte[] written) = Assert.Single(words.Writes);
        Assert.Equal(2UL, offset);
        Assert.Equal([1], written);
    }

    [Fact]
    public void Overlapping_ranges_are_refused()
    {
        PortBus ports = new();
        ports.Map(0x60, 4, new Recorder());
        Assert.Throws<ArgumentException>(() => ports.Map(0x63, 1, new Recorder()));
        Assert.Throws<ArgumentException>(() => ports.Map(0xFFFF, 2, new Recorder()));
        MmioBus addresses = new();
        addresses.Map(0x1000, 0x1000, new Recorder());
        Assert.Throws<ArgumentException>(() => addresses.Map(0x1FFF, 1, new Recorder()));
        Assert.Throws<ArgumentException>(() => addresses.Map(ulong.MaxValue, 2, new Recorder()));
        addresses.Map(ulong.MaxValue, 1, new Recorder());
    }

    [Fact]
    public void Mmio_accesses_find_their_device_and_are_split_where_it_ends()
    {
        MmioBus bus = new();
        Recorder low = new();
        Recorder high = new();
        bus.Map(0xFEC0_1000, 0x1000, high, maxWidth: 4);
        bus.Map(0xFEC0_0000, 0x1000, low);
        byte[] data = new byte[8];
        bus.Read(0xFEC0_0FFC, data);
        Assert.Equal([(0xFFCUL, 4)], low.Reads);
        Assert.Equal([(0UL, 4)], high.Reads);
        bus.Write(0xFEC0_1FFF, data);
        Assert.Equal((0xFFFUL, 1), (high.Writes[0].Offset, high.Writes[0].Data.Length));
        bus.Read(0xFFFF_FFFF_FFFF_FFFC, data);
        Assert.All(data, value => Assert.Equal(0xFF, value));
        Assert.True(bus.Unmap(0xFEC0_0000));
        bus.Read(0xFEC0_0000, data);
        Assert.All(data, value => Assert.Equal(0xFF, value));
        Assert.False(bus.Unmap(0xFEC0_0000));
    }

    [Fact]
    public void A_port_access_reaches_a_device_exactly_when_the_bus_would_ask_one()
    {
        PortBus bus = new();
        Recorder device = new();
        bus.Map(0x10, 3, device);
        bus.Map(0xFFFF, 1, device);
        bus.MapDword(0x20, device);
        byte[] data = new byte[4];
        foreach (int width in (int[])[1, 2, 4])
        {
            for (int port = 0; port <= 0xFFFF; port++)
            {
                device.Reads.Clear();
                bus.Read((ushort)port, data.AsSpan(0, width));
                Assert.Equal(device.Reads.Count > 0, bus.Reaches((ushort)port, width));
            }
        }
    }

    [Fact]
    public void A_memory_access_reaches_a_device_exactly_when_the_bus_would_ask_one()
    {
        MmioBus bus = new();
        Recorder device = new();
        bus.Map(0x1000, 3, device);
        bus.Map(0x1010, 0x10, device);
        bus.Map(0x2000, 1, device);
        Assert.True(bus.Unmap(0x1010));
        byte[] data = new byte[8];
        foreach (int width in (int[])[1, 2, 4, 8])
        {
            for (ulong address = 0xFF0; address < 0x2010; address++)
            {
                device.Reads.Clear();
                bus.Read(address, data.AsSpan(0, width));
                Assert.Equal(device.Reads.Count > 0, bus.Reaches(address, width));
            }
        }

        Assert.False(bus.Reaches(ulong.MaxValue, 8));
    }

    [Fact]
    public void Accesses_allocate_nothing()
    {
        PortBus bus = new();
        PostCodePort post = new();
        bus.Map(PostCodePort.Port, 1, post);
        byte[] data = [0x42];
        bus.Write(0x80, data);
        bus.Read(0x80, data);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++)
        {
            bus.Write(0x80, data);
            bus.Read(0x80, data);
        }

        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
        Assert.Equal(0x42, post.LastCode);
    }

    [Fact]
    public void Ports_that_are_taken_back_are_nobodys_and_their_number_serves_again()
    {
        PortBus bus = new();
        Recorder device = new();
        for (int round = 0; round < 1000; round++)
        {
            bus.Map(0x1000, 16, device);
            Assert.False(bus.TryMap(0x100F, 4, device));
            Assert.False(bus.Unmap(0x1001));
            Assert.True(bus.Unmap(0x1000));
        }

        Assert.False(bus.Unmap(0x1000));
        Assert.False(bus.Reaches(0x1000, 4));
        for (int i = 0; i < 255; i++)
        {
            Assert.True(bus.TryMap((ushort)(0x2000 + i), 1, device));
        }

        Assert.False(bus.TryMap(0x3000, 1, device));
        Assert.True(bus.Unmap(0x2007));
        Assert.True(bus.TryMap(0x3000, 1, device));
        bus.Write(0x3000, [5]);
        bus.Write(0x2007, [6]);
        Assert.Equal([5], Assert.Single(device.Writes).Data);
        Assert.False(bus.TryMap(0xFFFF, 2, device));
    }

    [Fact]
    public void Addresses_that_a_guest_places_wrongly_are_refused_without_a_throw()
    {
        MmioBus bus = new();
        Recorder device = new();
        Assert.True(bus.TryMap(0x1000, 0x1000, device));
        Assert.False(bus.TryMap(0x1FFF, 1, device));
        Assert.False(bus.TryMap(ulong.MaxValue, 2, device));
        Assert.False(bus.TryMap(0x5000, 0, device));
        Assert.True(bus.TryMap(ulong.MaxValue, 1, device));
    }
}
