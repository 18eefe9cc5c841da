using System.Runtime.CompilerServices;

namespace Tutti.Host.Tests;

public sealed class SocketTests
{
    [Fact]
    public void The_structures_have_the_kernels_sizes()
    {
        Assert.Equal(28, Unsafe.SizeOf<SocketAddress>());
        Assert.Equal(16, Unsafe.SizeOf<IoVector>());
        Assert.Equal(56, Unsafe.SizeOf<MessageHeader>());
        Assert.Equal(16, Unsafe.SizeOf<ResourceLimit>());
        Assert.Equal(8, Unsafe.SizeOf<Linger>());
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Bytes_are_read_ahead_from_an_offset_and_dropped_at_the_head(bool isVersion6)
    {
        (HostSocket near, HostSocket far) = Connect(isVersion6);
        using (near)
        using (far)
        {
            Assert.Equal(6, far.Send("abcdef"u8));
            byte[] into = new byte[8];
            if (near.SetPeekOffset(0) == 0)
            {
                Assert.Equal(2, near.Peek(into.AsSpan(0, 2)));
                Assert.Equal(4, near.Peek(into));
                Assert.Equal("cdef"u8, into.AsSpan(0, 4));
                Assert.Equal(-Errno.EAGAIN, near.Peek(into));
                Assert.Equal(3, near.Discard(3));
                Assert.Equal(0, near.SetPeekOffset(1));
                Assert.Equal(2, near.Peek(into));
                Assert.Equal("ef"u8, into.AsSpan(0, 2));
                Assert.Equal(3, near.Discard(3));
                Assert.Equal(6, far.Send("abcdef"u8));
                Assert.Equal(0, near.SetPeekOffset(-1));
            }

            byte[] scratch = new byte[65536];
            Assert.Equal(4, near.PeekPast(2, into, scratch));
            Assert.Equal("cdef"u8, into.AsSpan(0, 4));
            Assert.Equal(-Errno.EAGAIN, near.PeekPast(6, into, scratch));
            Assert.Equal(6, near.Receive(into));
            Assert.Equal(-Errno.EAGAIN, near.Receive(into));
            Assert.Equal(0, far.ShutdownWrite());
            Assert.Equal(0, near.Receive(into));
        }
    }

    [Fact]
    public void A_reset_on_close_reaches_the_peer()
    {
        (HostSocket near, HostSocket far) = Connect(isVersion6: false);
        using (far)
        {
            near.SetResetOnClose();
            near.Dispose();
            Assert.Equal(-Errno.ECONNRESET, far.Receive(new byte[1]));
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Datagrams_say_where_they_come_from(bool isVersion6)
    {
        using HostSocket first = HostSocket.TryOpenUdp(isVersion6, out _)!;
        using HostSocket second = HostSocket.TryOpenUdp(isVersion6, out _)!;
        Assert.Equal(0, first.Bind(Loopback(isVersion6)));
        Assert.Equal(0, second.Bind(Loopback(isVersion6)));
        Assert.Equal(3, first.SendTo("abc"u8, second.LocalEndpoint));
        Assert.Equal(3, second.ReceiveFrom(new byte[2], out HostEndpoint from));
        Assert.Equal(first.LocalEndpoint, from);
    }

    [Fact]
    public void A_refused_connection_says_so()
    {
        using HostSocket closed = HostSocket.TryOpenTcp(isVersion6: false, out _)!;
        Assert.Equal(0, closed.Bind(Loopback(isVersion6: false)));
        using HostSocket socket = HostSocket.TryOpenTcp(isVersion6: false, out _)!;
        int answer = socket.Connect(closed.LocalEndpoint);
        Assert.Contains(answer, new[] { -Errno.EINPROGRESS, -Errno.ECONNREFUSED });
        Assert.True(answer == -Errno.ECONNREFUSED || socket.TakeError() == Errno.ECONNREFUSED);
    }

    [Fact]
    public void Endpoints_are_written_as_people_write_them()
    {
        Assert.Equal("127.0.0.1:80", HostEndpoint.Loopback4(80).ToString());
        Assert.Equal("[::1]:80", HostEndpoint.Loopback6(80).ToString());
        Assert.Equal(HostEndpoint.Loopback6(7), HostEndpoint.From(System.Net.IPAddress.IPv6Loopback, 7));
        Assert.Equal(HostEndpoint.Loopback4(7), HostEndpoint.From(System.Net.IPAddress.Loopback, 7));
    }

    [Fact]
    public void The_limit_of_descriptors_is_raised() => Assert.True(DescriptorLimit.Raise() >= 256);

    private static HostEndpoint Loopback(bool isVersion6) => isVersion6 ? HostEndpoint.Loopback6(0) : HostEndpoint.Loopback4(0);

    private static (HostSocket Near, HostSocket Far) Connect(bool isVersion6)
    {
        using HostSocket listener = HostSocket.TryOpenTcp(isVersion6, out _)!;
        Assert.Equal(0, listener.Bind(Loopback(isVersion6)));
        Assert.Equal(0, listener.Listen(1));
        HostSocket near = HostSocket.TryOpenTcp(isVersion6, out _)!;
        Assert.Contains(near.Connect(listener.LocalEndpoint), new[] { 0, -Errno.EINPROGRESS });
        HostSocket? far = null;
        for (int i = 0; far == null && i < 1000; i++)
        {
            far = listener.TryAccept(out _, out _);
            Thread.Sleep(far == null ? 1 : 0);
        }

        return (near, far!);
    }
}
