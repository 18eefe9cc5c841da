using System.Buffers.Binary;
using Tutti.Devices.Network;
using Tutti.Virtio.Network;

namespace Tutti.Virtio.Tests.Network;

public sealed class ReceiveFilterTests
{
    private const ulong Own = 0x525400123456;
    private const ulong Other = 0x525400654321;
    private const ulong Group = 0x01005E000001;
    private const ulong OtherGroup = 0x333300000001;
    private const ulong Everyone = 0xFFFFFFFFFFFF;
    private readonly ReceiveFilter _filter = new();

    public ReceiveFilterTests() => _filter.Reset(new MacAddress(Own), false);

    [Theory]
    [InlineData(Own, true)]
    [InlineData(Other, false)]
    [InlineData(Group, true)]
    [InlineData(Everyone, true)]
    public void Without_commands_own_and_group_frames_pass(ulong to, bool passes) => Assert.Equal(passes, Passes(to));

    [Theory]
    [InlineData(0, Other, true)]
    [InlineData(2, Other, true)]
    [InlineData(3, Group, false)]
    [InlineData(4, Own, false)]
    [InlineData(5, Everyone, false)]
    [InlineData(5, Group, true)]
    public void A_mode_changes_what_passes_until_it_is_switched_off(byte mode, ulong to, bool passes)
    {
        bool before = Passes(to);
        Assert.True(_filter.TrySetMode(mode, [1], true));
        Assert.Equal(passes, Passes(to));
        Assert.True(_filter.TrySetMode(mode, [0], true));
        Assert.Equal(before, Passes(to));
    }

    [Fact]
    public void Tables_replace_each_other_and_limit_groups()
    {
        Assert.True(_filter.TrySetTables(Tables([Other], [Group])));
        Assert.Equal([true, true, true, false, true], new[] { Own, Other, Group, OtherGroup, Everyone }.Select(Passes));
        Assert.True(_filter.TrySetTables(Tables([], [OtherGroup])));
        Assert.Equal([true, false, false, true, true], new[] { Own, Other, Group, OtherGroup, Everyone }.Select(Passes));
        Assert.True(_filter.TrySetMode(1, [1], false));
        Assert.True(Passes(Group));
    }

    [Fact]
    public void A_table_with_too_many_addresses_passes_all_of_its_kind()
    {
        ulong[] many = [.. Enumerable.Range(0, ReceiveFilter.TableSize + 1).Select(i => Group + (ulong)i + 5)];
        Assert.True(_filter.TrySetTables(Tables([], many)));
        Assert.True(Passes(OtherGroup));
        Assert.False(Passes(Other));
    }

    [Fact]
    public void Malformed_commands_are_refused_and_change_nothing()
    {
        byte[] good = Tables([Other], [Group]);
        for (int length = 0; length < good.Length; length++)
        {
            Assert.False(_filter.TrySetTables(good.AsSpan(0, length)));
        }

        Assert.False(_filter.TrySetTables([.. good, 0]));
        byte[] huge = [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];
        Assert.False(_filter.TrySetTables(huge));
        Assert.False(_filter.TrySetMode(0, [], true));
        Assert.False(_filter.TrySetMode(0, [2], true));
        Assert.False(_filter.TrySetMode(0, [1, 1], true));
        Assert.False(_filter.TrySetMode(6, [1], true));
        Assert.False(_filter.TrySetMode(2, [1], false));
        Assert.False(_filter.TrySetMac([1, 0, 0, 0, 0, 0]));
        Assert.False(_filter.TrySetMac([2, 0, 0, 0, 0]));
        Without_commands_own_and_group_frames_pass(Other, false);
        Assert.True(Passes(OtherGroup));
    }

    [Fact]
    public void A_restored_filter_passes_what_the_saved_one_did()
    {
        _filter.TrySetMac([0x52, 0x54, 0, 1, 2, 3]);
        _filter.TrySetMode(5, [1], true);
        _filter.TrySetTables(Tables([Other], [Group]));
        ReceiveFilter copy = new();
        copy.Restore(_filter.Save());
        Assert.Equivalent(_filter.Save(), copy.Save());
        ulong[] all = [Own, Other, Group, OtherGroup, Everyone, 0x525400010203];
        Assert.Equal([false, true, true, false, false, true], all.Select(to => copy.Passes(Frame(to))));
    }

    internal static byte[] Tables(ulong[] unicast, ulong[] multicast)
    {
        List<byte> bytes = [];
        Span<byte> item = stackalloc byte[6];
        foreach (ulong[] table in new[] { unicast, multicast })
        {
            BinaryPrimitives.WriteInt32LittleEndian(item, table.Length);
            bytes.AddRange(item[..4]);
            foreach (ulong address in table)
            {
                new MacAddress(address).Write(item);
                bytes.AddRange(item);
            }
        }

        return [.. bytes];
    }

    private bool Passes(ulong to) => _filter.Passes(Frame(to));

    private static byte[] Frame(ulong to)
    {
        byte[] frame = new byte[60];
        new MacAddress(to).Write(frame);
        return frame;
    }
}
