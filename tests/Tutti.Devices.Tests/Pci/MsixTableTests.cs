using System.Buffers.Binary;

namespace Tutti.Devices.Tests.Pci;

/// <summary>MSI-X as a driver uses it: the table in a range, the switches in configuration space.</summary>
public sealed class MsixTableTests
{
    private const ulong Range = 0xD000_0000;
    private const uint Enable = 0x8000_0000;
    private const uint FunctionMask = 0x4000_0000;

    private readonly PciBench _bench = new();
    private readonly TestFunction _function = new();

    public MsixTableTests()
    {
        _bench.Bus.Add(_function, 3);
        _bench.WriteConfig(3, 0x10, (uint)Range);
        _bench.WriteConfig(3, 4, 6, 2);
    }

    [Fact]
    public void A_signal_sends_the_message_of_its_entry()
    {
        WriteEntry(0, 0xFEE0_1000, 0x41, 0);
        WriteEntry(69, 0xFEE0_2000, 0x42, 0);
        SetControl(Enable);
        _function.Msix.Signal(69);
        _function.Msix.Signal(0);
        _function.Msix.Signal(70);
        _function.Msix.Signal(-1);
        Assert.Equal([(0xFEE0_2000, 0x42), (0xFEE0_1000, 0x41)], _bench.Messages.Sent);
    }

    [Fact]
    public void Nothing_is_sent_and_nothing_remembered_while_it_is_off()
    {
        WriteEntry(0, 0xFEE0_1000, 0x41, 0);
        _function.Msix.Signal(0);
        SetControl(Enable);
        Assert.Empty(_bench.Messages.Sent);
        Assert.Equal(0u, ReadPending(0));
    }

    [Fact]
    public void A_masked_vector_is_pending_and_sent_once_when_it_is_unmasked()
    {
        WriteEntry(5, 0xFEE0_1000, 0x41, 1);
        SetControl(Enable);
        _function.Msix.Signal(5);
        _function.Msix.Signal(5);
        Assert.Empty(_bench.Messages.Sent);
        Assert.Equal(1u << 5, ReadPending(0));
        WriteEntry(5, 0xFEE0_1000, 0x43, 0);
        Assert.Equal([(0xFEE0_1000, 0x43)], _bench.Messages.Sent);
        Assert.Equal(0u, ReadPending(0));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_function_mask_and_bus_mastering_hold_all_vectors_back(bool byBusMaster)
    {
        WriteEntry(1, 0xFEE0_1000, 0x41, 0);
        WriteEntry(66, 0xFEE0_1000, 0x42, 0);
        SetControl(Enable);
        Hold();
        _function.Msix.Signal(1);
        _function.Msix.Signal(66);
        Assert.Empty(_bench.Messages.Sent);
        Assert.Equal((2u, 4u), (ReadPending(0), ReadPending(8)));
        if (byBusMaster)
        {
            _bench.WriteConfig(3, 4, 6, 2);
        }
        else
        {
            SetControl(Enable);
        }

        Assert.Equal([(0xFEE0_1000, 0x41), (0xFEE0_1000, 0x42)], _bench.Messages.Sent);

        void Hold()
        {
            if (byBusMaster)
            {
                _bench.WriteConfig(3, 4, 2, 2);
            }
            else
            {
                SetControl(Enable | FunctionMask);
            }
        }
    }

    [Fact]
    public void A_message_that_is_no_interrupt_goes_nowhere()
    {
        WriteEntry(0, 0x1000, 0x41, 0);
        SetControl(Enable);
        _function.Msix.Signal(0);
        _bench.WriteConfig(3, 4, 2, 2);
        WriteEntry(0, 0x1_FEE0_0000, 0x41, 0);
        _bench.WriteConfig(3, 4, 6, 2);
        _function.Msix.Signal(0);
        Assert.Empty(_bench.Messages.Sent);
        Assert.Equal(0, _bench.Messages.Alive);
    }

    [Fact]
    public void INTA_rests_while_messages_are_on()
    {
        _function.SetLine(true);
        Assert.True(_bench.Lines[3].Asserted);
        SetControl(Enable);
        Assert.False(_bench.Lines[3].Asserted);
        SetControl(0);
        Assert.True(_bench.Lines[3].Asserted);
    }

    [Fact]
    public void The_table_reads_back_and_only_whole_words_of_it_are_written()
    {
        WriteEntry(0, 0xFEE0_1003, 0xFFFF_FFFF, 0xFFFF_FFFF);
        Assert.Equal(0xFEE0_1000u, ReadTable(0));
        Assert.Equal(0xFFFF_FFFFu, ReadTable(8));
        Assert.Equal(1u, ReadTable(12));
        _bench.Mmio.Write(Range + TestFunction.TableOffset, [1, 2]);
        Assert.Equal(0xFEE0_1000u, ReadTable(0));
        _bench.Mmio.Write(Range + TestFunction.TableOffset, [0, 0, 0xE1, 0xFE, 7, 0, 0, 0]);
        Assert.Equal((0xFEE1_0000u, 7u), (ReadTable(0), ReadTable(4)));
        _bench.Mmio.Write(Range + TestFunction.PbaOffset, [0xFF, 0xFF, 0xFF, 0xFF]);
        Assert.Equal(0u, ReadPending(0));
        Assert.Equal(0u, ReadTable(TestFunction.VectorCount * 16));
    }

    [Fact]
    public void A_function_that_leaves_gives_its_messages_back_and_sends_no_more()
    {
        WriteEntry(0, 0xFEE0_1000, 0x41, 0);
        SetControl(Enable);
        Assert.Equal(1, _bench.Messages.Alive);
        _bench.Bus.Remove(3);
        Assert.Equal(0, _bench.Messages.Alive);
        _function.Msix.Signal(0);
        Assert.Empty(_bench.Messages.Sent);
        _bench.Bus.Add(_function, 4);
        Assert.Equal([(0xFEE0_1000, 0x41)], _bench.Messages.Sent);
    }

    [Fact]
    public void Pending_vectors_survive_save_and_restore()
    {
        WriteEntry(5, 0xFEE0_1000, 0x41, 1);
        SetControl(Enable);
        _function.Msix.Signal(5);
        PciBench other = new();
        TestFunction copy = new();
        other.Bus.Add(copy, 3);
        other.Bus.Restore(_bench.Bus.Save());
        Assert.True(copy.IsMsixEnabled);
        other.Mmio.Write(Range + TestFunction.TableOffset + (5 * 16) + 12, new byte[4]);
        Assert.Equal([(0xFEE0_1000, 0x41)], other.Messages.Sent);
    }

    [Fact]
    public void No_signal_is_lost_or_doubled_while_another_thread_masks_and_unmasks()
    {
        const int Rounds = 20_000;
        WriteEntry(0, 0xFEE0_1000, 0x41, 0);
        SetControl(Enable);
        Thread device = new(() =>
        {
            // The next only when the last has come: then each is one message, whatever the masks did meanwhile.
            for (int i = 1; i <= Rounds; i++)
            {
                _function.Msix.Signal(0);
                SpinWait.SpinUntil(() => _bench.Messages.Count >= i);
            }
        });
        device.Start();
        byte mask = 0;
        while (!device.Join(0))
        {
            mask ^= 1;
            _bench.Mmio.Write(Range + TestFunction.TableOffset + 12, [mask, 0, 0, 0]);
        }

        Assert.Equal(Rounds, _bench.Messages.Count);
    }

    [Fact]
    public void A_signal_allocates_nothing()
    {
        WriteEntry(5, 0xFEE0_1000, 0x41, 1);
        SetControl(Enable);
        _function.Msix.Signal(5);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++)
        {
            _function.Msix.Signal(5);
        }

        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
    }

    private void SetControl(uint control) => _bench.WriteConfig(3, 0x40, control);

    private void WriteEntry(int vector, ulong address, uint data, uint control)
    {
        Span<byte> entry = stackalloc byte[16];
        BinaryPrimitives.WriteUInt64LittleEndian(entry, address);
        BinaryPrimitives.WriteUInt32LittleEndian(entry[8..], data);
        BinaryPrimitives.WriteUInt32LittleEndian(entry[12..], control);
        for (int i = 0; i < 16; i += 4)
        {
            _bench.Mmio.Write(Range + TestFunction.TableOffset + (ulong)((vector * 16) + i), entry.Slice(i, 4));
        }
    }

    private uint ReadTable(ulong offset) => Read(TestFunction.TableOffset + offset);

    private uint ReadPending(ulong offset) => Read(TestFunction.PbaOffset + offset);

    private uint Read(ulong offset)
    {
        Span<byte> data = stackalloc byte[4];
        _bench.Mmio.Read(Range + offset, data);
        return BinaryPrimitives.ReadUInt32LittleEndian(data);
    }
}
