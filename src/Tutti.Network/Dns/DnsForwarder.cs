using Tutti.Host;
using Tutti.Network.Ip;
using Tutti.Network.Tcp;
using Tutti.Workers;

namespace Tutti.Network.Dns;

/// <summary>
/// The resolver at .3 and fec0::3: hands the guest's questions to the host's resolvers, one after the other while none answers well, and lets only the answer
/// to that question back. By TCP likewise: the guest's connection ends here, and what is passed on are whole queries.
/// </summary>
internal sealed class DnsForwarder : IDisposable
{
    public const int MaxQueries = 128;
    public const int MaxStreams = 64;

    private readonly IpOutput _output;
    private readonly GuestLink _link;
    private readonly HostResolvers _resolvers;
    private readonly DnsQuery?[] _queries = new DnsQuery?[MaxQueries];
    private readonly List<DnsStream> _streams = [];
    private readonly LoopTimer _timer;
    private readonly LoopTimer _idle;
    private long _deadline;
    private int _used;
    private int _nextServer;

    public DnsForwarder(EventLoop loop, IpOutput output, GuestLink link, HostResolvers resolvers)
    {
        Loop = loop;
        _output = output;
        _link = link;
        _resolvers = resolvers;
        _timer = loop.AddTimer(CheckPatience);
        _idle = loop.AddTimer(CheckIdle);
    }

    public EventLoop Loop { get; }

    /// <summary>Queries that have been taken.</summary>
    public long Queries { get; private set; }

    /// <summary>Queries that found no room.</summary>
    public long Overflows { get; private set; }

    public int StreamCount => _streams.Count;

    /// <summary>Where a message may lie until something is sent to the guest.</summary>
    public Span<byte> Room => _output.Transport[FrameFormat.UdpHeader..];

    /// <summary>A question of the guest's, UDP's header taken off.</summary>
    public void Take(in IpEndpoints endpoints, ushort guestPort, ReadOnlySpan<byte> message)
    {
        if (!DnsMessage.IsQuery(message))
        {
            return;
        }

        foreach (DnsQuery? other in _queries)
        {
            if (other is { IsUsed: true, Stream: null } && other.GuestPort == guestPort && other.Endpoints == endpoints && other.Message.SequenceEqual(message))
            {
                // The guest has lost patience before us: the same question is under way.
                return;
            }
        }

        if (TakeFree() is DnsQuery query)
        {
            query.BeginDatagram(endpoints, guestPort, message, _resolvers.Settings, NextServer());
            EndBatch();
            return;
        }

        Overflows++;
    }

    /// <summary>A query that came by a connection; false when there is no room for it now.</summary>
    public bool TryTake(DnsStream stream, ReadOnlySpan<byte> message)
    {
        if (TakeFree() is not DnsQuery query)
        {
            return false;
        }

        query.BeginStream(stream, message, _resolvers.Settings, NextServer());
        return true;
    }

    /// <summary>The other end of a connection of the guest's to the resolver; null where there are too many.</summary>
    public ITcpSocket? TryOpenStream(Action<IoEvents> onReady)
    {
        if (_streams.Count >= MaxStreams)
        {
            Overflows++;
            return null;
        }

        DnsStream stream = new(this, onReady);
        _streams.Add(stream);
        if (!_idle.IsArmed)
        {
            _idle.Arm(HostTime.Nanoseconds + DnsStream.IdleNanoseconds);
        }

        return stream;
    }

    public void Dispose()
    {
        _timer.Cancel();
        _idle.Cancel();
        foreach (DnsQuery? query in _queries)
        {
            query?.End();
        }
    }

    /// <summary>A stream is closed: nobody wants its answers.</summary>
    internal void Forget(DnsStream stream)
    {
        _streams.Remove(stream);
        foreach (DnsQuery? query in _queries)
        {
            if (query != null && query.Stream == stream)
            {
                Free(query);
            }
        }
    }

    internal void Await(long deadline)
    {
        if (!_timer.IsArmed || deadline < _deadline)
        {
            _deadline = deadline;
            _timer.Arm(deadline);
        }
    }

    /// <summary>Gives the guest the answer, which bears its identification.</summary>
    internal void Reply(DnsQuery query, ReadOnlySpan<byte> answer)
    {
        DnsStream? stream = query.Stream;
        if (stream == null)
        {
            answer.CopyTo(Room);
            _output.SendUdp(query.Endpoints.Reversed, ReachPolicy.DnsPort, query.GuestPort, answer.Length);
        }

        Free(query);
        stream?.TakeAnswer(answer);
    }

    /// <summary>No server has answered well.</summary>
    internal void GiveUp(DnsQuery query, ReadOnlySpan<byte> refusal)
    {
        if (refusal.IsEmpty)
        {
            Span<byte> room = Room;
            Reply(query, room[..DnsMessage.WriteFailure(query.Message, DnsMessage.ServerFailure, room)]);
        }
        else
        {
            Reply(query, refusal);
        }
    }

    internal void EndBatch() => _link.EndBatch();

    private DnsQuery? TakeFree()
    {
        if (_used == MaxQueries)
        {
            return null;
        }

        for (int i = 0; i < MaxQueries; i++)
        {
            DnsQuery query = _queries[i] ??= new DnsQuery(this);
            if (!query.IsUsed)
            {
                Queries++;
                _used++;
                return query;
            }
        }

        return null;
    }

    private void Free(DnsQuery query)
    {
        query.End();
        if (_used-- == MaxQueries)
        {
            // Connections whose next query found no room.
            foreach (DnsStream stream in _streams)
            {
                stream.OnRoom();
            }
        }
    }

    private int NextServer() => _resolvers.Settings.Rotates ? (_nextServer = (_nextServer + 1) & 0xFFFF) : 0;

    private void CheckPatience()
    {
        long now = HostTime.Nanoseconds;
        long next = long.MaxValue;
        foreach (DnsQuery? query in _queries)
        {
            if (query is { IsUsed: true })
            {
                if (query.Deadline <= now)
                {
                    query.AskNext();
                }

                next = query.IsUsed ? Math.Min(next, query.Deadline) : next;
            }
        }

        if (next != long.MaxValue)
        {
            Await(next);
        }

        EndBatch();
    }

    private void CheckIdle()
    {
        long now = HostTime.Nanoseconds;
        for (int i = _streams.Count - 1; i >= 0; i--)
        {
            _streams[i].CheckIdle(now);
        }

        if (_streams.Count > 0)
        {
            _idle.Arm(now + DnsStream.IdleNanoseconds);
        }
    }
}
