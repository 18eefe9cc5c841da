using Tutti.Host;
using Tutti.Network.Ip;

namespace Tutti.Network.Tcp;

internal enum TcpState
{
    /// <summary>In the pool.</summary>
    Free,

    /// <summary>The guest has sent SYN, the host is connecting.</summary>
    Connecting,

    /// <summary>The host's network said that there is no way; the guest's next SYN is answered so.</summary>
    Unreachable,

    /// <summary>SYN sent to the guest, for a published port.</summary>
    SynSent,

    /// <summary>SYN and ACK sent to the guest.</summary>
    SynReceived,

    /// <summary>Open in at least one direction.</summary>
    Established,

    /// <summary>Over, to be told the guest by a reset.</summary>
    Resetting,

    /// <summary>Over; the guest's last FIN may come again.</summary>
    TimeWait,
}

/// <summary>
/// A connection: TCP with the guest on one side, a socket of the host's on the other. Its states are those of RFC 9293 as far as the guest can see
/// them; what follows FIN is kept as two facts, one per direction. What the guest has not acknowledged stays in the kernel's receive buffer, read
/// ahead each time it is sent; so a connection holds memory only for what the host's socket did not take.
/// </summary>
internal sealed partial class TcpConnection
{
    private readonly TcpEngine _engine;
    private TcpFlow _flow;
    private IpEndpoints _toGuest;
    private ITcpSocket? _socket;
    private bool _canRead;
    private bool _canWrite;
    private bool _isGuests;

    internal TcpConnection(TcpEngine engine)
    {
        _engine = engine;
        OnHostReady = HandleHostReady;
    }

    /// <summary>For the socket, made once.</summary>
    internal Action<IoEvents> OnHostReady { get; }

    internal TcpState State
    {
        get;
        private set
        {
            bool wasHalfOpen = IsHalfOpen;
            field = value;
            if (wasHalfOpen && !IsHalfOpen)
            {
                _engine.OnHalfOpenEnded();
            }
        }
    }

    internal TcpFlow Flow => _flow;

    internal bool IsHalfOpen => State is TcpState.Connecting or TcpState.Unreachable or TcpState.SynSent or TcpState.SynReceived;

    // The engine's queue of connections with work, and its wheel of timers, are chained through the connections.
    internal TcpConnection? NextReady { get; set; }

    internal bool IsReady { get; set; }

    internal TcpConnection? NextTimer { get; set; }

    internal TcpConnection? PreviousTimer { get; set; }

    internal long TimerTick { get; set; } = TcpTimers.None;

    internal long Deadline { get; set; } = TcpTimers.None;

    /// <summary>The guest's SYN, allowed and on its way to the host.</summary>
    internal void OpenFromGuest(in TcpFlow flow, in TcpSegment syn, uint initialSequence)
    {
        Begin(flow, initialSequence);
        _isGuests = true;
        State = TcpState.Connecting;
        TakeSyn(syn);
    }

    /// <summary>The socket that is connecting for the guest.</summary>
    internal void SetSocket(ITcpSocket socket) => _socket = socket;

    /// <summary>A peer of a published port.</summary>
    internal void OpenToGuest(in TcpFlow flow, ITcpSocket socket, uint initialSequence)
    {
        Begin(flow, initialSequence);
        _isGuests = false;
        _socket = socket;
        _canWrite = true;
        _canRead = true;
        State = TcpState.SynSent;
        _sendSyn = true;
        _engine.MarkReady(this);
    }

    /// <summary>The host's network has no way, or not to this host.</summary>
    internal void Fail(int errno)
    {
        switch (errno)
        {
            case Errno.ETIMEDOUT:
                // The guest's own time runs out, as it would on the wire.
                Release();
                break;
            case Errno.ENETUNREACH or Errno.ENETDOWN or Errno.EHOSTUNREACH or Errno.EHOSTDOWN:
                CloseSocket();
                State = TcpState.Unreachable;
                UnreachableReason = errno is Errno.ENETUNREACH or Errno.ENETDOWN ? Tcp.UnreachableReason.Network : Tcp.UnreachableReason.Host;
                _engine.Timers.Set(this, _engine.Now + UnreachableNanoseconds);
                break;
            case Errno.EMFILE or Errno.ENFILE or Errno.ENOBUFS or Errno.ENOMEM or Errno.EADDRNOTAVAIL:
                _engine.Counters.Overflows++;
                ResetGuest();
                break;
            default:
                _engine.Counters.Refused++;
                ResetGuest();
                break;
        }
    }

    /// <summary>The policy lets it through no more.</summary>
    internal void Refuse()
    {
        _engine.Counters.Refused++;
        _socket?.SetResetOnClose();
        ResetGuest();
    }

    internal UnreachableReason UnreachableReason { get; private set; }

    /// <summary>Whether a SYN begins a new connection in the place of this one, which is only remembered (RFC 9293, 3.6.1).</summary>
    internal bool IsReopenedBy(in TcpSegment syn) => State == TcpState.TimeWait && TcpSequence.IsAfter(syn.Sequence, _receiveNext);

    /// <summary>Ends the connection on both sides, as when the network goes.</summary>
    internal void Abort()
    {
        _socket?.SetResetOnClose();
        Release();
    }

    private void Begin(in TcpFlow flow, uint initialSequence)
    {
        _flow = flow;
        _toGuest = new IpEndpoints(flow.IsVersion6, flow.PeerAddress, flow.GuestAddress);
        _canRead = false;
        _canWrite = false;
        BeginReceive();
        BeginSend(initialSequence);
    }

    private void TakeSyn(in TcpSegment syn)
    {
        _receiveNext = syn.Sequence + 1;
        _receiveEdge = _receiveNext;
        _hasSack = syn.PermitsSack;
        bool scales = syn.WindowScale >= 0;
        _guestScale = scales ? syn.WindowScale : 0;
        _ourScale = scales ? OurWindowScale : 0;
        _hasScale = scales;
        int most = _engine.MaxSegmentSize(_flow.IsVersion6);
        _segmentSize = Math.Clamp(syn.Mss == 0 ? DefaultSegmentSize : syn.Mss, Math.Min(MinSegmentSize, most), most);
        _sendWindow = syn.Window;
        _maxSendWindow = syn.Window;
        _windowSequence = syn.Sequence;
        _windowAcknowledgment = _sendUnacknowledged;
    }

    private void HandleHostReady(IoEvents events)
    {
        if (State == TcpState.Connecting)
        {
            HandleConnected(events);
            return;
        }

        if ((events & IoEvents.Error) != 0 && _socket?.TakeError() is int error and not 0)
        {
            OnHostError();
            return;
        }

        _canRead |= (events & (IoEvents.Readable | IoEvents.ReadHangUp | IoEvents.HangUp)) != 0;
        _canWrite |= (events & (IoEvents.Writable | IoEvents.HangUp)) != 0;
        _engine.MarkReady(this);
    }

    private void HandleConnected(IoEvents events)
    {
        if ((events & (IoEvents.Writable | IoEvents.Error | IoEvents.HangUp)) == 0)
        {
            return;
        }

        int error = _socket!.TakeError();
        if (error != 0)
        {
            Fail(error);
            return;
        }

        if (!_engine.IsAllowed(_flow))
        {
            // The address has become the host's own since the first look, before the kernel's last SYN.
            Refuse();
            return;
        }

        State = TcpState.SynReceived;
        _canWrite = true;
        _canRead = (events & (IoEvents.Readable | IoEvents.ReadHangUp)) != 0;
        _sendSyn = true;
        _engine.MarkReady(this);
    }

    /// <summary>The peer has reset the connection, or the kernel gave it up.</summary>
    private void OnHostError()
    {
        if (State is TcpState.SynSent or TcpState.SynReceived or TcpState.Established)
        {
            _engine.Counters.Resets++;
            ResetGuest();
        }
    }

    private void ResetGuest()
    {
        CloseSocket();
        ReturnChunks();
        _engine.Timers.Remove(this);
        State = TcpState.Resetting;
        _engine.MarkReady(this);
    }

    private void OnGuestReset()
    {
        _engine.Counters.Resets++;
        if (_isAsked)
        {
            EndForgotten();
        }
        else
        {
            _socket?.SetResetOnClose();
        }

        Release();
    }

    private void CloseSocket()
    {
        _socket?.Dispose();
        _socket = null;
    }

    private void Release()
    {
        CloseSocket();
        ReturnChunks();
        _engine.Timers.Remove(this);
        State = TcpState.Free;
        CountPromise();
        _engine.Forget(this);
    }

    /// <summary>Both directions have ended and been acknowledged.</summary>
    private void CloseWhenOver()
    {
        if (State != TcpState.Established || !_hasShutDown || !_isFinAcknowledged)
        {
            return;
        }

        if (_toDiscard > 0)
        {
            // Closed with bytes that nobody took, the kernel's socket would send a reset.
            DiscardAcknowledged();
        }

        CloseSocket();
        if (State != TcpState.Established)
        {
            return;
        }

        if (_closedFirst)
        {
            State = TcpState.TimeWait;
            _engine.Timers.Set(this, _engine.Now + TimeWaitNanoseconds);
            return;
        }

        if (_acknowledge)
        {
            // The guest's FIN is to be acknowledged before it is forgotten.
            State = TcpState.TimeWait;
            _engine.Timers.Set(this, _engine.Now + LastAcknowledgmentNanoseconds);
            return;
        }

        Release();
    }
}
