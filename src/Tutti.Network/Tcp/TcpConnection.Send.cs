using Tutti.Host;

namespace Tutti.Network.Tcp;

/// <summary>What goes to the guest.</summary>
internal sealed partial class TcpConnection
{
    internal const int DefaultSegmentSize = 536;
    private const int MinSegmentSize = 64;
    private const int OurWindowScale = 7;

    /// <summary>Frames that a connection sends before it is another's turn.</summary>
    private const int Quantum = 4;

    private uint _sendUnacknowledged;
    private uint _sendNext;

    /// <summary>One past the highest sequence number ever sent.</summary>
    private uint _sendMax;

    private uint _sendWindow;
    private uint _maxSendWindow;
    private uint _windowSequence;
    private uint _windowAcknowledgment;
    private int _guestScale;
    private int _ourScale;
    private bool _hasScale;
    private bool _hasSack;
    private int _segmentSize;
    private bool _sendSyn;

    /// <summary>Acknowledged bytes that the kernel still holds.</summary>
    private int _toDiscard;

    private bool _hasHostFin;
    private uint _finSequence;
    private bool _isFinAcknowledged;

    /// <summary>Our FIN went out before the guest's came: TIME_WAIT is ours.</summary>
    private bool _closedFirst;

    private bool _sendProbe;

    private uint InFlight => _sendMax - _sendUnacknowledged;

    /// <summary>Does what there is to do.</summary>
    /// <returns>Whether there is more, for which others' turn comes first.</returns>
    internal bool Service()
    {
        switch (State)
        {
            case TcpState.Resetting:
                if (SendBare(_sendMax, _isGuests || _sendUnacknowledged != _initialSequence ? TcpFlags.Rst | TcpFlags.Ack : TcpFlags.Rst))
                {
                    Release();
                }

                return false;
            case TcpState.SynSent or TcpState.SynReceived:
                SendSynWhenDue();
                return false;
            case TcpState.TimeWait:
                if (_acknowledge && SendAcknowledgment() && !_closedFirst)
                {
                    Release();
                }

                return false;
            case TcpState.Established:
                return ServiceOpen();
            default:
                return false;
        }
    }

    private bool ServiceOpen()
    {
        DrainBacklog();
        if (_toDiscard > 0 && State == TcpState.Established)
        {
            DiscardAcknowledged();
        }

        bool hasMore = State == TcpState.Established && Transmit();
        if (_acknowledge && State is TcpState.Established or TcpState.TimeWait && !_engine.IsBlocked)
        {
            SendAcknowledgment();
        }

        return hasMore || (State != TcpState.Free && _acknowledge);
    }

    private void BeginSend(uint initialSequence)
    {
        _initialSequence = initialSequence;
        _sendUnacknowledged = initialSequence;
        _sendNext = initialSequence;
        _sendMax = initialSequence;
        _sendWindow = 0;
        _maxSendWindow = 0;
        _guestScale = 0;
        _ourScale = OurWindowScale;
        _hasScale = true;
        _hasSack = true;
        _segmentSize = DefaultSegmentSize;
        _sendSyn = false;
        _sendProbe = false;
        _toDiscard = 0;
        _hasHostFin = false;
        _isFinAcknowledged = false;
        _closedFirst = false;
        BeginRecovery();
    }

    private void Establish()
    {
        State = TcpState.Established;
        _sendSyn = false;
        _retries = 0;
        MeasureRoundTrip(_sendUnacknowledged);
        _engine.Timers.Set(this, TcpTimers.None);
        _engine.MarkReady(this);
    }

    /// <summary>Sends until the window, the socket or the guest's room ends; true when only the quantum did.</summary>
    private bool Transmit()
    {
        if (_sendProbe && !_engine.IsBlocked)
        {
            _sendProbe = !SendBare(_sendUnacknowledged - 1, TcpFlags.Ack);
        }

        if (_retransmitHole && !_engine.IsBlocked)
        {
            RetransmitHole();
        }

        for (int sent = 0; !_engine.IsBlocked && State == TcpState.Established; sent++)
        {
            SkipSacked();
            bool isNew = _sendNext == _sendMax;
            if (_hasHostFin && _sendNext == _finSequence + 1)
            {
                return false;
            }

            uint offset = _sendNext - _sendUnacknowledged;
            uint limit = Math.Min(_sendWindow, _congestionWindow);
            bool isFin = _hasHostFin && _sendNext == _finSequence;
            if (!isFin && isNew && !_canRead)
            {
                return false;
            }

            if (limit <= offset)
            {
                ProbeLater();
                return false;
            }

            if (sent == Quantum)
            {
                return true;
            }

            if (isFin)
            {
                SendFin();
                continue;
            }

            int room = (int)Math.Min(limit - offset, (uint)(IIpOutput.MaxSegment - TcpSegment.MaxHeaderLength));
            if (room < _segmentSize && offset > 0 && (uint)room < _maxSendWindow / 2)
            {
                // A sliver of a window is not worth a segment while others are under way.
                return false;
            }

            room = isNew ? room : (int)Math.Min((uint)room, NextSackedOrEnd(_sendNext) - _sendNext);
            room = room > _segmentSize ? room / _segmentSize * _segmentSize : room;
            if (!SendText(_sendNext, room, isNew))
            {
                return false;
            }
        }

        return false;
    }

    /// <summary>Reads bytes of the stream into a frame and sends them; false when there is nothing to go on with.</summary>
    private bool SendText(uint sequence, int room, bool isNew)
    {
        Span<byte> segment = _engine.Output.ReserveTcp();
        int count = _socket!.Peek((int)(sequence - _sendUnacknowledged) + _toDiscard, segment.Slice(TcpSegment.MinHeaderLength, room));
        if (count <= 0)
        {
            return OnNothingRead(count, isNew);
        }

        WriteHeader(segment, sequence, TcpFlags.Ack | TcpFlags.Psh, TcpSegment.MinHeaderLength);
        int sent = _engine.Send(_toGuest, TcpSegment.MinHeaderLength, count, _segmentSize);
        if (sent <= 0)
        {
            return false;
        }

        HaveAcknowledged();
        AfterSend(sequence, (uint)sent);
        return sent == count;
    }

    private bool OnNothingRead(int answer, bool isNew)
    {
        if (answer == 0 && isNew)
        {
            _hasHostFin = true;
            _finSequence = _sendNext;
            return true;
        }

        if (answer == 0 || IsPassing(answer))
        {
            // Told once per change: only when the kernel has no more may nobody ask. A short count is no sign, urgent data makes one.
            _canRead &= !isNew;
            return false;
        }

        OnHostError();
        return false;
    }

    private void SendFin()
    {
        if (SendBare(_finSequence, TcpFlags.Fin | TcpFlags.Ack))
        {
            _closedFirst = !_hasGuestFin;
            AfterSend(_finSequence, 1);
        }
    }

    private void AfterSend(uint sequence, uint length)
    {
        uint end = sequence + length;
        if (TcpSequence.IsAfter(end, _sendMax))
        {
            if (!_isTiming && sequence == _sendMax)
            {
                _isTiming = true;
                _timedSequence = end;
                _timedAt = _engine.Now;
            }

            _sendMax = end;
        }
        else
        {
            _engine.Counters.Retransmits++;
        }

        if (TcpSequence.IsAfter(end, _sendNext) && sequence == _sendNext)
        {
            _sendNext = end;
        }

        if (Deadline == TcpTimers.None)
        {
            _engine.Timers.Set(this, _engine.Now + _timeout);
        }
    }

    private void DiscardAcknowledged()
    {
        int count = _socket!.Discard(_toDiscard);
        if (count > 0)
        {
            _toDiscard -= count;
        }
        else if (count < 0 && !IsPassing(count))
        {
            OnHostError();
        }
    }

    private void SendSynWhenDue()
    {
        if (!_sendSyn || _engine.IsBlocked)
        {
            return;
        }

        bool isAnswer = State == TcpState.SynReceived;
        Span<byte> segment = _engine.Output.ReserveTcp();
        int options = TcpSegment.WriteSynOptions(
            segment[TcpSegment.MinHeaderLength..], (ushort)_engine.MaxSegmentSize(_flow.IsVersion6), _hasScale ? OurWindowScale : -1, _hasSack);
        int length = TcpSegment.MinHeaderLength + options;
        ushort window = (ushort)Math.Min(ushort.MaxValue, _engine.OfferFor(_promised, WindowCapacity));
        uint edge = isAnswer ? _receiveNext + window : 0;
        TcpSegment.Write(
            segment, _flow.PeerPort, _flow.GuestPort, _initialSequence, isAnswer ? _receiveNext : 0, isAnswer ? TcpFlags.Syn | TcpFlags.Ack : TcpFlags.Syn, window, length);
        if (_engine.Send(_toGuest, length, 0, _segmentSize) < 0)
        {
            return;
        }

        // A SYN's window is never scaled.
        _receiveEdge = isAnswer ? TcpSequence.Later(edge, _receiveEdge) : _receiveEdge;
        CountPromise();
        _sendSyn = false;
        _sendNext = _initialSequence + 1;
        _isTiming = _sendMax == _initialSequence;
        _timedSequence = _sendNext;
        _timedAt = _engine.Now;
        _sendMax = _sendNext;
        if (Deadline == TcpTimers.None)
        {
            _engine.Timers.Set(this, _engine.Now + (SynNanoseconds << Math.Min(_retries, 5)));
        }
    }

    /// <summary>Acknowledges, with SACK of what came early; false when the guest has no room.</summary>
    private bool SendAcknowledgment()
    {
        Span<byte> segment = _engine.Output.ReserveTcp();
        int length = TcpSegment.MinHeaderLength;
        if (_early != null && _hasSack)
        {
            Span<uint> edges = stackalloc uint[8];
            length += TcpSegment.WriteSack(segment[TcpSegment.MinHeaderLength..], edges[..FillSack(edges)]);
        }

        WriteHeader(segment, _sendMax, TcpFlags.Ack, length);
        if (_engine.Send(_toGuest, length, 0, _segmentSize) < 0)
        {
            return false;
        }

        HaveAcknowledged();
        return true;
    }

    /// <summary>Blocks of contiguous early segments, the one that changed last first (RFC 2018, 4); gives the number of edges.</summary>
    private int FillSack(Span<uint> edges)
    {
        int count = 2;
        TcpChunk? chunk = _early;
        edges[0] = _early!.Sequence;
        edges[1] = _early.End;
        bool hasLatest = false;
        while (chunk != null)
        {
            uint left = chunk.Sequence;
            uint right = chunk.End;
            for (chunk = chunk.Next; chunk != null && chunk.Sequence == right; chunk = chunk.Next)
            {
                right = chunk.End;
            }

            bool isLatest = !hasLatest && !TcpSequence.IsBefore(_latestEarly, left) && TcpSequence.IsBefore(_latestEarly, right);
            if (isLatest)
            {
                hasLatest = true;
                edges[0] = left;
                edges[1] = right;
            }
            else if (count < edges.Length)
            {
                edges[count] = left;
                edges[count + 1] = right;
                count += 2;
            }
        }

        return hasLatest ? count : 2;
    }

    private bool SendBare(uint sequence, TcpFlags flags)
    {
        if (_engine.IsBlocked)
        {
            return false;
        }

        WriteHeader(_engine.Output.ReserveTcp(), sequence, flags, TcpSegment.MinHeaderLength);
        if (_engine.Send(_toGuest, TcpSegment.MinHeaderLength, 0, _segmentSize) < 0)
        {
            return false;
        }

        HaveAcknowledged();
        return true;
    }

    private void WriteHeader(Span<byte> segment, uint sequence, TcpFlags flags, int length)
    {
        uint window = (WindowEdge() - _receiveNext) >> _ourScale;
        TcpSegment.Write(
            segment, _flow.PeerPort, _flow.GuestPort, sequence, (flags & TcpFlags.Ack) != 0 ? _receiveNext : 0, flags, (ushort)Math.Min(window, ushort.MaxValue), length);
    }

    /// <summary>The segment that went out bore the acknowledgment and the window.</summary>
    private void HaveAcknowledged()
    {
        _acknowledge = false;
        uint told = Math.Min((WindowEdge() - _receiveNext) >> _ourScale, ushort.MaxValue) << _ourScale;
        _receiveEdge = TcpSequence.Later(_receiveEdge, _receiveNext + told);
        CountPromise();
    }
}
