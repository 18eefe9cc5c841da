namespace Tutti.Virtio.Console;

/// <summary>
/// Whether somebody in the guest has the console open. Linux's driver throws input away, and the buffer with it, that comes while it still sets
/// its port up, and falls over (BUG) a change of the size then; with one port nothing tells of the end of that. Afterwards it keeps a buffer that
/// it has got, an empty one too, until a program has opened hvc0, and only then puts it back into the queue. So the device, when it has something
/// to say, returns one buffer empty, and speaks when that is offered again.
/// </summary>
public sealed partial class VirtioConsole
{
    /// <summary>Guest time that a driver has for its port, from its readiness or its first need of a reader on.</summary>
    private const long FirstLook = 20_000_000;

    /// <summary>Each further look comes so many times later.</summary>
    private const int LookStretch = 10;

    /// <summary>Empty buffers at most: those that come too early are lost to the driver for good. Then, after 200 s, whoever is there gets it all.</summary>
    private const int MaxKnocks = 4;

    /// <summary>How long a queue may stay partly filled until its driver counts as one that never fills it, which are not known to lose input.</summary>
    private const long FillPatience = 200_000_000;

    /// <summary>Time for the driver to take one empty buffer before it hears of the next.</summary>
    private const long EchoPause = 1_000_000;

    private bool _hasReader;
    private bool _isLooking;
    private long _lookPause;
    private int _knocks;

    // Interrupts for empty buffers that lie before the first input: Linux stops reading at each.
    private int _echoes;

    /// <summary>Begins to look for a reader, where none is known and something waits for one. Under the lock.</summary>
    private void LookForReader()
    {
        if (!_hasReader && !_isLooking && Queue(ReceiveQueue).IsReady)
        {
            _isLooking = true;
            _lookPause = FirstLook;
            _lookTimer.Arm(_clock.Nanoseconds + FirstLook);
        }
    }

    /// <summary>The next driver is another. Under the lock.</summary>
    private void ForgetReader()
    {
        (_hasReader, _isLooking, _knocks, _echoes) = (false, false, 0, 0);
        _lookTimer.Cancel();
    }

    /// <summary>Whether a reader is known. Under the lock.</summary>
    private bool FindReader()
    {
        if (!_hasReader && Queue(ReceiveQueue).IsRefilled)
        {
            MeetReader();
        }

        return _hasReader;
    }

    private void MeetReader()
    {
        (_hasReader, _isLooking, _echoes) = (true, false, Math.Max(0, _knocks - 1));
        if (_echoes != 0)
        {
            _lookTimer.Arm(_clock.Nanoseconds + EchoPause);
        }
    }

    /// <summary>On the worker, when the timer rings.</summary>
    private void Look()
    {
        bool signal;
        lock (Lock)
        {
            signal = _hasReader ? Echo() : Knock();
        }

        if (signal)
        {
            SignalQueue(ReceiveQueue);
        }

        Greet();
    }

    /// <summary>Says all that has waited for a reader, where there is one.</summary>
    private void Greet()
    {
        bool isWaiting;
        bool tellsSize;
        lock (Lock)
        {
            bool isThere = FindReader();
            isWaiting = isThere && _inputWaits;
            _inputWaits &= !isThere;
            tellsSize = TryTellSize();
        }

        if (tellsSize)
        {
            SignalConfigChanged();
        }

        if (isWaiting)
        {
            _backend.ReceiveReady();
        }
    }

    private bool Echo()
    {
        if (_echoes == 0)
        {
            return false;
        }

        _echoes--;
        if (_echoes != 0)
        {
            _lookTimer.Arm(_clock.Nanoseconds + EchoPause);
        }

        return true;
    }

    private bool Knock()
    {
        Virtqueue queue = Queue(ReceiveQueue);
        if (!_isLooking || !queue.IsReady || FindReader())
        {
            return false;
        }

        bool signal = false;
        if (!queue.IsFilled ? _lookPause >= FillPatience : _knocks == MaxKnocks)
        {
            MeetReader();
            return false;
        }

        if (queue.IsFilled && queue.TryPop(_input))
        {
            _knocks++;
            queue.Push(_input, 0);
            signal = queue.Publish();
            if (queue.EnableNotifyOfMore())
            {
                // Rather one look too many than a notification that never comes.
                Doorbell(ReceiveQueue)?.Ring();
            }
        }

        _lookPause *= LookStretch;
        _lookTimer.Arm(_clock.Nanoseconds + _lookPause);
        return signal;
    }
}
