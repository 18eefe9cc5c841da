using System.Buffers.Binary;
using Tutti.Host;
using Tutti.Network.Tcp;

namespace Tutti.Network.Dns;

/// <summary>
/// The resolver's end of a connection of the guest's (RFC 7766): bytes are cut into queries by their lengths, each is looked at as one that came by UDP is, and
/// what is none ends the connection. To the connection it is the socket of a peer. A guest that does not read its answers is not read from, either.
/// </summary>
internal sealed class DnsStream : ITcpSocket
{
    /// <summary>How long a connection may lie still before it is ended.</summary>
    public const long IdleNanoseconds = 30_000_000_000;

    private const int LengthPrefix = 2;
    private const int MaxOutstanding = 4;

    /// <summary>Bytes of answers that may wait when another query is taken.</summary>
    private const int MaxWaiting = 65536;

    private readonly DnsForwarder _forwarder;
    private readonly Action<IoEvents> _onReady;
    private readonly byte[] _query = new byte[LengthPrefix + DnsMessage.MaxQuery];
    private int _queryLength;
    private byte[] _answers = [];
    private int _answersStart;
    private int _answersEnd;
    private int _outstanding;
    private int _error;
    private bool _isWaiting;
    private bool _hasEnded;
    private long _lastUse = HostTime.Nanoseconds;

    public DnsStream(DnsForwarder forwarder, Action<IoEvents> onReady)
    {
        _forwarder = forwarder;
        _onReady = onReady;
    }

    private int Waiting => _answersEnd - _answersStart;

    /// <summary>Where the query that is being put together ends; only its length is wanted while that is not there.</summary>
    private int QueryEnd => _queryLength < LengthPrefix ? LengthPrefix : LengthPrefix + BinaryPrimitives.ReadUInt16BigEndian(_query);

    public int TakeError()
    {
        int error = _error;
        _error = 0;
        return error;
    }

    public int Send(ReadOnlySpan<byte> data)
    {
        int taken = 0;
        _lastUse = HostTime.Nanoseconds;
        while (true)
        {
            if (_queryLength > LengthPrefix && _queryLength == QueryEnd)
            {
                if (!DnsMessage.IsQuery(_query.AsSpan(LengthPrefix.._queryLength)))
                {
                    return -Errno.ECONNRESET;
                }

                if (!TryPassOn(_query.AsSpan(LengthPrefix.._queryLength)))
                {
                    _isWaiting = true;
                    return taken > 0 ? taken : -Errno.EAGAIN;
                }

                _queryLength = 0;
            }

            if (taken == data.Length)
            {
                return taken;
            }

            int count = Math.Min(data.Length - taken, QueryEnd - _queryLength);
            data.Slice(taken, count).CopyTo(_query.AsSpan(_queryLength));
            taken += count;
            _queryLength += count;
            if (_queryLength >= LengthPrefix && QueryEnd is <= LengthPrefix or > LengthPrefix + DnsMessage.MaxQuery)
            {
                return -Errno.ECONNRESET;
            }
        }
    }

    public int Peek(int offset, Span<byte> into)
    {
        int count = Math.Min(Waiting - offset, into.Length);
        if (count <= 0)
        {
            return _hasEnded && _outstanding == 0 && !_isWaiting ? 0 : -Errno.EAGAIN;
        }

        _answers.AsSpan(_answersStart + offset, count).CopyTo(into);
        return count;
    }

    public int Discard(int count)
    {
        count = Math.Min(count, Waiting);
        _lastUse = HostTime.Nanoseconds;
        _answersStart += count;
        if (_answersStart == _answersEnd)
        {
            (_answersStart, _answersEnd) = (0, 0);
            _answers = _answers.Length > MaxWaiting ? [] : _answers;
        }

        OnRoom();
        return count;
    }

    public void ShutdownWrite()
    {
        _hasEnded = true;
        if (_outstanding == 0)
        {
            _onReady(IoEvents.Readable);
        }
    }

    public void KeepAlive()
    {
        // The resolver is always there.
    }

    public void SetResetOnClose()
    {
        // There is nobody behind it.
    }

    public void Dispose() => _forwarder.Forget(this);

    /// <summary>An answer has come.</summary>
    internal void TakeAnswer(ReadOnlySpan<byte> answer)
    {
        _outstanding--;
        Append(answer);
        OnRoom();
        _onReady(IoEvents.Readable);
    }

    /// <summary>A query that waited may be taken now.</summary>
    internal void OnRoom()
    {
        if (!_isWaiting)
        {
            return;
        }

        _isWaiting = !TryPassOn(_query.AsSpan(LengthPrefix.._queryLength));
        if (!_isWaiting)
        {
            _queryLength = 0;
            _onReady(IoEvents.Writable | IoEvents.Readable);
        }
    }

    /// <summary>Ends a connection that lies still; one that does so twice is reset.</summary>
    internal void CheckIdle(long now)
    {
        if (now - _lastUse < IdleNanoseconds || _outstanding > 0)
        {
            return;
        }

        if (_hasEnded)
        {
            _error = Errno.ETIMEDOUT;
            _onReady(IoEvents.Error);
            return;
        }

        _hasEnded = true;
        _lastUse = now;
        _onReady(IoEvents.Readable);
    }

    private bool TryPassOn(ReadOnlySpan<byte> query)
    {
        if (_outstanding >= MaxOutstanding || Waiting >= MaxWaiting)
        {
            return false;
        }

        if (DnsMessage.IsTransfer(query))
        {
            Span<byte> refusal = stackalloc byte[DnsMessage.MaxQuery];
            Append(refusal[..DnsMessage.WriteFailure(query, DnsMessage.Refused, refusal)]);
            _onReady(IoEvents.Readable);
            return true;
        }

        // The answer may come before this returns.
        bool wasWaiting = _isWaiting;
        _isWaiting = false;
        _outstanding++;
        if (_forwarder.TryTake(this, query))
        {
            return true;
        }

        _outstanding--;
        _isWaiting = wasWaiting;
        return false;
    }

    private void Append(ReadOnlySpan<byte> answer)
    {
        int wanted = Waiting + LengthPrefix + answer.Length;
        if (_answersStart + wanted > _answers.Length)
        {
            byte[] room = wanted > _answers.Length ? new byte[Math.Max(wanted, 2 * _answers.Length)] : _answers;
            int waiting = Waiting;
            _answers.AsSpan(_answersStart, waiting).CopyTo(room);
            (_answers, _answersStart, _answersEnd) = (room, 0, waiting);
        }

        BinaryPrimitives.WriteUInt16BigEndian(_answers.AsSpan(_answersEnd), (ushort)answer.Length);
        answer.CopyTo(_answers.AsSpan(_answersEnd + LengthPrefix));
        _answersEnd += LengthPrefix + answer.Length;
    }
}
