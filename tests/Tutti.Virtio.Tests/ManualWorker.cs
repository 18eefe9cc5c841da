using Tutti.Devices;

namespace Tutti.Virtio.Tests;

/// <summary>A worker whose work is done when the test says so, on the test's thread.</summary>
internal sealed class ManualWorker : IDeviceWorker
{
    private readonly List<Doorbell> _doorbells = [];

    public int Open => _doorbells.Count(doorbell => !doorbell.IsDisposed);

    public IDoorbell AddDoorbell(Action work)
    {
        Doorbell doorbell = new(work);
        _doorbells.Add(doorbell);
        return doorbell;
    }

    /// <summary>Does all that was rung for, and what that rings for.</summary>
    public void Run()
    {
        bool again = true;
        for (int rounds = 0; again; rounds++)
        {
            Assert.True(rounds < 10_000, "The device rings for ever.");
            again = false;
            for (int i = 0; i < _doorbells.Count; i++)
            {
                again |= _doorbells[i].RunOnce();
            }
        }
    }

    private sealed class Doorbell(Action work) : IDoorbell
    {
        private int _isRung;

        public bool IsDisposed { get; private set; }

        public void Ring() => Volatile.Write(ref _isRung, 1);

        public bool RunOnce()
        {
            if (IsDisposed || Interlocked.Exchange(ref _isRung, 0) == 0)
            {
                return false;
            }

            work();
            return true;
        }

        public void Dispose() => IsDisposed = true;
    }
}
