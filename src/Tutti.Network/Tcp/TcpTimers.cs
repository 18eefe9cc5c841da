namespace Tutti.Network.Tcp;

/// <summary>
/// A wheel of connections by deadline, to 10 ms. A deadline that moves back leaves its connection where it is, to be looked at
/// and moved when its old time comes: an acknowledgment costs nothing here.
/// </summary>
internal sealed class TcpTimers
{
    internal const long None = long.MaxValue;
    private const long TickNanoseconds = 10_000_000;
    private const int SlotCount = 512;
    private readonly TcpConnection?[] _slots = new TcpConnection?[SlotCount];
    private readonly ITcpHost _host;
    private long _tick;
    private long _wakeTick = None;
    private int _count;

    internal TcpTimers(ITcpHost host)
    {
        _host = host;
        _tick = host.Now / TickNanoseconds;
    }

    internal void Set(TcpConnection connection, long deadline)
    {
        connection.Deadline = deadline;
        if (deadline == None)
        {
            return;
        }

        long tick = TickOf(deadline);
        if (connection.TimerTick != None)
        {
            if (connection.TimerTick <= tick)
            {
                return;
            }

            Unlink(connection);
        }

        Link(connection, tick);
    }

    internal void Remove(TcpConnection connection)
    {
        connection.Deadline = None;
        if (connection.TimerTick != None)
        {
            Unlink(connection);
        }
    }

    /// <summary>Tells connections whose time has come.</summary>
    internal void Run()
    {
        long now = _host.Now;
        long end = now / TickNanoseconds;
        _wakeTick = None;
        long first = Math.Max(_tick, end - SlotCount + 1);
        for (long tick = first; tick <= end && _count > 0; tick++)
        {
            TcpConnection? list = _slots[tick % SlotCount];
            while (list != null)
            {
                TcpConnection connection = list;
                list = connection.NextTimer;
                if (connection.TimerTick > end)
                {
                    continue;
                }

                Unlink(connection);
                if (connection.Deadline <= now)
                {
                    connection.Deadline = None;
                    connection.OnTimer();

                    // It may have unlinked others, the next one among them.
                    list = _slots[tick % SlotCount];
                }
                else if (connection.Deadline != None)
                {
                    Link(connection, TickOf(connection.Deadline));
                }
            }
        }

        _tick = end;
        Wake();
    }

    /// <summary>Rounded up: at its tick the deadline has passed. What lies beyond the wheel is looked at on the way.</summary>
    private long TickOf(long deadline)
    {
        long now = _host.Now / TickNanoseconds;
        return Math.Clamp((deadline + TickNanoseconds - 1) / TickNanoseconds, now + 1, now + SlotCount - 1);
    }

    private void Link(TcpConnection connection, long tick)
    {
        ref TcpConnection? head = ref _slots[tick % SlotCount];
        connection.TimerTick = tick;
        connection.PreviousTimer = null;
        connection.NextTimer = head;
        if (head != null)
        {
            head.PreviousTimer = connection;
        }

        head = connection;
        _count++;
        if (tick < _wakeTick)
        {
            _wakeTick = tick;
            _host.WakeAt(tick * TickNanoseconds);
        }
    }

    private void Unlink(TcpConnection connection)
    {
        if (connection.PreviousTimer != null)
        {
            connection.PreviousTimer.NextTimer = connection.NextTimer;
        }
        else
        {
            _slots[connection.TimerTick % SlotCount] = connection.NextTimer;
        }

        if (connection.NextTimer != null)
        {
            connection.NextTimer.PreviousTimer = connection.PreviousTimer;
        }

        connection.NextTimer = null;
        connection.PreviousTimer = null;
        connection.TimerTick = None;
        _count--;
    }

    private void Wake()
    {
        if (_count == 0)
        {
            return;
        }

        for (long tick = _tick + 1; tick <= _tick + SlotCount; tick++)
        {
            if (tick >= _wakeTick)
            {
                return;
            }

            if (_slots[tick % SlotCount] != null)
            {
                _wakeTick = tick;
                _host.WakeAt(tick * TickNanoseconds);
                return;
            }
        }
    }
}
