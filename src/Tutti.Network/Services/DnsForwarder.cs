using System.Buffers.Binary;
using System.Security.Cryptography;
using Tutti.Host;
using Tutti.Network.Ip;
using Tutti.Workers;

namespace Tutti.Network.Services;

/// <summary>
/// The resolver at .3 and fec0::3: hands the guest's questions to the host's resolvers, one after the other while none answers, each from a port and with
/// an identification of its own, and lets only the answer to that question back. A truncated answer makes the guest ask by TCP, which
/// is spliced to the same resolver.
/// </summary>
internal sealed class DnsForwarder : IDisposable
{
    public const int MaxQueries = 128;
    private const int MaxQuery = 1232;
    private const int Header = 12;
    private const long Patience = 2_000_000_000;
    private const int MaxTries = 6;

    private readonly EventLoop _loop;
    private readonly IpOutput _output;
    private readonly GuestLink _link;
    private readonly HostResolvers _resolvers;
    private readonly Query[] _queries = new Query[MaxQueries];
    private readonly LoopTimer _timer;

    public DnsForwarder(EventLoop loop, IpOutput output, GuestLink link, HostResolvers resolvers)
    {
        _loop = loop;
        _output = output;
        _link = link;
        _resolvers = resolvers;
        _timer = loop.AddTimer(CheckPatience);
    }

    /// <summary>A question of the guest's, UDP's header taken off.</summary>
    public void Take(in IpEndpoints endpoints, ushort guestPort, ReadOnlySpan<byte> message)
    {
        // A query of one question; what is not is dropped (RFC 9619).
        if (message.Length is < Header + 5 or > MaxQuery || (message[2] & 0xF8) != 0 || BinaryPrimitives.ReadUInt16BigEndian(message[4..]) != 1 || QuestionEnd(message) < 0)
        {
            return;
        }

        foreach (Query? other in _queries)
        {
            if (other is { IsUsed: true } && other.GuestPort == guestPort && other.Endpoints == endpoints && other.Message.AsSpan(0, 2).SequenceEqual(message[..2]) && other.Length == message.Length)
            {
                // The guest has lost patience before us: the same question is under way.
                return;
            }
        }

        for (int i = 0; i < MaxQueries; i++)
        {
            Query query = _queries[i] ??= new Query(this);
            if (!query.IsUsed)
            {
                query.Begin(endpoints, guestPort, message);
                Ask(query);
                break;
            }
        }
    }

    public void Dispose()
    {
        _timer.Cancel();
        foreach (Query? query in _queries)
        {
            query?.End();
        }
    }

    /// <summary>Where the question's section ends; -1 when it does not, or its name is compressed.</summary>
    internal static int QuestionEnd(ReadOnlySpan<byte> message)
    {
        int at = Header;
        while (at < message.Length && message[at] != 0)
        {
            if (message[at] > 63)
            {
                return -1;
            }

            at += message[at] + 1;
        }

        return at + 5 <= message.Length && at - Header < 255 ? at + 5 : -1;
    }

    private void Ask(Query query)
    {
        while (query.IsUsed)
        {
            query.CloseSocket();
            ReadOnlySpan<HostEndpoint> servers = _resolvers.Servers;
            if (query.Tries >= Math.Min(MaxTries, servers.Length * 2))
            {
                Fail(query);
                return;
            }

            HostEndpoint server = servers[query.Tries++ % servers.Length];
            HostSocket? socket = HostSocket.TryOpenUdp(server.IsVersion6, out _);
            if (socket == null || socket.Connect(server) < 0)
            {
                socket?.Dispose();
                continue;
            }

            query.Identification = (ushort)RandomNumberGenerator.GetInt32(65536);
            Span<byte> copy = _output.Transport[..query.Length];
            query.Message.AsSpan(0, query.Length).CopyTo(copy);
            BinaryPrimitives.WriteUInt16BigEndian(copy, query.Identification);
            query.Open(socket, _loop);
            if (socket.Send(copy) < 0)
            {
                continue;
            }

            query.Deadline = HostTime.Nanoseconds + Patience;
            if (!_timer.IsArmed)
            {
                _timer.Arm(query.Deadline);
            }

            return;
        }
    }

    private void Receive(Query query)
    {
        Span<byte> room = _output.Transport[FrameFormat.UdpHeader..];
        int count = query.Socket!.Receive(room);
        if (count < 0)
        {
            if (count != -Errno.EAGAIN)
            {
                Ask(query);
                _link.EndBatch();
            }

            return;
        }

        ReadOnlySpan<byte> asked = query.Message.AsSpan(0, query.Length);
        Span<byte> answer = room[..count];
        int end = QuestionEnd(asked);
        bool isAnswer = count >= Header && (answer[2] & 0x80) != 0 && BinaryPrimitives.ReadUInt16BigEndian(answer) == query.Identification;
        bool hasQuestion = count >= end && SameQuestion(answer[Header..end], asked[Header..end]);
        // A refusal may come without the question.
        if (!isAnswer || (!hasQuestion && !(count == Header && (answer[3] & 15) != 0)))
        {
            return;
        }

        asked[..2].CopyTo(answer);
        Reply(query, count);
    }

    private static bool SameQuestion(ReadOnlySpan<byte> left, ReadOnlySpan<byte> right) =>
        System.Text.Ascii.EqualsIgnoreCase(left[..^4], right[..^4]) ? left[^4..].SequenceEqual(right[^4..]) : left.SequenceEqual(right);

    private void Fail(Query query)
    {
        int end = QuestionEnd(query.Message.AsSpan(0, query.Length));
        Span<byte> answer = _output.Transport.Slice(FrameFormat.UdpHeader, end);
        query.Message.AsSpan(0, end).CopyTo(answer);
        answer[2] = (byte)(0x80 | (answer[2] & 1));
        // Recursion available; SERVFAIL.
        answer[3] = 0x82;
        answer[6..12].Clear();
        Reply(query, end);
    }

    private void Reply(Query query, int length)
    {
        _output.SendUdp(query.Endpoints.Reversed, ReachPolicy.DnsPort, query.GuestPort, length);
        query.End();
        _link.EndBatch();
    }

    private void CheckPatience()
    {
        long now = HostTime.Nanoseconds;
        long next = long.MaxValue;
        foreach (Query? query in _queries)
        {
            if (query is { IsUsed: true })
            {
                if (query.Deadline <= now)
                {
                    Ask(query);
                }

                next = query.IsUsed ? Math.Min(next, query.Deadline) : next;
            }
        }

        if (next != long.MaxValue)
        {
            _timer.Arm(next);
        }
    }

    private sealed class Query
    {
        private readonly Action<IoEvents> _onReady;
        private LoopWatch? _watch;

        public Query(DnsForwarder forwarder) => _onReady = _ => forwarder.Receive(this);

        public byte[] Message { get; } = new byte[MaxQuery];

        public bool IsUsed { get; private set; }

        public IpEndpoints Endpoints { get; private set; }

        public ushort GuestPort { get; private set; }

        public int Length { get; private set; }

        public int Tries { get; set; }

        public ushort Identification { get; set; }

        public long Deadline { get; set; }

        public HostSocket? Socket { get; private set; }

        public void Begin(in IpEndpoints endpoints, ushort guestPort, ReadOnlySpan<byte> message)
        {
            (IsUsed, Endpoints, GuestPort, Length, Tries) = (true, endpoints, guestPort, message.Length, 0);
            message.CopyTo(Message);
        }

        public void Open(HostSocket socket, EventLoop loop)
        {
            Socket = socket;
            _watch = loop.Watch(socket.Descriptor, IoEvents.Readable, _onReady);
        }

        public void CloseSocket()
        {
            _watch?.Dispose();
            Socket?.Dispose();
            _watch = null;
            Socket = null;
        }

        public void End()
        {
            CloseSocket();
            IsUsed = false;
        }
    }
}
