using System.Buffers.Binary;
using System.Text.Json;
using Tutti.Devices.InterruptControllers;

namespace Tutti.Devices.Tests;

public sealed class LocalApicTests
{
    private const uint Tpr = 0x80, Eoi = 0xB0, Ldr = 0xD0, Dfr = 0xE0, Svr = 0xF0, Isr = 0x100, Irr = 0x200, Esr = 0x280,
        IcrLow = 0x300, IcrHigh = 0x310, LvtTimer = 0x320, LvtLint0 = 0x350, LvtError = 0x370, InitialCount = 0x380,
        CurrentCount = 0x390, Dcr = 0x3E0;

    private readonly TestClock _clock = new();
    private readonly ApicBus _bus = new();
    private readonly LocalApic[] _apics = new LocalApic[4];
    private readonly RecordingSignals[] _signals = new RecordingSignals[4];

    public LocalApicTests()
    {
        for (int i = 0; i < 4; i++)
        {
            _signals[i] = new RecordingSignals();
            _apics[i] = new LocalApic((uint)i, _bus, _clock, _signals[i], isBootstrap: i == 0);
            Write(i, Svr, 0x1FF);
        }
    }

    private uint Read(int apic, uint offset)
    {
        Span<byte> data = stackalloc byte[4];
        _apics[apic].ReadMmio(offset, data);
        return BinaryPrimitives.ReadUInt32LittleEndian(data);
    }

    private void Write(int apic, uint offset, uint value)
    {
        Span<byte> data = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(data, value);
        _apics[apic].WriteMmio(offset, data);
    }

    private void SendIpi(int from, uint destination, uint command)
    {
        Write(from, IcrHigh, destination << 24);
        Write(from, IcrLow, command);
    }

    private int[] Take() => [.. _apics.Select(apic => apic.AcknowledgeInterrupt())];

    private void EnterX2Apic()
    {
        foreach (LocalApic apic in _apics)
        {
            Assert.True(apic.TryWriteApicBase(apic.ApicBase | (1 << 10)));
        }
    }

    private ulong ReadMsr(int apic, uint msr)
    {
        Assert.True(_apics[apic].TryReadMsr(msr, out ulong value));
        return value;
    }

    [Fact]
    public void Registers_read_as_after_power_on()
    {
        Assert.Equal(0xFEE0_0900UL, _apics[0].ApicBase);
        Assert.Equal(0xFEE0_0800UL, _apics[1].ApicBase);
        Assert.Equal(0x0300_0000u, Read(3, 0x20));
        Assert.Equal(0x0005_0014u, Read(0, 0x30));
        Assert.Equal(uint.MaxValue, Read(0, Dfr));
        Assert.Equal(0x10000u, Read(0, LvtTimer));
    }

    [Fact]
    public void A_physical_IPI_reaches_its_processor_alone_and_ends_with_EOI()
    {
        SendIpi(0, 2, 0x4000 | 0x41);
        Assert.True(_signals[2].Interrupts > 0);
        Assert.Equal(1u << 1, Read(2, Irr + 0x20));
        Assert.Equal([-1, -1, 0x41, -1], Take());
        Assert.Equal((0u, 1u << 1), (Read(2, Irr + 0x20), Read(2, Isr + 0x20)));
        Write(2, Eoi, 0);
        Assert.Equal(0u, Read(2, Isr + 0x20));
    }

    [Theory]
    [InlineData(0x4_4055u, new[] { -1, 0x55, -1, -1 })]
    [InlineData(0x8_4055u, new[] { 0x55, 0x55, 0x55, 0x55 })]
    [InlineData(0xC_4055u, new[] { 0x55, -1, 0x55, 0x55 })]
    public void Shorthands_choose_self_all_and_others(uint command, int[] expected)
    {
        SendIpi(1, 0, command);
        Assert.Equal(expected, Take());
    }

    [Fact]
    public void Destination_0xFF_is_everybody()
    {
        SendIpi(0, 0xFF, 0x4000 | 0x60);
        Assert.Equal([0x60, 0x60, 0x60, 0x60], Take());
    }

    [Fact]
    public void Flat_logical_destinations_are_a_bit_field()
    {
        for (int i = 0; i < 4; i++)
        {
            Write(i, Ldr, 0x0100_0000u << i);
        }

        SendIpi(3, 0b0101, 0x4800 | 0x70);
        Assert.Equal([0x70, -1, 0x70, -1], Take());
    }

    [Fact]
    public void Cluster_logical_destinations_are_a_cluster_and_a_bit_field()
    {
        for (int i = 0; i < 4; i++)
        {
            Write(i, Dfr, 0x0FFF_FFFF);
            Write(i, Ldr, (uint)(((i / 2) << 4) | (1 << (i % 2))) << 24);
        }

        SendIpi(0, 0x12, 0x4800 | 0x71);
        Assert.Equal([-1, -1, -1, 0x71], Take());
        SendIpi(0, 0xF1, 0x4800 | 0x72);
        Assert.Equal([0x72, -1, 0x72, -1], Take());
    }

    [Fact]
    public void Lowest_priority_goes_to_the_processor_with_the_lowest_priority()
    {
        uint[] priorities = [0x40, 0x30, 0x10, 0x20];
        for (int i = 0; i < 4; i++)
        {
            Write(i, Ldr, 0x0100_0000u << i);
            Write(i, Tpr, priorities[i]);
        }

        SendIpi(0, 0x0F, 0x4900 | 0x91);
        Assert.Equal([-1, -1, 0x91, -1], Take());
    }

    [Fact]
    public void Init_startup_and_NMI_go_to_the_vCPU_even_while_the_APIC_is_software_disabled()
    {
        Write(1, Svr, 0xFF);
        SendIpi(0, 1, 0xC500);
        SendIpi(0, 1, 0x8500);
        SendIpi(0, 1, 0x4608);
        SendIpi(0, 1, 0x4400);
        Assert.Equal(1, _signals[1].Inits);
        Assert.Equal([8], _signals[1].Startups);
        Assert.Equal(1, _signals[1].Nmis);
        SendIpi(0, 1, 0x4044);
        Assert.Equal(-1, _apics[1].AcknowledgeInterrupt());
    }

    [Fact]
    public void Task_priority_holds_interrupts_back_and_lowering_it_signals()
    {
        _apics[0].TaskPriority = 5;
        SendIpi(1, 0, 0x405F);
        Assert.Equal(-1, _apics[0].AcknowledgeInterrupt());
        int before = _signals[0].Interrupts;
        _apics[0].TaskPriority = 4;
        Assert.True(_signals[0].Interrupts > before);
        Assert.Equal(0x40u, Read(0, Tpr));
        Assert.Equal(0x5F, _apics[0].AcknowledgeInterrupt());
    }

    [Fact]
    public void A_higher_class_interrupts_a_lower_one_and_EOI_lets_the_waiting_one_in()
    {
        SendIpi(1, 0, 0x4051);
        Assert.Equal(0x51, _apics[0].AcknowledgeInterrupt());
        SendIpi(1, 0, 0x4058);
        Assert.Equal(-1, _apics[0].AcknowledgeInterrupt());
        SendIpi(1, 0, 0x4061);
        Assert.Equal(0x61, _apics[0].AcknowledgeInterrupt());
        Write(0, Eoi, 0);
        int before = _signals[0].Interrupts;
        Write(0, Eoi, 0);
        Assert.True(_signals[0].Interrupts > before);
        Assert.Equal(0x58, _apics[0].AcknowledgeInterrupt());
    }

    [Fact]
    public void Illegal_vectors_are_errors_that_ESR_shows_after_a_write()
    {
        Write(0, LvtError, 0xFE);
        SendIpi(0, 1, 0x4005);
        Assert.Equal(0u, Read(0, Esr));
        Write(0, Esr, 0);
        Assert.Equal(0x20u, Read(0, Esr));
        Assert.Equal(0xFE, _apics[0].AcknowledgeInterrupt());
        Write(0, Esr, 0);
        Assert.Equal(0u, Read(0, Esr));
    }

    [Fact]
    public void Mode_changes_follow_the_state_diagram()
    {
        LocalApic apic = _apics[1];
        Assert.False(apic.TryWriteApicBase(0xFEE0_0400));
        Assert.False(apic.TryWriteApicBase(0xFEE0_0801));
        Assert.False(apic.TryWriteApicBase((1UL << 46) | 0x800));
        Assert.False(apic.TryReadMsr(0x802, out _));
        Assert.True(apic.TryWriteApicBase(0xFEE0_0C00));
        Assert.False(apic.TryWriteApicBase(0xFEE0_0800));
        Assert.Equal(1UL, ReadMsr(1, 0x802));
        Assert.Equal(uint.MaxValue, Read(1, 0x20));
        Assert.True(apic.TryWriteApicBase(0xFEE0_0000));
        Assert.False(apic.TryWriteApicBase(0xFEE0_0C00));
        Assert.True(apic.TryWriteApicBase(0xFEE0_0800));
        Assert.Equal(0xFFu, Read(1, Svr));
    }

    [Fact]
    public void X2apic_sends_with_one_write_to_physical_and_cluster_destinations()
    {
        EnterX2Apic();
        Assert.Equal(1UL << 3, ReadMsr(3, 0x80D));
        Assert.True(_apics[0].TryWriteMsr(0x830, (3UL << 32) | 0x44));
        Assert.Equal([-1, -1, -1, 0x44], Take());
        Assert.True(_apics[0].TryWriteMsr(0x830, (0b0110UL << 32) | 0x845));
        Assert.Equal([-1, 0x45, 0x45, -1], Take());
        Assert.True(_apics[0].TryWriteMsr(0x830, (0xFFFF_FFFFUL << 32) | 0x56));
        Assert.Equal([0x56, 0x56, 0x56, 0x56], Take());
        Assert.True(_apics[2].TryWriteMsr(0x83F, 0x67));
        Assert.Equal([-1, -1, 0x67, -1], Take());
    }

    [Fact]
    public void X2apic_refuses_what_has_no_register_or_is_reserved()
    {
        EnterX2Apic();
        LocalApic apic = _apics[0];
        Assert.False(apic.TryWriteMsr(0x80B, 1));
        Assert.True(apic.TryWriteMsr(0x80B, 0));
        Assert.False(apic.TryReadMsr(0x80B, out _));
        Assert.False(apic.TryReadMsr(0x80E, out _));
        Assert.False(apic.TryReadMsr(0x831, out _));
        Assert.False(apic.TryReadMsr(0x83F, out _));
        Assert.False(apic.TryReadMsr(0x8FF, out _));
        Assert.False(apic.TryWriteMsr(0x802, 1));
        Assert.False(apic.TryWriteMsr(0x80D, 1));
        Assert.False(apic.TryWriteMsr(0x808, 0x100));
        Assert.False(apic.TryWriteMsr(0x828, 1));
        Assert.False(apic.TryWriteMsr(0x839, 1));
    }

    [Fact]
    public void One_shot_timer_counts_down_and_fires_once()
    {
        Write(0, Dcr, 0b1010);
        Write(0, LvtTimer, 0xEC);
        Write(0, InitialCount, 1000);
        _clock.Advance(64_000);
        Assert.Equal(500u, Read(0, CurrentCount));
        _clock.Advance(63_999);
        Assert.Equal(-1, _apics[0].AcknowledgeInterrupt());
        _clock.Advance(1);
        Assert.Equal(0xEC, _apics[0].AcknowledgeInterrupt());
        Write(0, Eoi, 0);
        _clock.Advance(1_000_000_000);
        Assert.Equal((0u, -1), (Read(0, CurrentCount), _apics[0].AcknowledgeInterrupt()));
        Assert.Equal(1000u, Read(0, InitialCount));
    }

    /// <summary>What a guest may do to a timer whose time is over while the timer's own event has not come yet.</summary>
    public static TheoryData<string, uint, uint> Changes => new()
    {
        { "one-shot becomes periodic", LvtTimer, 0x200ED },
        { "one-shot becomes TSC-deadline", LvtTimer, 0x400ED },
        { "the entry is masked", LvtTimer, 0x100EC },
        { "another vector", LvtTimer, 0xED },
        { "another divider", Dcr, 0b0011 },
        { "stopped", InitialCount, 0 },
        { "started anew", InitialCount, 1_000_000 },
        { "software-disabled", Svr, 0xFF },
    };

    /// <summary>The interrupt of the time that is over comes by the entry that stood then, and the timer does not go on by itself.</summary>
    [Theory]
    [MemberData(nameof(Changes))]
    public void A_change_after_the_end_of_a_one_shot_time_comes_after_its_interrupt(string change, uint register, uint value)
    {
        Write(0, Dcr, 0b1011);
        Write(0, LvtTimer, 0xEC);
        Write(0, InitialCount, 1000);
        _clock.SetTo(_clock.Nanoseconds + 1000);
        Write(0, register, value);
        Assert.True(_apics[0].AcknowledgeInterrupt() == 0xEC, change);
        Write(0, Eoi, 0);
        bool started = register == InitialCount && value != 0;
        Assert.Equal(started ? value : 0, Read(0, CurrentCount));
        Assert.Equal(started, _clock.AnyArmed);
        _clock.Advance(900_000);
        Assert.Equal(-1, _apics[0].AcknowledgeInterrupt());
        Write(0, Svr, 0x1FF);
        Write(0, LvtTimer, 0x200EE);
        Write(0, Dcr, 0b1011);
        Write(0, InitialCount, 1000);
        _clock.Advance(1000);
        Assert.Equal(0xEE, _apics[0].AcknowledgeInterrupt());
    }

    [Fact]
    public void A_periodic_timer_that_becomes_one_shot_at_a_period_s_end_has_had_its_interrupt_and_ends_with_the_next()
    {
        Write(0, Dcr, 0b1011);
        Write(0, LvtTimer, 0x200EC);
        Write(0, InitialCount, 1000);
        _clock.SetTo(_clock.Nanoseconds + 1300);
        Write(0, LvtTimer, 0xED);
        Assert.Equal(0xEC, _apics[0].AcknowledgeInterrupt());
        Write(0, Eoi, 0);
        Assert.Equal(700u, Read(0, CurrentCount));
        _clock.Advance(700);
        Assert.Equal(0xED, _apics[0].AcknowledgeInterrupt());
        Write(0, Eoi, 0);
        Assert.False(_clock.AnyArmed);
        Assert.Equal(0u, Read(0, CurrentCount));
    }

    [Fact]
    public void Another_divider_at_a_period_s_end_costs_no_interrupt()
    {
        Write(0, Dcr, 0b1011);
        Write(0, LvtTimer, 0x200EC);
        Write(0, InitialCount, 1000);
        _clock.SetTo(_clock.Nanoseconds + 1300);
        Write(0, Dcr, 0b0000);
        Assert.Equal(0xEC, _apics[0].AcknowledgeInterrupt());
        Write(0, Eoi, 0);
        Assert.Equal(700u, Read(0, CurrentCount));
        _clock.Advance(1399);
        Assert.Equal(-1, _apics[0].AcknowledgeInterrupt());
        _clock.Advance(1);
        Assert.Equal(0xEC, _apics[0].AcknowledgeInterrupt());
    }

    [Theory]
    [InlineData(0x000EDu)]
    [InlineData(0x200EDu)]
    [InlineData(0x500ECu)]
    public void A_deadline_that_is_over_has_fired_before_the_mode_or_the_mask_changes(uint entry)
    {
        Write(0, LvtTimer, 0x400EC);
        Assert.True(_apics[0].TryWriteMsr(0x6E0, 1000));
        _clock.SetTo(1000);
        Write(0, LvtTimer, entry);
        Assert.Equal(0xEC, _apics[0].AcknowledgeInterrupt());
        Write(0, Eoi, 0);
        Assert.Equal(0UL, ReadMsr(0, 0x6E0));
        Assert.False(_clock.AnyArmed);
    }

    [Fact]
    public void Who_sees_the_end_of_the_count_or_of_the_deadline_finds_the_interrupt()
    {
        Write(0, Dcr, 0b1011);
        Write(0, LvtTimer, 0xEC);
        Write(0, InitialCount, 1000);
        _clock.SetTo(1000);
        Assert.Equal(0u, Read(0, CurrentCount));
        Assert.Equal(1u << 12, Read(0, Irr + 0x70));
        Assert.Equal(0xEC, _apics[0].AcknowledgeInterrupt());
        Write(0, Eoi, 0);
        Write(0, LvtTimer, 0x400ED);
        Assert.True(_apics[0].TryWriteMsr(0x6E0, 2000));
        _clock.SetTo(2000);
        Assert.Equal(0UL, ReadMsr(0, 0x6E0));
        Assert.Equal(0xED, _apics[0].AcknowledgeInterrupt());
    }

    [Fact]
    public void Periodic_timer_fires_each_period()
    {
        Write(0, Dcr, 0b1011);
        Write(0, LvtTimer, 0x200EC);
        Write(0, InitialCount, 1_000_000);
        int fired = 0;
        for (int i = 0; i < 10; i++)
        {
            _clock.Advance(1_000_000);
            fired += _apics[0].AcknowledgeInterrupt() == 0xEC ? 1 : 0;
            Write(0, Eoi, 0);
        }

        Assert.Equal(10, fired);
        _clock.Advance(250_000);
        Assert.Equal(750_000u, Read(0, CurrentCount));
        Write(0, InitialCount, 0);
        Assert.False(_clock.AnyArmed);
    }

    [Fact]
    public void A_period_of_one_nanosecond_and_a_long_pause_cost_the_host_little()
    {
        Write(0, Dcr, 0b1011);
        Write(0, LvtTimer, 0x200EC);
        Write(0, InitialCount, 1);
        _clock.Advance(1_000_000_000);
        Assert.InRange(_clock.Callbacks, 1_000, 50_001);
        Assert.Equal(1u, Read(0, CurrentCount));
        int before = _clock.Callbacks;
        _clock.Jump(3_600_000_000_000);
        Assert.Equal(before + 1, _clock.Callbacks);
    }

    [Fact]
    public void Tsc_deadline_fires_when_the_counter_reaches_it()
    {
        LocalApic apic = _apics[0];
        apic.TscOffset = 5_000_000;
        Write(0, LvtTimer, 0x400EC);
        Assert.True(apic.TryWriteMsr(0x6E0, 6_000_000));
        Assert.Equal(6_000_000UL, ReadMsr(0, 0x6E0));
        _clock.Advance(999_999);
        Assert.Equal(-1, apic.AcknowledgeInterrupt());
        _clock.Advance(1);
        Assert.Equal(0xEC, apic.AcknowledgeInterrupt());
        Assert.Equal(0UL, ReadMsr(0, 0x6E0));
        Write(0, Eoi, 0);

        // One in the past fires at once; zero disarms; the far future does not overflow.
        Assert.True(apic.TryWriteMsr(0x6E0, 1));
        Assert.Equal(0xEC, apic.AcknowledgeInterrupt());
        Write(0, Eoi, 0);
        Assert.True(apic.TryWriteMsr(0x6E0, ulong.MaxValue));
        _clock.Advance(1_000_000_000);
        Assert.Equal(-1, apic.AcknowledgeInterrupt());
        Assert.True(apic.TryWriteMsr(0x6E0, 0));
        Assert.False(_clock.AnyArmed);
    }

    [Fact]
    public void Leaving_deadline_mode_disarms_and_the_MSR_reads_zero_outside_it()
    {
        Write(0, LvtTimer, 0x400EC);
        Assert.True(_apics[0].TryWriteMsr(0x6E0, 1_000));
        Write(0, LvtTimer, 0xEC);
        Assert.Equal(0UL, ReadMsr(0, 0x6E0));
        Assert.True(_apics[0].TryWriteMsr(0x6E0, 1_000));
        _clock.Advance(10_000);
        Assert.Equal(-1, _apics[0].AcknowledgeInterrupt());
    }

    [Fact]
    public void Virtual_wire_mode_takes_the_vector_from_the_8259()
    {
        PcInterruptControllers controllers = new(_bus);
        DualPic8259 pic = controllers.Pic;
        InterruptRouter router = new(controllers);
        _apics[0].EnableVirtualWireMode();
        PicTests.InitialiseLikeLinux(pic);
        pic.Master.Out(1, 0xFE);
        router.GetLine(0).Set(true);
        Assert.True(_signals[0].Interrupts > 0);
        Assert.Equal([0x30, -1, -1, -1], Take());
        Assert.Equal(-1, _apics[0].AcknowledgeInterrupt());

        // A switched-off APIC lets INTR through; a masked LINT0 does not.
        pic.Master.Out(0, 0x20);
        Write(0, LvtLint0, 0x10700);
        pic.Master.Out(1, 0xFD);
        router.GetLine(1).Set(true);
        Assert.Equal(-1, _apics[0].AcknowledgeInterrupt());
        Assert.True(_apics[0].TryWriteApicBase(0xFEE0_0100));
        Assert.Equal(0x31, _apics[0].AcknowledgeInterrupt());
    }

    [Fact]
    public void A_level_LINT0_interrupts_until_it_falls_also_when_unmasked_late()
    {
        _bus.Set(true);
        Write(0, LvtLint0, 0x8055);
        Assert.Equal(0xC055u, Read(0, LvtLint0));
        Assert.Equal(0x55, _apics[0].AcknowledgeInterrupt());
        Write(0, Eoi, 0);
        Assert.Equal(0x55, _apics[0].AcknowledgeInterrupt());
        _bus.Set(false);
        Write(0, Eoi, 0);
        Assert.Equal(-1, _apics[0].AcknowledgeInterrupt());
        Assert.Equal(0x8055u, Read(0, LvtLint0));
        _bus.Set(true);
        Assert.Equal(0x55, _apics[0].AcknowledgeInterrupt());
    }

    [Fact]
    public void Restored_APICs_go_on_where_the_saved_ones_were()
    {
        Write(0, Dcr, 0b1011);
        Write(0, LvtTimer, 0x200EC);
        Write(0, InitialCount, 1_000_000);
        SendIpi(1, 0, 0x4051);
        SendIpi(1, 0, 0x4061);
        Assert.Equal(0x61, _apics[0].AcknowledgeInterrupt());
        _clock.Advance(400_000);

        TestClock clock = new();
        clock.SetTo(_clock.Nanoseconds);
        RecordingSignals signals = new();
        LocalApic copy = new(0, new ApicBus(), clock, signals, isBootstrap: true);
        copy.Restore(_apics[0].Save());
        Assert.Equal(JsonSerializer.Serialize(_apics[0].Save()), JsonSerializer.Serialize(copy.Save()));
        clock.Advance(600_000);
        Assert.Equal(0xEC, copy.AcknowledgeInterrupt());
        copy.WriteMmio(Eoi, new byte[4]);
        copy.WriteMmio(Eoi, new byte[4]);
        Assert.Equal(0x51, copy.AcknowledgeInterrupt());
    }

    [Fact]
    public void A_restored_APIC_keeps_its_deadline_its_level_interrupts_and_its_LINT0()
    {
        ApicBus bus = new();
        PcInterruptControllers controllers = new(bus);
        (DualPic8259 pic, IoApic ioApic) = (controllers.Pic, controllers.IoApic);
        InterruptRouter router = new(controllers);
        LocalApic original = new(0, bus, _clock, new RecordingSignals(), isBootstrap: true);
        PicTests.InitialiseLikeLinux(pic);
        pic.Master.Out(1, 0xFD);
        original.EnableVirtualWireMode();
        original.WriteMmio(LvtTimer, [0xEC, 0, 4, 0]);
        Assert.True(original.TryWriteMsr(0x6E0, 1_000_000));
        ioApic.WriteMmio(0, [0x10 + (2 * 9), 0, 0, 0]);
        ioApic.WriteMmio(0x10, [0x49, 0x80, 0, 0]);
        router.GetLine(9).Set(true);
        Assert.Equal(0x49, original.AcknowledgeInterrupt());
        router.GetLine(1).Set(true);

        // The copy hangs on the same bus, so that the controllers that it talks to are the original's.
        LocalApic copy = new(0, bus, _clock, new RecordingSignals(), isBootstrap: true);
        LocalApicState state = original.Save();
        bus.Set(false);
        copy.Restore(state);
        Assert.Equal(0x31, copy.AcknowledgeInterrupt());

        // INTR has fallen; the bus, which the test holds low already, has to say so.
        bus.Set(true);
        bus.Set(false);
        copy.WriteMmio(Eoi, new byte[4]);
        Assert.Equal(0x49, copy.AcknowledgeInterrupt());
        _clock.Advance(1_000_000);
        Assert.Equal(0xEC, copy.AcknowledgeInterrupt());
    }
}
