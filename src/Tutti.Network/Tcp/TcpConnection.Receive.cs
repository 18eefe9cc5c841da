using Tutti.Host;

namespace Tutti.Network.Tcp;

/// <summary>What comes from the guest.</summary>
internal sealed partial class TcpConnection
{
    /// <summary>Bytes that may wait for the host's socket; with them the window closes.</summary>
    private const int WindowCapacity = 1 << 20;

    private const int MaxEarlyChunks = 64;
    private uint _receiveNext;

    /// <summary>The end of the window that the guest was told of; it never goes back.</summary>
    private uint _receiveEdge;

    private bool _acknowledge;
    private bool _hasGuestFin;
    private bool _hasShutDown;
    private bool _keepsAlive;

    /// <summary>Bytes that were promised room for and have not gone on, as the engine has them in its sum.</summary>
    private int _promised;
    private TcpChunk? _backlog;
    private TcpChunk? _backlogEnd;
    private int _backlogLength;

    /// <summary>Segments that came before their time, in order, none overlapping.</summary>
    private TcpChunk? _early;

    private int _earlyCount;
    private uint _latestEarly;

    internal void OnSegment(in TcpSegment segment, ReadOnlySpan<byte> payload)
    {
        switch (State)
        {
            case TcpState.Connecting:
                if ((segment.Flags & TcpFlags.Rst) != 0 && segment.Sequence == _receiveNext)
                {
                    OnGuestReset();
                }

                break;
            case TcpState.SynSent:
                OnSynSentSegment(segment);
                break;
            case TcpState.TimeWait:
                OnTimeWaitSegment(segment, payload.Length);
                break;
            case TcpState.SynReceived or TcpState.Established:
                OnOpenSegment(segment, payload);
                break;
        }
    }

    private void BeginReceive()
    {
        _receiveNext = 0;
        _receiveEdge = 0;
        _acknowledge = false;
        _hasGuestFin = false;
        _hasShutDown = false;
        _keepsAlive = false;
    }

    private void OnSynSentSegment(in TcpSegment segment)
    {
        bool hasAck = (segment.Flags & TcpFlags.Ack) != 0;
        if (hasAck && segment.Acknowledgment != _sendMax)
        {
            if ((segment.Flags & TcpFlags.Rst) == 0)
            {
                _engine.SendReset(_flow, segment, 0);
            }

            return;
        }

        if ((segment.Flags & TcpFlags.Rst) != 0)
        {
            if (hasAck)
            {
                // Nobody listens in the guest; the peer is told as bluntly.
                _engine.Counters.Refused++;
                _socket?.SetResetOnClose();
                Release();
            }

            return;
        }

        if (!hasAck || (segment.Flags & TcpFlags.Syn) == 0)
        {
            return;
        }

        TakeSyn(segment);
        _sendUnacknowledged = segment.Acknowledgment;
        _windowAcknowledgment = segment.Acknowledgment;
        _sendNext = segment.Acknowledgment;
        Establish();
        Acknowledge();
    }

    private void OnTimeWaitSegment(in TcpSegment segment, int length)
    {
        if ((segment.Flags & TcpFlags.Rst) != 0)
        {
            Release();
        }
        else if (length > 0 || (segment.Flags & (TcpFlags.Fin | TcpFlags.Syn)) != 0)
        {
            Acknowledge();
        }
    }

    /// <summary>RFC 9293, 3.10.7.4, with the checks of RFC 5961.</summary>
    private void OnOpenSegment(in TcpSegment segment, ReadOnlySpan<byte> payload)
    {
        if ((segment.Flags & TcpFlags.Rst) != 0)
        {
            OnReset(segment.Sequence);
            return;
        }

        _silentSweeps = 0;
        _isAsked = false;
        if ((segment.Flags & TcpFlags.Syn) != 0)
        {
            if (State == TcpState.SynReceived && segment.Sequence + 1 == _receiveNext)
            {
                _sendSyn = true;
                _engine.MarkReady(this);
            }
            else
            {
                Acknowledge();
            }

            return;
        }

        if ((segment.Flags & TcpFlags.Ack) == 0)
        {
            _engine.Counters.Drops++;
            return;
        }

        if (!AcceptAcknowledgment(segment, payload.Length) || State is not TcpState.Established)
        {
            return;
        }

        bool hasFin = (segment.Flags & TcpFlags.Fin) != 0;
        if (payload.Length > 0 || hasFin || segment.Sequence != _receiveNext)
        {
            ReceiveText(segment.Sequence, payload, hasFin);
        }

        if (State == TcpState.Established)
        {
            CloseWhenOver();
        }

        if (State != TcpState.Free)
        {
            _engine.MarkReady(this);
        }
    }

    private void OnReset(uint sequence)
    {
        if (sequence == _receiveNext)
        {
            OnGuestReset();
        }
        else if (sequence - _receiveNext < Math.Max(1, _receiveEdge - _receiveNext))
        {
            Acknowledge();
        }
        else
        {
            _engine.Counters.Drops++;
        }
    }

    private void ReceiveText(uint sequence, ReadOnlySpan<byte> payload, bool hasFin)
    {
        if (TcpSequence.IsBefore(sequence, _receiveNext))
        {
            uint old = _receiveNext - sequence;
            Acknowledge();
            if (old == 1 && payload.Length <= 1 && !hasFin && !_keepsAlive)
            {
                // The guest asks whether its peer is there (RFC 9293, 3.8.4). That we are says little.
                _keepsAlive = true;
                _socket?.KeepAlive();
            }

            if (old > (uint)payload.Length || (old == (uint)payload.Length && !hasFin))
            {
                return;
            }

            payload = payload[(int)old..];
            sequence = _receiveNext;
        }

        uint room = _receiveEdge - _receiveNext;
        uint ahead = sequence - _receiveNext;
        if (_hasGuestFin || ahead > room)
        {
            // Beyond the window, or beyond the end.
            _engine.Counters.Drops++;
            Acknowledge();
            return;
        }

        if ((uint)payload.Length > room - ahead)
        {
            payload = payload[..(int)(room - ahead)];
            hasFin = false;
            Acknowledge();
        }

        if (ahead != 0)
        {
            InsertEarly(sequence, payload);
            AcknowledgeAtOnce();
            return;
        }

        int taken = Deliver(payload);
        _receiveNext += (uint)taken;
        _acknowledge |= taken > 0;
        CountPromise();
        if (State != TcpState.Established)
        {
            return;
        }

        if (_early != null)
        {
            DeliverEarly();
            CountPromise();
            Acknowledge();
        }

        if (hasFin && taken == payload.Length && _receiveNext == sequence + (uint)taken && _early == null)
        {
            _receiveNext++;
            _hasGuestFin = true;
            ShutDownWhenDrained();
            Acknowledge();
        }
    }

    /// <summary>Gives bytes to the host, or keeps them for it; says how many.</summary>
    private int Deliver(ReadOnlySpan<byte> payload)
    {
        int sent = 0;
        if (_backlog == null && _canWrite && payload.Length > 0)
        {
            sent = _socket!.Send(payload);
            if (sent < 0)
            {
                if (!IsPassing(sent))
                {
                    OnHostError();
                    return 0;
                }

                _canWrite = false;
                sent = 0;
            }
            else if (sent < payload.Length)
            {
                _canWrite = false;
            }
        }

        int taken = sent;
        ReadOnlySpan<byte> rest = payload[sent..];
        while (!rest.IsEmpty)
        {
            if (_backlogEnd == null || _backlogEnd.Start + _backlogEnd.Length == TcpChunk.Size)
            {
                TcpChunk? chunk = _engine.Chunks.TryRent(0);
                if (chunk == null)
                {
                    // The guest sends it again when there is room.
                    Acknowledge();
                    break;
                }

                AppendBacklog(chunk);
            }

            int kept = _backlogEnd!.Append(rest);
            _backlogLength += kept;
            taken += kept;
            rest = rest[kept..];
        }

        _engine.Counters.BytesFromGuest += taken;
        return taken;
    }

    private static bool IsPassing(int answer) => answer is -Errno.EAGAIN or -Errno.EINTR or -Errno.ENOBUFS or -Errno.ENOMEM;

    private void AppendBacklog(TcpChunk chunk)
    {
        if (_backlogEnd == null)
        {
            _backlog = chunk;
        }
        else
        {
            _backlogEnd.Next = chunk;
        }

        _backlogEnd = chunk;
        _backlogLength += chunk.Length;
    }

    /// <summary>Sends what has waited for the host's socket.</summary>
    private void DrainBacklog()
    {
        if (_backlog == null || !_canWrite || State != TcpState.Established)
        {
            return;
        }

        while (_backlog != null)
        {
            TcpChunk chunk = _backlog;
            int sent = _socket!.Send(chunk.Span);
            if (sent < 0)
            {
                _canWrite = false;
                if (!IsPassing(sent))
                {
                    OnHostError();
                    return;
                }

                break;
            }

            _backlogLength -= sent;
            chunk.Skip(sent);
            if (chunk.Length > 0)
            {
                _canWrite = false;
                break;
            }

            _backlog = chunk.Next;
            _engine.Chunks.Return(chunk);
        }

        if (_backlog == null)
        {
            _backlogEnd = null;
            ShutDownWhenDrained();
        }

        CountPromise();

        // A window that was nearly shut is opened by a good part, or not yet (RFC 9293, 3.8.6.2.2).
        uint told = _receiveEdge - _receiveNext;
        uint now = WindowEdge() - _receiveNext;
        if (!_hasGuestFin && told < WindowCapacity / 2 && now - told >= (uint)Math.Min(WindowCapacity / 4, 2 * _segmentSize))
        {
            Acknowledge();
        }

        CloseWhenOver();
    }

    private void ShutDownWhenDrained()
    {
        if (_hasGuestFin && _backlog == null && !_hasShutDown)
        {
            _hasShutDown = true;
            _socket!.ShutdownWrite();
        }
    }

    /// <summary>Keeps a segment that came before its time, as far as there is room; what is there already stays.</summary>
    private void InsertEarly(uint sequence, ReadOnlySpan<byte> data)
    {
        _latestEarly = sequence;
        TcpChunk? previous = null;
        TcpChunk? current = _early;
        while (!data.IsEmpty)
        {
            while (current != null && !TcpSequence.IsAfter(current.End, sequence))
            {
                previous = current;
                current = current.Next;
            }

            int take = data.Length;
            if (current != null)
            {
                int gap = (int)(current.Sequence - sequence);
                if (gap <= 0)
                {
                    int known = (int)Math.Min((uint)data.Length, current.End - sequence);
                    data = data[known..];
                    sequence += (uint)known;
                    continue;
                }

                take = Math.Min(take, gap);
            }

            int kept = previous != null && previous.End == sequence ? previous.Append(data[..take]) : 0;
            if (kept == 0)
            {
                TcpChunk? chunk = _earlyCount < MaxEarlyChunks ? _engine.Chunks.TryRent(sequence) : null;
                if (chunk == null)
                {
                    _engine.Counters.Drops++;
                    return;
                }

                kept = chunk.Append(data[..take]);
                _earlyCount++;
                chunk.Next = current;
                if (previous == null)
                {
                    _early = chunk;
                }
                else
                {
                    previous.Next = chunk;
                }

                previous = chunk;
            }

            data = data[kept..];
            sequence += (uint)kept;
        }
    }

    /// <summary>What has become due goes to the host.</summary>
    private void DeliverEarly()
    {
        while (_early != null && !TcpSequence.IsAfter(_early.Sequence, _receiveNext))
        {
            TcpChunk chunk = _early;
            int old = (int)(_receiveNext - chunk.Sequence);
            if (old < chunk.Length)
            {
                chunk.Skip(old);
                int taken = Deliver(chunk.Span);
                if (State != TcpState.Established)
                {
                    return;
                }

                _receiveNext += (uint)taken;
                chunk.Skip(taken);
                if (chunk.Length > 0)
                {
                    return;
                }
            }

            _early = chunk.Next;
            _earlyCount--;
            _engine.Chunks.Return(chunk);
        }
    }

    private void ReturnChunks()
    {
        _engine.Chunks.ReturnAll(_backlog);
        _engine.Chunks.ReturnAll(_early);
        _backlog = null;
        _backlogEnd = null;
        _backlogLength = 0;
        _early = null;
        _earlyCount = 0;
    }

    private uint WindowEdge()
    {
        int capacity = _engine.OfferFor(_promised, WindowCapacity);
        if (_ourScale == 0)
        {
            capacity = Math.Min(capacity, ushort.MaxValue);
        }

        return TcpSequence.Later(_receiveEdge, _receiveNext + (uint)Math.Max(0, capacity - _backlogLength));
    }

    /// <summary>Keeps the engine's sum of promises right: what the window has room for, and what waits.</summary>
    private void CountPromise()
    {
        int promised = State == TcpState.Free ? 0 : (int)(_receiveEdge - _receiveNext) + _backlogLength;
        _engine.Promised += promised - _promised;
        _promised = promised;
    }

    /// <summary>With the next segment, which goes out when the guest's batch has ended.</summary>
    private void Acknowledge()
    {
        _acknowledge = true;
        _engine.MarkReady(this);
    }

    /// <summary>The guest counts what comes out of order: one answer for each.</summary>
    private void AcknowledgeAtOnce()
    {
        Acknowledge();
        if (!_engine.IsBlocked)
        {
            SendAcknowledgment();
        }
    }
}
