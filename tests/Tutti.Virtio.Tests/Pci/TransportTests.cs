using Tutti.Virtio.Pci;
using static Tutti.Virtio.Pci.VirtioPciLayout;

namespace Tutti.Virtio.Tests.Pci;

public sealed class TransportTests : IDisposable
{
    private const ulong AllFeatures = ulong.MaxValue & ~EchoDevice.FeatureNeedsA;
    private const ulong QueueAddress = 0x1_0000;
    private const byte Ready = 0xF;
    private const byte NeedsReset = 0x40;
    private readonly PciBed _bed = new();
    private readonly EchoDevice _device;
    private readonly VirtioPciFunction _function;
    private readonly PciDriver _driver;

    public TransportTests()
    {
        _device = new EchoDevice(_bed.Worker);
        _function = _bed.Plug(_device);
        _driver = new PciDriver(_bed, _function.Slot);
    }

    public void Dispose() => _bed.Dispose();

    [Fact]
    public void The_function_says_what_it_is_and_where_its_structures_are()
    {
        Assert.Equal(0x1041_1AF4UL, _driver.ReadConfig(0, 4));
        Assert.Equal(1UL, _driver.ReadConfig(8, 1));
        Assert.Equal([TypeCommon, TypeNotify, TypeIsr, TypeDevice, TypePciCfg], _driver.Structures.Keys.Order());
        Assert.Equal(4UL, _driver.ReadConfig(_driver.Structures[TypeNotify].Capability + 16, 4));
        Assert.Equal(2UL, _driver.ReadCommon(NumQueues, 2));
        Assert.NotEqual(0, _driver.MsixCapability);
    }

    [Fact]
    public void Features_are_refused_without_version_1_or_what_was_not_offered_or_what_the_device_does_not_take_together()
    {
        Assert.Equal(VirtioFeatures.Common | EchoDevice.FeatureA | EchoDevice.FeatureNeedsA, _driver.ReadFeatures());
        foreach (ulong wrong in (ulong[])[1, VirtioFeatures.Version1 | (1UL << 20), VirtioFeatures.Version1 | (1UL << 63), VirtioFeatures.Version1 | EchoDevice.FeatureNeedsA])
        {
            _driver.WriteCommon(DeviceStatus, 0, 1);
            _driver.WriteCommon(DeviceStatus, 3, 1);
            _driver.WriteFeatures(wrong);
            _driver.WriteCommon(DeviceStatus, 0xB, 1);
            Assert.Equal(3, _driver.Status);
            _driver.Finish();
            Assert.Null(_device.ActiveFeatures);
        }

        _driver.Begin(AllFeatures);
        Assert.Equal(0xB, _driver.Status);
        _driver.WriteFeatures(0);
        _driver.Finish();
        Assert.Equal(Ready, _driver.Status);
        Assert.Equal(VirtioFeatures.Common | EchoDevice.FeatureA, _device.ActiveFeatures);
    }

    [Fact]
    public void Windows_that_do_not_exist_read_as_zero_and_take_nothing()
    {
        _driver.WriteCommon(DeviceFeatureSelect, 2, 4);
        Assert.Equal(0UL, _driver.ReadCommon(DeviceFeature, 4));
        _driver.WriteCommon(DriverFeatureSelect, 7, 4);
        _driver.WriteCommon(DriverFeature, 0xFFFF_FFFF, 4);
        Assert.Equal(0UL, _driver.ReadCommon(DriverFeature, 4));
        _driver.WriteCommon(QueueSelect, 2, 2);
        Assert.Equal(0UL, _driver.ReadCommon(QueueSize, 2));
        _driver.WriteCommon(QueueEnable, 1, 2);
        _driver.WriteCommon(QueueMsixVector, 0, 2);
        Assert.Equal(0UL, _driver.ReadCommon(QueueEnable, 2));
        Assert.Equal(0UL, _driver.ReadCommon(QueueMsixVector, 2));
    }

    [Fact]
    public void A_queue_takes_sizes_that_are_powers_of_two_up_to_its_most_and_only_before_it_is_enabled()
    {
        _driver.Begin(AllFeatures);
        _driver.WriteCommon(QueueSelect, 1, 2);
        Assert.Equal(64UL, _driver.ReadCommon(QueueSize, 2));
        foreach (ulong wrong in (ulong[])[0, 3, 128, 0x8000])
        {
            _driver.WriteCommon(QueueSize, wrong, 2);
            Assert.Equal(64UL, _driver.ReadCommon(QueueSize, 2));
        }

        _ = _driver.AddQueue(1, 16, QueueAddress, AllFeatures);
        Assert.Equal(1UL, _driver.ReadCommon(QueueEnable, 2));
        _driver.WriteCommon(QueueSize, 32, 2);
        _driver.WriteCommon(QueueDesc, 0, 4);
        Assert.Equal(16UL, _driver.ReadCommon(QueueSize, 2));
        Assert.Equal(QueueAddress, _driver.ReadCommon(QueueDesc, 8));
    }

    [Theory]
    [InlineData(QueueAddress + 8)]
    [InlineData((ulong)PciBed.RegionSize - 16)]
    [InlineData(0x8000_0000UL)]
    [InlineData(0xFFFF_FFFF_FFFF_FFF0UL)]
    public void A_queue_that_cannot_lie_where_the_driver_says_is_not_enabled_and_the_device_needs_a_reset(ulong address)
    {
        _driver.Begin(AllFeatures);
        _driver.WriteCommon(QueueSelect, 0, 2);
        _driver.WriteCommon(QueueDesc, address, 8);
        _driver.WriteCommon(QueueDriver, QueueAddress, 8);
        _driver.WriteCommon(QueueDevice, QueueAddress, 8);
        _driver.WriteCommon(QueueEnable, 1, 2);
        Assert.Equal(0UL, _driver.ReadCommon(QueueEnable, 2));
        Assert.Equal(NeedsReset, _driver.Status & NeedsReset);
        _driver.WriteCommon(DeviceStatus, 0, 1);
        Assert.Equal(0, _driver.Status);
    }

    [Fact]
    public void A_vector_that_does_not_exist_reads_back_as_none()
    {
        _driver.WriteCommon(ConfigMsixVector, 3, 2);
        Assert.Equal((ulong)NoVector, _driver.ReadCommon(ConfigMsixVector, 2));
        _driver.WriteCommon(QueueMsixVector, 2, 2);
        Assert.Equal(2UL, _driver.ReadCommon(QueueMsixVector, 2));
        _driver.WriteCommon(QueueMsixVector, 0x1234, 2);
        Assert.Equal((ulong)NoVector, _driver.ReadCommon(QueueMsixVector, 2));
    }

    [Fact]
    public void Configuration_goes_by_registers_and_by_the_window_in_configuration_space()
    {
        Assert.Equal(0x0807_0605_0403_0201UL, _driver.ReadDevice(0, 8));
        Assert.Equal(0UL, _driver.ReadDevice(8, 4));
        _driver.WriteDevice(2, 0xAABB, 2);
        Assert.Equal(0xAABBUL, _driver.ReadDevice(2, 2));

        int window = _driver.Structures[TypePciCfg].Capability;
        _driver.WriteConfig(window + 4, 0, 1);
        _driver.WriteConfig(window + 8, DeviceOffset + 2, 4);
        _driver.WriteConfig(window + 12, 2, 4);
        Assert.Equal(0xAABBUL, _driver.ReadConfig(window + 16, 2));
        _driver.WriteConfig(window + 16, 0xCCDD, 2);
        Assert.Equal(0xCCDDUL, _driver.ReadDevice(2, 2));

        // Outside the range, not aligned, or of no width.
        foreach ((uint offset, uint length) in ((uint, uint)[])[(0xFFFF_FFFE, 2), (0x4000, 4), (DeviceOffset + 1, 2), (DeviceOffset, 3), (DeviceOffset, 0)])
        {
            _driver.WriteConfig(window + 8, offset, 4);
            _driver.WriteConfig(window + 12, length, 4);
            _driver.WriteConfig(window + 16, 0x1122_3344, 4);
            _ = _driver.ReadConfig(window + 16, 4);
            Assert.Equal(0x0807_0605_CCDD_0201UL, _driver.ReadDevice(0, 8));
        }
    }

    [Fact]
    public void A_changed_configuration_has_another_generation_and_interrupts_a_driver_that_is_ready()
    {
        ulong before = _driver.ReadCommon(ConfigGeneration, 1);
        _device.ChangeConfig(9);
        Assert.NotEqual(before, _driver.ReadCommon(ConfigGeneration, 1));
        Assert.False(_bed.Line);
        _driver.Begin(AllFeatures);
        _driver.Finish();
        _device.ChangeConfig(10);
        Assert.True(_bed.Line);
        Assert.Equal(IsrConfig, _driver.ReadIsr());
        Assert.False(_bed.Line);
        Assert.Equal(0, _driver.ReadIsr());
        _driver.UseMessages(2);
        _device.ChangeConfig(11);
        Assert.Equal(1, _bed.MessageCount(PciDriver.ConfigMessage));
        Assert.False(_bed.Line);
    }

    [Fact]
    public void Used_chains_interrupt_by_the_line_and_isr_or_by_the_queues_own_message()
    {
        GuestQueue queue = Start(VirtioFeatures.Version1);
        _ = queue.Add(new Buffer(0x100, 4), new Buffer(0x200, 4, true));
        Assert.True(queue.Kick());
        _ = _bed.Worker.Run();
        Assert.True(_bed.Line);
        Assert.Equal(IsrQueue, _driver.ReadIsr());
        Assert.False(_bed.Line);
        _driver.UseMessages(2);
        _ = queue.Add(new Buffer(0x100, 4), new Buffer(0x200, 4, true));
        Assert.True(queue.Kick());
        _ = _bed.Worker.Run();
        Assert.Equal(1, _bed.MessageCount(PciDriver.FirstQueueMessage + 1));
        Assert.Equal(1, _bed.Messages.Values.Sum());
        Assert.False(_bed.Line);
    }

    [Fact]
    public void Doorbells_are_tied_to_the_ranges_address_while_the_device_is_live_and_follow_it()
    {
        Assert.Empty(_bed.Doorbells);
        _ = Start(AllFeatures);
        Assert.Equal([PciBed.RegisterBar + NotifyOffset, PciBed.RegisterBar + NotifyOffset + 4], _bed.Doorbells.Keys.Order());
        _driver.WriteConfig(0x10, 0xD100_0000, 4);
        Assert.Equal([0xD100_0000 + NotifyOffset, 0xD100_0000UL + NotifyOffset + 4], _bed.Doorbells.Keys.Order());
        _driver.WriteConfig(0x04, 0x4, 2);
        Assert.Empty(_bed.Doorbells);
        _driver.WriteConfig(0x04, 0x6, 2);
        Assert.Equal(2, _bed.Doorbells.Count);
        _driver.WriteConfig(0x10, PciBed.RegisterBar, 4);
        _driver.WriteCommon(DeviceStatus, 0, 1);
        Assert.Empty(_bed.Doorbells);
    }

    [Fact]
    public void A_notification_that_reaches_the_registers_rings_as_well()
    {
        GuestQueue queue = Start(AllFeatures);
        _ = _bed.Worker.Run();
        _bed.Doorbells.Clear();
        _ = queue.Add(new Buffer(0x100, 4), new Buffer(0x200, 4, true));
        Assert.True(queue.Kick());
        Assert.NotEqual(0, _bed.Worker.Run());
        Assert.True(queue.TryTake(out _, out uint written));
        Assert.Equal(4u, written);
    }

    [Fact]
    public void Status_stays_until_the_last_request_of_a_reset_has_ended_and_nothing_is_written_then()
    {
        _device.Holds = true;
        GuestQueue queue = Start(AllFeatures);
        _driver.UseMessages(2);
        _ = queue.Add(new Buffer(0x100, 4), new Buffer(0x200, 4, true));
        _ = queue.Kick();
        _ = _bed.Worker.Run();
        Assert.Single(_device.Held);
        _driver.WriteCommon(DeviceStatus, 0, 1);
        Assert.NotEqual(0, _driver.Status);
        _driver.WriteCommon(DeviceStatus, 1, 1);
        Assert.NotEqual(0, _driver.Status);
        _device.Release(1);
        Assert.Equal(0, _driver.Status);
        Assert.Equal(0, queue.UsedIndex);
        Assert.Empty(_bed.Messages);
        Assert.Equal(0UL, _driver.ReadCommon(QueueEnable, 2));
    }

    [Fact]
    public async Task The_end_of_a_function_waits_for_its_requests()
    {
        _device.Holds = true;
        GuestQueue queue = Start(AllFeatures);
        _ = queue.Add(new Buffer(0x100, 4), new Buffer(0x200, 4, true));
        _ = queue.Kick();
        _ = _bed.Worker.Run();
        Task end = Task.Run(_function.Dispose);
        Assert.NotSame(end, await Task.WhenAny(end, Task.Delay(50)));
        _device.Release(1);
        await end.WaitAsync(TimeSpan.FromSeconds(10));
        _driver.WriteCommon(DeviceStatus, Ready, 1);
        Assert.Equal(0, _driver.Status);
    }

    [Fact]
    public void A_queue_that_is_reset_alone_is_done_when_its_requests_are_and_can_be_set_up_again()
    {
        _device.Holds = true;
        GuestQueue queue = Start(AllFeatures);
        _ = queue.Add(new Buffer(0x100, 4), new Buffer(0x200, 4, true));
        _ = queue.Kick();
        _ = _bed.Worker.Run();
        _driver.WriteCommon(QueueSelect, 1, 2);
        _driver.WriteCommon(QueueReset, 1, 2);
        Assert.Equal(1UL, _driver.ReadCommon(QueueReset, 2));
        _device.Release(1);
        Assert.Equal(0UL, _driver.ReadCommon(QueueReset, 2));
        Assert.Equal(0UL, _driver.ReadCommon(QueueEnable, 2));
        Assert.Equal(64UL, _driver.ReadCommon(QueueSize, 2));
        Assert.Equal(0, queue.UsedIndex);

        _device.Holds = false;
        queue = _driver.AddQueue(1, 8, QueueAddress + 0x4000, AllFeatures);
        _ = queue.Add(new Buffer(0x100, 4), new Buffer(0x200, 4, true));
        _ = queue.Kick();
        _ = _bed.Worker.Run();
        Assert.True(queue.TryTake(out _, out _));
        Assert.Equal(Ready, _driver.Status);
    }

    [Fact]
    public void A_device_that_fails_says_so_once_and_does_nothing_until_its_reset()
    {
        GuestQueue queue = Start(AllFeatures);
        _driver.UseMessages(2);
        _device.Break();
        _device.Break();
        _ = _bed.Worker.Run();
        Assert.Equal(Ready | NeedsReset, _driver.Status);
        Assert.Equal(1, _bed.MessageCount(PciDriver.ConfigMessage));
        _ = queue.Add(new Buffer(0x100, 4), new Buffer(0x200, 4, true));
        _driver.Notify(1);
        _ = _bed.Worker.Run();
        Assert.Equal(0, queue.UsedIndex);
        _ = Start(AllFeatures);
        Assert.Equal(Ready, _driver.Status);
    }

    [Fact]
    public void A_state_of_the_middle_of_traffic_goes_on_in_a_fresh_device()
    {
        _device.Holds = true;
        GuestQueue queue = Start(AllFeatures);
        _driver.UseMessages(2);
        _bed.Ram(0x100, 4).Fill(7);
        ushort first = queue.Add(new Buffer(0x100, 4), new Buffer(0x200, 4, true));
        ushort second = queue.Add(new Buffer(0x100, 4), new Buffer(PciBed.HighStart, 4, true));
        _ = queue.Kick();
        _ = _bed.Worker.Run();
        Assert.Equal(2, _device.Held.Count);
        ushort third = queue.Add(new Buffer(0x100, 4), new Buffer(0x300, 4, true));
        _device.Config[0] = 42;
        var configuration = _function.SaveConfiguration();
        VirtioPciState state = _function.Save();
        _ = _bed.Bus.Remove(_function.Slot);

        EchoDevice device = new(_bed.Worker);
        VirtioPciFunction function = _bed.Plug(device);
        function.RestoreConfiguration(configuration);
        function.Restore(state);
        Assert.Equal(Ready, _driver.Status);
        _ = _bed.Worker.Run();
        List<ushort> heads = [];
        while (queue.TryTake(out ushort head, out uint written))
        {
            Assert.Equal(4u, written);
            heads.Add(head);
        }

        Assert.Equal([first, second, third], heads.Order());
        Assert.Equal(7, _bed.Ram(PciBed.HighStart, 1)[0]);
        Assert.Equal(7, _bed.Ram(0x300, 1)[0]);
        Assert.NotEqual(0, _bed.MessageCount(PciDriver.FirstQueueMessage + 1));
        Assert.Equal(42UL, _driver.ReadDevice(0, 1));
        _ = queue.Add(new Buffer(0x100, 4), new Buffer(0x200, 4, true));
        Assert.True(queue.Kick());
        _ = _bed.Worker.Run();
        Assert.True(queue.TryTake(out _, out _));
    }

    private GuestQueue Start(ulong features)
    {
        _driver.Begin(features);
        GuestQueue queue = _driver.AddQueue(1, 16, QueueAddress, features);
        _driver.Finish();
        Assert.Equal(Ready, _driver.Status);
        return queue;
    }
}
