using Tutti.Host;

namespace Tutti.Machine;

/// <summary>
/// Carries console output from vCPUs to a backend that may be slow. The first byte after a silence leaves at once, those
/// that follow are gathered for <see cref="GatherNanoseconds"/>, so that a flood costs few writes and an echo no delay.
/// </summary>
internal sealed class ConsoleOutput : IDisposable
{
    private const long GatherNanoseconds = 2_000_000;
    private const int Capacity = 64 << 10;
    private const int UrgentCount = Capacity / 4;
    private readonly IConsoleBackend _backend;
    private readonly Action _onRoom;
    private readonly Lock _lock = new();
    private readonly HostEvent _arrived = new();
    private readonly HostEvent _urgent = new();
    private readonly byte[] _ring = new byte[Capacity];
    private readonly Thread _thread;
    private int _first;
    private int _count;
    private bool _hasRefused;
    private bool _isEnding;

    /// <param name="backend">Where the bytes go.</param>
    /// <param name="onRoom">Called from the writing thread, without a lock, once there is room after <see cref="TryPut"/> said no.</param>
    /// <param name="onFailure">Told what the backend threw.</param>
    internal ConsoleOutput(IConsoleBackend backend, Action onRoom, Action<Exception> onFailure)
    {
        _backend = backend;
        _onRoom = onRoom;
        _thread = new Thread(() => Guard(Run, onFailure)) { Name = "console output", IsBackground = true };
        _thread.Start();
    }

    /// <summary>Takes one byte; false when the backend is too far behind. For use under the chipset lock; never waits for the backend.</summary>
    internal bool TryPut(byte value) => Put([value]) == 1;

    /// <summary>Takes bytes from the first on, and returns how many; fewer when the backend is too far behind. Never waits for the backend.</summary>
    internal int Put(ReadOnlySpan<byte> bytes)
    {
        int taken;
        bool isFirst;
        bool isUrgent;
        lock (_lock)
        {
            taken = Math.Min(bytes.Length, Capacity - _count);
            _hasRefused |= taken < bytes.Length;
            int end = (_first + _count) % Capacity;
            int head = Math.Min(taken, Capacity - end);
            bytes[..head].CopyTo(_ring.AsSpan(end));
            bytes[head..taken].CopyTo(_ring);
            isFirst = _count == 0 && taken != 0;
            isUrgent = _count < UrgentCount && _count + taken >= UrgentCount;
            _count += taken;
        }

        if (isFirst)
        {
            _arrived.Signal();
        }

        if (isUrgent)
        {
            _urgent.Signal();
        }

        return taken;
    }

    /// <summary>Waits until the backend has taken everything, or until its <see cref="IConsoleBackend.CancelWrite"/>, and ends the thread.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            _isEnding = true;
        }

        _arrived.Signal();
        _urgent.Signal();
        _thread.Join();
        _arrived.Dispose();
        _urgent.Dispose();
    }

    // What is thrown on a thread of its own would end the process.
    internal static void Guard(Action body, Action<Exception> onFailure)
    {
        try
        {
            body();
        }
        catch (Exception e)
        {
            onFailure(e);
        }
    }

    private void Run()
    {
        byte[] buffer = new byte[Capacity];
        bool isWanted = true;
        while (true)
        {
            int count;
            bool hasRoom;
            bool isEnding;
            lock (_lock)
            {
                count = _count;
                int head = Math.Min(count, Capacity - _first);
                _ring.AsSpan(_first, head).CopyTo(buffer);
                _ring.AsSpan(0, count - head).CopyTo(buffer.AsSpan(head));
                _first = (_first + count) % Capacity;
                _count = 0;
                hasRoom = _hasRefused;
                _hasRefused = false;
                isEnding = _isEnding;
            }

            if (hasRoom)
            {
                _onRoom();
            }

            if (count > 0)
            {
                isWanted = isWanted && _backend.Write(buffer.AsSpan(0, count));
                if (!isEnding)
                {
                    _ = _urgent.Wait(GatherNanoseconds);
                }
            }
            else if (isEnding)
            {
                return;
            }
            else
            {
                _ = _arrived.Wait(-1);
            }
        }
    }
}
