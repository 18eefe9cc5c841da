using System.Buffers.Binary;
using Tutti.Devices.Network;
using Tutti.Virtio.Network;
using static Tutti.Virtio.Network.VirtioNetLayout;

namespace Tutti.Virtio.Tests.Network;

/// <summary>The control queue and the configuration.</summary>
public sealed class VirtioNetControlTests
{
    private const ulong Other = 0x525400000001;
    private const ulong Group = 0x333300000001;

    [Fact]
    public void Receive_modes_and_tables_decide_what_the_guest_gets()
    {
        NetBench bench = new();
        Assert.False(IsWanted(bench, Other));
        Assert.Equal(ControlOk, bench.Command(ClassRx, RxPromisc, 1));
        Assert.True(IsWanted(bench, Other));
        Assert.Equal(ControlOk, bench.Command(ClassRx, RxPromisc, 0));
        Assert.Equal(ControlOk, bench.Command(ClassMac, MacTableSet, ReceiveFilterTests.Tables([Other], [])));
        Assert.True(IsWanted(bench, Other));
        Assert.False(IsWanted(bench, Group));
        Assert.Equal(ControlOk, bench.Command(ClassRx, RxAllMulti, 1));
        Assert.True(IsWanted(bench, Group));
        Assert.Equal(ControlErr, bench.Command(ClassRx, RxAllMulti));
        Assert.Equal(ControlErr, bench.Command(ClassMac, MacTableSet, 9, 9, 9, 9));
    }

    [Fact]
    public void The_guest_can_set_the_cards_address_until_it_resets()
    {
        NetBench bench = new();
        Assert.Equal(ControlOk, bench.Command(ClassMac, MacAddrSet, 0x52, 0x54, 0, 0, 0, 1));
        Assert.Equal(new MacAddress(Other), bench.Device.Mac);
        Assert.Equal([0x52, 0x54, 0, 0, 0, 1], bench.Driver.ReadConfig()[..6]);
        Assert.True(IsWanted(bench, Other));
        Assert.False(IsWanted(bench, NetBench.Own));
        bench.Driver.Reset();
        Assert.Equal(new MacAddress(NetBench.Own), bench.Device.Mac);
    }

    [Fact]
    public void Offloads_to_the_guest_can_be_switched_among_those_negotiated()
    {
        NetBench bench = new(~FeatureGuestTso6);
        Assert.Equal(ControlOk, SetOffloads(bench, FeatureGuestCsum));
        Assert.Equal(PacketOffloads.Checksum, bench.Device.Accepts);
        Assert.Equal(ControlErr, SetOffloads(bench, FeatureGuestCsum | FeatureGuestTso6));
        Assert.Equal(ControlErr, SetOffloads(bench, 1UL << 63));
        Assert.Equal(PacketOffloads.Checksum, bench.Device.Accepts);
        Assert.Equal(ControlOk, SetOffloads(bench, FeatureGuestTso4));
        Assert.Equal(PacketOffloads.None, bench.Device.Accepts);
        Assert.Equal(ControlErr, bench.Command(ClassGuestOffloads, GuestOffloadsSet, 1));
    }

    [Fact]
    public void An_announcement_is_asked_for_until_it_is_acknowledged()
    {
        NetBench bench = new();
        bench.Device.Announce();
        Assert.Equal(1, bench.Driver.ConfigSignals);
        Assert.Equal(StatusLinkUp | StatusAnnounce, bench.Driver.ReadConfig()[Status]);
        Assert.Equal(ControlOk, bench.Command(ClassAnnounce, AnnounceAck));
        Assert.Equal(StatusLinkUp, bench.Driver.ReadConfig()[Status]);
        bench = new NetBench(~FeatureGuestAnnounce);
        bench.Device.Announce();
        Assert.Equal(0, bench.Driver.ConfigSignals);
        Assert.Equal(ControlErr, bench.Command(ClassAnnounce, AnnounceAck));
    }

    [Fact]
    public void A_pulled_cable_is_seen_by_the_guest()
    {
        NetBench bench = new();
        byte generation = bench.Device.ConfigGeneration;
        bench.Network.IsLinkUp = false;
        bench.Device.OnLinkChanged();
        Assert.Equal(1, bench.Driver.ConfigSignals);
        Assert.NotEqual(generation, bench.Device.ConfigGeneration);
        Assert.Equal(0, bench.Driver.ReadConfig()[Status]);
    }

    [Fact]
    public void The_configuration_tells_of_the_card()
    {
        byte[] config = new NetBench().Driver.ReadConfig();
        Assert.Equal([0x52, 0x54, 0, 0x12, 0x34, 0x56, 1, 0, 1, 0, 0xDC, 5], config[..12]);
        Assert.Equal(10_000, BinaryPrimitives.ReadInt32LittleEndian(config.AsSpan(Speed)));
        Assert.Equal(1, config[Duplex]);
    }

    [Theory]
    [InlineData(2, 0)]
    [InlineData(4, 0)]
    [InlineData(0, 6)]
    [InlineData(1, 2)]
    [InlineData(3, 1)]
    [InlineData(5, 1)]
    [InlineData(255, 255)]
    public void Unknown_commands_are_refused(byte commandClass, byte command) => Assert.Equal(ControlErr, new NetBench().Command(commandClass, command, 1));

    [Fact]
    public void Commands_that_are_too_short_or_have_no_place_for_the_answer_come_back()
    {
        NetBench bench = new();
        bench.Control.Post(new TestBuffer(TestDriver.Data, 1, false), new TestBuffer(TestDriver.Data + 100, 1, true));
        bench.Control.Post(new TestBuffer(TestDriver.Data, 3, false));
        bench.Control.Post(new TestBuffer(TestDriver.Data, 1 << 20, false), new TestBuffer(TestDriver.Data + 101, 1, true));
        bench.Driver.Ram.Slice((int)TestDriver.Data + 100, 2).Fill(0xEE);
        bench.Control.Notify();
        bench.Worker.Run();
        Assert.Equal(3, bench.Control.TakeAll());
        Assert.Equal([ControlErr, ControlErr], bench.Driver.Ram.Slice((int)TestDriver.Data + 100, 2).ToArray());
        Assert.Equal(1, bench.Driver.Signals[ControlQueue]);
    }

    [Fact]
    public void A_restored_card_filters_and_takes_as_the_saved_one_did()
    {
        NetBench bench = new();
        bench.Command(ClassMac, MacAddrSet, 0x52, 0x54, 0, 0, 0, 1);
        SetOffloads(bench, FeatureGuestCsum);
        bench.Device.Announce();
        VirtioDeviceState state = bench.Device.Save();
        bench.Driver.Reset();
        FakeNetwork network = new(bench.Worker);
        VirtioNet copy = new(network, new MacAddress(NetBench.Own));
        copy.Attach(bench.Driver.Memory, bench.Driver);
        copy.Restore(state);
        Assert.Equal(new MacAddress(Other), copy.Mac);
        Assert.Equal(PacketOffloads.Checksum, copy.Accepts);
        byte[] config = new byte[ConfigSize];
        copy.ReadDeviceConfig(0, config);
        Assert.Equal(StatusLinkUp | StatusAnnounce, config[Status]);
        bench.PostReceive(0, 2000);
        Assert.True(copy.TryReceive(NetBench.Frame(60, Other), default));
        copy.EndReceive();
        Assert.Equal(1, bench.Receive.TakeAll());
        copy.Dispose();
        Assert.Null(network.Card);
    }

    [Fact]
    public void A_groups_address_is_no_cards() =>
        Assert.Throws<ArgumentException>(() => new VirtioNet(new FakeNetwork(new ManualWorker()), new MacAddress(Group)));

    private static byte SetOffloads(NetBench bench, ulong offloads)
    {
        Span<byte> data = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(data, offloads);
        return bench.Command(ClassGuestOffloads, GuestOffloadsSet, data);
    }

    private static bool IsWanted(NetBench bench, ulong to)
    {
        long before = bench.Device.Counters.ReceiveFiltered;
        bench.Device.TryReceive(NetBench.Frame(60, to), default);
        return bench.Device.Counters.ReceiveFiltered == before;
    }
}
