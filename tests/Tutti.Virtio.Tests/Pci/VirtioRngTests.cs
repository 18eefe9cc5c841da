using Tutti.Virtio.Entropy;
using Tutti.Virtio.Pci;

namespace Tutti.Virtio.Tests.Pci;

public sealed class VirtioRngTests : IDisposable
{
    private const long Second = 1_000_000_000;
    private readonly PciBed _bed = new();
    private readonly TestGuestClock _clock = new();
    private readonly VirtioPciFunction _function;
    private readonly PciDriver _driver;
    private readonly GuestQueue _queue;

    public VirtioRngTests()
    {
        _function = _bed.Plug(new VirtioRng(new Counting(), _bed.Worker, _clock, 64 << 10));
        _driver = new PciDriver(_bed, _function.Slot);
        _driver.Begin(ulong.MaxValue);
        _queue = _driver.AddQueue(0, 64, 0x1_0000, ulong.MaxValue);
        _driver.Finish();
        _ = _bed.Worker.Run();
    }

    public void Dispose() => _bed.Dispose();

    [Fact]
    public void A_request_is_filled_over_all_its_buffers()
    {
        _ = _queue.Add(new Buffer(0x100, 10, true), new Buffer(0x200, 6, true));
        _ = _queue.Kick();
        _ = _bed.Worker.Run();
        Assert.True(_queue.TryTake(out _, out uint written));
        Assert.Equal(16u, written);
        Assert.DoesNotContain((byte)0, _bed.Ram(0x100, 10).ToArray());
        Assert.DoesNotContain((byte)0, _bed.Ram(0x200, 6).ToArray());
        Assert.Equal(0, _bed.Ram(0x206, 1)[0]);
    }

    [Fact]
    public void A_guest_gets_no_more_bytes_than_its_rate_and_waits_without_being_asked_again()
    {
        long bytes = 0;
        int lent = 0;
        for (int step = 0; step < 500; step++)
        {
            while (_queue.TryTake(out _, out uint written))
            {
                bytes += written;
                lent--;
            }

            for (; lent < 8; lent++)
            {
                _ = _queue.Add(new Buffer(0x4000, 0x2000, true));
            }

            _ = _queue.Kick();
            Assert.InRange(_bed.Worker.Run(), 0, 10);
            _clock.Advance(Second / 100);
            _ = _bed.Worker.Run();
        }

        // Five seconds, and the burst.
        Assert.InRange(bytes, 250_000, (5 * (64 << 10)) + 4096 + 4096);
    }

    [Fact]
    public void Requests_without_room_cannot_keep_the_worker_busy()
    {
        for (int i = 0; i < 64; i++)
        {
            _ = _queue.Add(new Buffer(0x100, 10));
        }

        _ = _queue.Kick();
        Assert.InRange(_bed.Worker.Run(), 1, 3);
        Assert.Equal(64, _queue.UsedIndex);
    }

    private sealed class Counting : IEntropySource
    {
        private byte _next;

        public void Fill(Span<byte> buffer)
        {
            foreach (ref byte value in buffer)
            {
                _next = _next == byte.MaxValue ? (byte)1 : (byte)(_next + 1);
                value = _next;
            }
        }
    }
}
