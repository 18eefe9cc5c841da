namespace Tutti.Storage.Files;

/// <summary>
/// A few threads that do operations by calls that wait: all of them where the host refuses io_uring, else those that io_uring does not know. Started
/// when first needed, and kept.
/// </summary>
internal sealed class IoWorkers : IDisposable
{
    private readonly string _name;
    private readonly Action _onDone;
    private readonly Thread?[] _threads;
    private readonly object _gate = new();
    private IoOperation? _waitingFirst;
    private IoOperation? _waitingLast;
    private IoOperation? _doneFirst;
    private IoOperation? _doneLast;
    private int _threadCount;
    private int _idleCount;
    private int _waitingCount;
    private bool _isEnding;

    /// <param name="name">The threads' name.</param>
    /// <param name="threads">At most.</param>
    /// <param name="onDone">Called on one of the threads when finished operations wait to be taken, once until they are.</param>
    internal IoWorkers(string name, int threads, Action onDone)
    {
        _name = name;
        _threads = new Thread?[threads];
        _onDone = onDone;
    }

    /// <summary>Gives an operation to the threads. Safe from any thread.</summary>
    internal void Start(IoOperation operation)
    {
        operation.Next = null;
        lock (_gate)
        {
            Append(ref _waitingFirst, ref _waitingLast, operation);
            _waitingCount++;
            if (_waitingCount > _idleCount && _threadCount < _threads.Length)
            {
                Thread thread = new(Run) { Name = _name, IsBackground = true };
                _threads[_threadCount++] = thread;
                thread.Start();
            }
            else
            {
                Monitor.Pulse(_gate);
            }
        }
    }

    /// <summary>Takes all finished operations, chained by <see cref="IoOperation.Next"/> in the order of their ends; null when there are none.</summary>
    internal IoOperation? TakeDone()
    {
        if (Volatile.Read(ref _doneFirst) == null)
        {
            return null;
        }

        lock (_gate)
        {
            IoOperation? first = _doneFirst;
            _doneFirst = null;
            _doneLast = null;
            return first;
        }
    }

    /// <summary>Ends the threads; no operation may be under way.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            _isEnding = true;
            Monitor.PulseAll(_gate);
        }

        foreach (Thread? thread in _threads)
        {
            thread?.Join();
        }
    }

    private static void Append(ref IoOperation? first, ref IoOperation? last, IoOperation operation)
    {
        if (last == null)
        {
            first = operation;
        }
        else
        {
            last.Next = operation;
        }

        last = operation;
    }

    private void Run()
    {
        while (true)
        {
            IoOperation operation;
            lock (_gate)
            {
                while (_waitingFirst == null)
                {
                    if (_isEnding)
                    {
                        return;
                    }

                    _idleCount++;
                    Monitor.Wait(_gate);
                    _idleCount--;
                }

                operation = _waitingFirst;
                _waitingFirst = operation.Next;
                _waitingLast = _waitingFirst == null ? null : _waitingLast;
                _waitingCount--;
                operation.Next = null;
            }

            operation.RunHere();
            bool isFirst;
            lock (_gate)
            {
                isFirst = _doneFirst == null;
                Append(ref _doneFirst, ref _doneLast, operation);
            }

            if (isFirst)
            {
                _onDone();
            }
        }
    }
}
