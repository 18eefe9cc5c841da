namespace Tutti.Network.Tcp;

/// <summary>
/// Acknowledgments, and what is done where they stay away. The way to the guest loses nothing but what the guest itself drops, so there is no
/// congestion control; only after a timeout does sending begin with one segment (RFC 5681, 3.1). Gaps that the guest tells of are filled at once, and again
/// a few round trips later where that was lost, too: those who wait for the retransmission timeout stand still for it.
/// </summary>
internal sealed partial class TcpConnection
{
    private const long Millisecond = 1_000_000;
    private const long SynNanoseconds = 1000 * Millisecond;
    private const long MinTimeout = 200 * Millisecond;
    private const long MaxTimeout = 60_000 * Millisecond;
    private const long TimeWaitNanoseconds = 1000 * Millisecond;
    private const long LastAcknowledgmentNanoseconds = 500 * Millisecond;
    private const long UnreachableNanoseconds = 10_000 * Millisecond;

    /// <summary>Time between two looks for connections that the guest is silent on.</summary>
    internal const long SweepNanoseconds = 60_000 * Millisecond;

    /// <summary>Looks that a connection may be silent for: a minute or two when the guest has closed its side, as long as Linux keeps one that no program has any more; else two hours (RFC 9293, 3.8.4).</summary>
    private const int ClosedSweeps = 2;

    private const int OpenSweeps = 120;

    /// <summary>How often a guest is asked before it counts as gone.</summary>
    private const int MaxAsked = 9;

    private const int MaxRetries = 15;
    private const int MaxSynRetries = 6;
    private const int DuplicateThreshold = 3;
    private const int MaxSacked = 32;
    private const long MinRecoveryTimeout = 20 * Millisecond;

    /// <summary>How often gaps are filled anew without the guest's having advanced.</summary>
    private const int MaxRecoveryRounds = 4;

    private uint _initialSequence;
    private uint _congestionWindow;
    private int _duplicates;
    private bool _isRecovering;
    private bool _retransmitHole;
    private uint _recoveryEnd;

    /// <summary>What lies before it was sent again in this recovery.</summary>
    private uint _holesSent;

    private int _recoveryRounds;

    private bool _isTiming;
    private uint _timedSequence;
    private long _timedAt;
    private long _smoothedRoundTrip;
    private long _roundTripVariation;
    private long _timeout;
    private int _retries;

    /// <summary>What the guest has beyond a gap: ranges in order. Made when first needed, and kept.</summary>
    private (uint Start, uint End)[]? _sacked;

    private int _sackedCount;

    /// <summary>Looks since the guest's last segment.</summary>
    private int _silentSweeps;

    /// <summary>The guest was asked, and has not answered yet.</summary>
    private bool _isAsked;

    internal void OnTimer()
    {
        switch (State)
        {
            case TcpState.SynSent or TcpState.SynReceived:
                if (++_retries > MaxSynRetries)
                {
                    Abort();
                    return;
                }

                _isTiming = false;
                _sendSyn = true;
                _engine.MarkReady(this);
                break;
            case TcpState.TimeWait or TcpState.Unreachable:
                Release();
                break;
            case TcpState.Established:
                OnTimeout();
                break;
        }
    }

    /// <summary>
    /// Asks a guest that has long said nothing whether it still has the connection: one that has forgotten it answers with a reset, and one that is gone with
    /// nothing. What waits for an acknowledgment has its own timer; what the guest has sent before it closed goes to the host first.
    /// </summary>
    internal void OnSweep()
    {
        if (State != TcpState.Established || InFlight > 0 || Deadline != TcpTimers.None || _hasGuestFin != _hasShutDown)
        {
            return;
        }

        int asked = ++_silentSweeps - (_hasShutDown ? ClosedSweeps : OpenSweeps);
        if (asked >= MaxAsked)
        {
            _engine.Counters.Resets++;
            EndForgotten();
            ResetGuest();
        }
        else if (asked >= 0)
        {
            _isAsked = true;
            _sendProbe = true;
            _engine.MarkReady(this);
        }
    }

    /// <summary>The guest has the connection no more. Where it had closed its side in good order the kernel is left to send what it still has, as for any program.</summary>
    private void EndForgotten()
    {
        if (!_hasShutDown)
        {
            _socket?.SetResetOnClose();
        }
    }

    private void BeginRecovery()
    {
        _silentSweeps = 0;
        _isAsked = false;
        _congestionWindow = uint.MaxValue;
        _duplicates = 0;
        _isRecovering = false;
        _retransmitHole = false;
        _recoveryRounds = 0;
        _isTiming = false;
        _smoothedRoundTrip = 0;
        _roundTripVariation = 0;
        _timeout = SynNanoseconds;
        _retries = 0;
        _sackedCount = 0;
    }

    private void OnTimeout()
    {
        if (_engine.IsBlocked)
        {
            // The guest takes nothing at all: nothing is lost.
            _engine.Timers.Set(this, _engine.Now + _timeout);
            return;
        }

        if (InFlight == 0 && _sendWindow > 0)
        {
            return;
        }

        if (_isRecovering && ++_recoveryRounds <= MaxRecoveryRounds)
        {
            // What filled the gaps is lost as well.
            _holesSent = _sendUnacknowledged;
            _retransmitHole = true;
            _engine.Timers.Set(this, _engine.Now + RecoveryTimeout);
            _engine.MarkReady(this);
            return;
        }

        if (++_retries > MaxRetries)
        {
            _engine.Counters.Resets++;
            _socket?.SetResetOnClose();
            ResetGuest();
            return;
        }

        _timeout = Math.Min(_timeout * 2, MaxTimeout);
        if (InFlight > 0)
        {
            // What the guest has sacked it may have dropped since (RFC 2018, 8).
            _sendNext = _sendUnacknowledged;
            _sackedCount = 0;
            _isRecovering = false;
            _retransmitHole = false;
            _duplicates = 0;
            _isTiming = false;
            _recoveryEnd = _sendMax;
            _congestionWindow = (uint)_segmentSize;
        }

        if (_sendWindow == 0)
        {
            _sendProbe = true;
        }

        _engine.Timers.Set(this, _engine.Now + _timeout);
        _engine.MarkReady(this);
    }

    /// <summary>A window that is shut is asked for, lest the guest's word that it has opened be lost.</summary>
    private void ProbeLater()
    {
        if (Deadline == TcpTimers.None)
        {
            _engine.Timers.Set(this, _engine.Now + _timeout);
        }
    }

    /// <summary>Whether the segment may be gone on with.</summary>
    private bool AcceptAcknowledgment(in TcpSegment segment, int length)
    {
        uint acknowledgment = segment.Acknowledgment;
        if (State == TcpState.SynReceived)
        {
            if (acknowledgment != _initialSequence + 1 || _sendMax == _initialSequence)
            {
                _engine.SendReset(_flow, segment, length);
                return false;
            }

            _sendUnacknowledged = acknowledgment;
            _sendNext = acknowledgment;
            _windowSequence = segment.Sequence;
            Establish();
        }

        if (TcpSequence.IsAfter(acknowledgment, _sendMax) || acknowledgment - _sendUnacknowledged + _maxSendWindow > InFlight + _maxSendWindow)
        {
            // Never sent, or older than any window (RFC 5961, 5).
            _engine.Counters.Drops++;
            Acknowledge();
            return false;
        }

        uint window = (uint)segment.Window << _guestScale;
        bool tellsOfGap = segment.SackCount > 0 && _hasSack && TakeSack(segment);

        if (TcpSequence.IsAfter(acknowledgment, _sendUnacknowledged))
        {
            Advance(acknowledgment);
        }
        else if (acknowledgment == _sendUnacknowledged && InFlight > 0 &&
            (tellsOfGap || (length == 0 && window == _sendWindow && window > 0 && (segment.Flags & TcpFlags.Fin) == 0)))
        {
            OnDuplicate();
        }

        TakeWindow(segment.Sequence, acknowledgment, window);
        return true;
    }

    private void TakeWindow(uint sequence, uint acknowledgment, uint window)
    {
        if (TcpSequence.IsBefore(acknowledgment, _sendUnacknowledged))
        {
            return;
        }

        if (TcpSequence.IsBefore(_windowSequence, sequence) || (_windowSequence == sequence && !TcpSequence.IsAfter(_windowAcknowledgment, acknowledgment)))
        {
            if (window > 0 && _sendWindow == 0 && InFlight == 0)
            {
                _retries = 0;
                _engine.Timers.Set(this, TcpTimers.None);
                ResetTimeout();
            }

            _sendWindow = window;
            _maxSendWindow = Math.Max(_maxSendWindow, window);
            _windowSequence = sequence;
            _windowAcknowledgment = acknowledgment;
        }

        // The guest lives, even with its window shut.
        _retries = window == 0 ? 0 : _retries;
    }

    private void Advance(uint acknowledgment)
    {
        uint length = acknowledgment - _sendUnacknowledged;
        if (_hasHostFin && acknowledgment == _finSequence + 1)
        {
            length--;
            _isFinAcknowledged = true;
        }

        _toDiscard += (int)length;
        _engine.Counters.BytesToGuest += length;
        _sendUnacknowledged = acknowledgment;
        _sendNext = TcpSequence.Later(_sendNext, acknowledgment);
        if (_retries > 0)
        {
            // RFC 6298 has it wait for the next sample, for the sake of a network that has too much; this one has not.
            _retries = 0;
            ResetTimeout();
        }

        _duplicates = 0;
        _recoveryRounds = 0;
        MeasureRoundTrip(acknowledgment);
        DropSacked();
        if (_congestionWindow != uint.MaxValue)
        {
            _congestionWindow = TcpSequence.IsBefore(acknowledgment, _recoveryEnd) ? Math.Min(_congestionWindow + (length * 2), 1u << 30) : uint.MaxValue;
        }

        if (_isRecovering)
        {
            if (!TcpSequence.IsBefore(acknowledgment, _recoveryEnd))
            {
                _isRecovering = _sackedCount > 0;
                _recoveryEnd = _sendMax;
            }

            _holesSent = TcpSequence.Later(_holesSent, acknowledgment);
            _retransmitHole = _isRecovering;
        }

        _engine.Timers.Set(this, InFlight > 0 ? _engine.Now + (_isRecovering ? RecoveryTimeout : _timeout) : TcpTimers.None);
    }

    /// <summary>The guest acknowledges without delay while it has a gap.</summary>
    private long RecoveryTimeout => Math.Clamp((2 * _smoothedRoundTrip) + (4 * _roundTripVariation), Math.Min(MinRecoveryTimeout, _timeout), _timeout);

    private void OnDuplicate()
    {
        _duplicates++;

        // Frames come to the guest in order: what it has beyond a gap proves a loss. Without SACK duplicates may also be echoes of what was sent twice.
        if (!_isRecovering && (_sackedCount > 0 || (_duplicates >= DuplicateThreshold && _congestionWindow == uint.MaxValue)))
        {
            _isRecovering = true;
            _recoveryEnd = _sendMax;
            _holesSent = _sendUnacknowledged;
            _isTiming = false;
            _retransmitHole = true;
            _engine.Timers.Set(this, _engine.Now + RecoveryTimeout);
        }
        else if (_isRecovering && _sackedCount > 0)
        {
            _retransmitHole = true;
        }
    }

    /// <summary>Sends the next piece again that the guest lacks: with SACK each gap once, without it the head (RFC 6582).</summary>
    private void RetransmitHole()
    {
        _retransmitHole = false;
        uint start = TcpSequence.Later(_sendUnacknowledged, _holesSent);
        start = SkipSacked(start);
        bool isHead = start == _sendUnacknowledged;
        if (!TcpSequence.IsBefore(start, _sendMax) || (!isHead && (_sackedCount == 0 || !TcpSequence.IsBefore(start, _sacked![_sackedCount - 1].Start))))
        {
            return;
        }

        if (_hasHostFin && start == _finSequence)
        {
            SendFin();
            return;
        }

        uint end = NextSackedOrEnd(start);
        int room = (int)Math.Min(end - start, (uint)(isHead && _sackedCount == 0 ? _segmentSize : IIpOutput.MaxSegment - TcpSegment.MaxHeaderLength));
        uint before = _sendNext;
        bool isSent = SendText(start, room, isNew: false);
        _sendNext = TcpSequence.Later(before, _sendNext);
        if (isSent)
        {
            _holesSent = start + (uint)room;
        }
        else
        {
            _retransmitHole = _engine.IsBlocked;
        }
    }

    /// <summary>Where the text after this place ends: at what the guest has already, at our FIN, or at what was sent last.</summary>
    private uint NextSackedOrEnd(uint sequence)
    {
        for (int i = 0; i < _sackedCount; i++)
        {
            if (TcpSequence.IsAfter(_sacked![i].Start, sequence))
            {
                return _sacked[i].Start;
            }
        }

        return _hasHostFin && _sendMax == _finSequence + 1 ? _finSequence : _sendMax;
    }

    private uint SkipSacked(uint sequence)
    {
        for (int i = 0; i < _sackedCount; i++)
        {
            if (!TcpSequence.IsAfter(_sacked![i].Start, sequence) && TcpSequence.IsBefore(sequence, _sacked[i].End))
            {
                sequence = _sacked[i].End;
            }
        }

        return sequence;
    }

    private void SkipSacked()
    {
        if (_sackedCount > 0)
        {
            _sendNext = SkipSacked(_sendNext);
        }
    }

    /// <summary>Whether there was one that lies beyond a gap.</summary>
    private bool TakeSack(in TcpSegment segment)
    {
        _sacked ??= new (uint, uint)[MaxSacked];
        bool tellsOfGap = false;
        for (int i = 0; i < segment.SackCount; i++)
        {
            uint start = segment.SackBlocks[i * 2];
            uint end = segment.SackBlocks[(i * 2) + 1];
            if (!TcpSequence.IsBefore(start, end) || !TcpSequence.IsAfter(start, _sendUnacknowledged) || TcpSequence.IsAfter(end, _sendMax))
            {
                continue;
            }

            AddSacked(start, end);
            tellsOfGap = true;
        }

        return tellsOfGap;
    }

    private void AddSacked(uint start, uint end)
    {
        (uint Start, uint End)[] sacked = _sacked!;
        int at = 0;
        while (at < _sackedCount && TcpSequence.IsBefore(sacked[at].End, start))
        {
            at++;
        }

        int last = at;
        while (last < _sackedCount && !TcpSequence.IsAfter(sacked[last].Start, end))
        {
            start = TcpSequence.IsBefore(sacked[last].Start, start) ? sacked[last].Start : start;
            end = TcpSequence.Later(end, sacked[last].End);
            last++;
        }

        int removed = last - at;
        if (removed == 0 && _sackedCount == MaxSacked)
        {
            return;
        }

        Array.Copy(sacked, last, sacked, at + 1, _sackedCount - last);
        sacked[at] = (start, end);
        _sackedCount += 1 - removed;
    }

    private void DropSacked()
    {
        int gone = 0;
        while (gone < _sackedCount && !TcpSequence.IsAfter(_sacked![gone].End, _sendUnacknowledged))
        {
            gone++;
        }

        if (gone > 0)
        {
            Array.Copy(_sacked!, gone, _sacked!, 0, _sackedCount - gone);
            _sackedCount -= gone;
        }
    }

    /// <summary>RFC 6298, 2, with Karn's rule: what was sent again is not timed.</summary>
    private void MeasureRoundTrip(uint acknowledgment)
    {
        if (_isTiming && !TcpSequence.IsBefore(acknowledgment, _timedSequence))
        {
            _isTiming = false;
            long sample = _engine.Now - _timedAt;
            if (_smoothedRoundTrip == 0)
            {
                _smoothedRoundTrip = Math.Max(1, sample);
                _roundTripVariation = sample / 2;
            }
            else
            {
                _roundTripVariation += (Math.Abs(_smoothedRoundTrip - sample) - _roundTripVariation) / 4;
                _smoothedRoundTrip += (sample - _smoothedRoundTrip) / 8;
            }

            ResetTimeout();
        }
    }

    private void ResetTimeout() =>
        _timeout = _smoothedRoundTrip == 0 ? SynNanoseconds : Math.Clamp(_smoothedRoundTrip + (4 * _roundTripVariation), MinTimeout, MaxTimeout);
}
