using Tutti.Host;
using Tutti.Workers;

namespace Tutti.Network.Tcp;

/// <summary>A host's socket under the loop's watch: told once per change, so that bytes that wait for the guest's acknowledgment wake nobody.</summary>
internal sealed class TcpSocket : ITcpSocket
{
    private readonly HostSocket _socket;
    private readonly byte[] _scratch;
    private readonly int _keepAliveSeconds;
    private LoopWatch? _watch;

    /// <summary>Where the kernel reads ahead next; -1 where it must be told each time what to pass over.</summary>
    private int _peekOffset;

    private TcpSocket(HostSocket socket, byte[] scratch, int keepAliveSeconds)
    {
        _keepAliveSeconds = keepAliveSeconds;
        _socket = socket;
        _scratch = scratch;
        _socket.SetNoDelay();
        _socket.SetUrgentInline();
        _peekOffset = _socket.SetPeekOffset(0) == 0 ? 0 : -1;
    }

    /// <summary>Takes a socket over; null, and the socket closed, where the kernel can't watch it.</summary>
    internal static TcpSocket? TryWatch(EventLoop loop, HostSocket socket, Action<IoEvents> onReady, byte[] scratch, int keepAliveSeconds, out int errno)
    {
        TcpSocket made = new(socket, scratch, keepAliveSeconds);
        made._watch = loop.TryWatch(
            socket.Descriptor, IoEvents.Readable | IoEvents.Writable | IoEvents.ReadHangUp | IoEvents.EdgeTriggered, onReady, out errno);
        if (made._watch != null)
        {
            return made;
        }

        socket.Dispose();
        return null;
    }

    public int TakeError() => _socket.TakeError();

    public int Send(ReadOnlySpan<byte> data) => _socket.Send(data);

    public int Peek(int offset, Span<byte> into)
    {
        if (_peekOffset < 0)
        {
            return offset == 0 ? _socket.Peek(into) : _socket.PeekPast(offset, into, _scratch);
        }

        if (_peekOffset != offset)
        {
            int error = _socket.SetPeekOffset(offset);
            if (error < 0)
            {
                return error;
            }

            _peekOffset = offset;
        }

        int count = _socket.Peek(into);
        _peekOffset += Math.Max(0, count);
        return count;
    }

    public int Discard(int count)
    {
        int discarded = _socket.Discard(count);
        if (discarded > 0 && _peekOffset >= 0)
        {
            // The kernel moves it likewise, and not below 0.
            _peekOffset = Math.Max(0, _peekOffset - discarded);
        }

        return discarded;
    }

    public void ShutdownWrite() => _ = _socket.ShutdownWrite();

    public void KeepAlive() => _socket.SetKeepAlive(_keepAliveSeconds);

    public void SetResetOnClose() => _socket.SetResetOnClose();

    public void Dispose()
    {
        _watch?.Dispose();
        _watch = null;
        _socket.Dispose();
    }
}
