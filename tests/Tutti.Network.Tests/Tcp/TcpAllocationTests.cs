using Tutti.Host;
using Tutti.Network.Ip;
using Tutti.Network.Tcp;

namespace Tutti.Network.Tests.Tcp;

public sealed class TcpAllocationTests
{
    [Fact]
    public void Segments_of_both_directions_allocate_nothing()
    {
        Endless endless = new();
        byte[] segment = new byte[20 + 60_000];
        TcpSegment.Write(segment, 1000, 80, 100, 0, TcpFlags.Syn, 65535, 20);
        endless.Engine.OnSegment(Endless.FromGuest, segment.AsSpan(0, 20));
        endless.OnReady!(IoEvents.Writable);
        endless.Engine.Flush();
        endless.OnReady!(IoEvents.Readable | IoEvents.Writable);

        // The first rounds make what is kept, and let the runtime compile.
        uint sequence = 101;
        Exchange(endless, segment, ref sequence, 2000);
        long received = endless.Received;
        long sent = endless.Sent;
        long before = GC.GetAllocatedBytesForCurrentThread();
        Exchange(endless, segment, ref sequence, 2000);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        Assert.Equal(2000 * 60_000, endless.Received - received);
        Assert.True(endless.Sent - sent >= 2000 * 50_000, $"{endless.Sent - sent} bytes went to the guest.");
    }

    private static void Exchange(Endless endless, byte[] segment, ref uint sequence, int rounds)
    {
        for (int i = 0; i < rounds; i++)
        {
            TcpSegment.Write(segment, 1000, 80, sequence, endless.NextToGuest, TcpFlags.Ack, 65535, 20);
            endless.Engine.OnSegment(Endless.FromGuest, segment);
            sequence += 60_000;
            endless.Engine.Flush();
            endless.Now += 100_000;
        }
    }

    /// <summary>A socket that takes and gives without end, and a guest that has room for all.</summary>
    private sealed class Endless : ITcpHost, IIpOutput, ITcpSocket
    {
        public static readonly IpEndpoints FromGuest = new(false, 0x0A00020F, 0xC0000201);
        private readonly byte[] _buffer = new byte[IIpOutput.MaxSegment];

        public Endless() => Engine = new TcpEngine(this, this, 10, 64 << 20);

        public TcpEngine Engine { get; }

        public Action<IoEvents>? OnReady { get; private set; }

        public uint NextToGuest { get; private set; }

        public long Received { get; private set; }

        public long Sent { get; private set; }

        public long Now { get; set; } = 1_000_000_000;

        public int Mtu => 1500;

        public void WakeAt(long deadline)
        {
        }

        public void Defer()
        {
        }

        public Reach Decide(in TcpFlow flow, out HostEndpoint destination)
        {
            destination = HostEndpoint.Loopback4(80);
            return Reach.Allowed;
        }

        public ITcpSocket? ConnectResolver(Action<IoEvents> onReady) => null;

        public ITcpSocket? Connect(in HostEndpoint destination, Action<IoEvents> onReady, out int errno)
        {
            errno = 0;
            OnReady = onReady;
            return this;
        }

        public Span<byte> ReserveTcp() => _buffer;

        public int SendTcp(in IpEndpoints endpoints, int headerLength, int payloadLength, int segmentSize)
        {
            uint sequence = System.Buffers.Binary.BinaryPrimitives.ReadUInt32BigEndian(_buffer.AsSpan(4));
            NextToGuest = sequence + (uint)payloadLength + (((TcpFlags)_buffer[13] & TcpFlags.Syn) != 0 ? 1u : 0);
            Sent += payloadLength;
            return payloadLength;
        }

        public void SendUnreachable(UnreachableReason reason)
        {
        }

        public int TakeError() => 0;

        public int Send(ReadOnlySpan<byte> data)
        {
            Received += data.Length;
            return data.Length;
        }

        public int Peek(int offset, Span<byte> into) => into.Length;

        public int Discard(int count) => count;

        public void ShutdownWrite()
        {
        }

        public void KeepAlive()
        {
        }

        public void SetResetOnClose()
        {
        }

        public void Dispose()
        {
        }
    }
}
