using System.Runtime.InteropServices;
using Tutti.Cpu;
using Tutti.Devices;
using Tutti.Workers;

namespace Tutti.Machine;

/// <summary>
/// The doorbells of a board. Those of an event loop ring inside the engine where it can (kvm: ioeventfd); the others in
/// <see cref="TryRing"/>, which looks a table up that never changes: who changes doorbells makes a new one.
/// </summary>
internal sealed class BoardDoorbells : IDoorbellMap
{
    private readonly Dictionary<(ulong Address, IDoorbell Doorbell), SafeHandle> _inEngine = [];
    private volatile Table _table = new([], []);
    private IEventDoorbells? _engine;

    public void Attach(ulong address, IDoorbell doorbell)
    {
        if (_engine != null && doorbell is LoopDoorbell bell)
        {
            SafeHandle handle = bell.Event.Descriptor;
            if (_engine.TryAttach(address, handle))
            {
                _inEngine[(address, doorbell)] = handle;
                return;
            }
        }

        _table = _table.With(address, doorbell);
    }

    public void Detach(ulong address, IDoorbell doorbell)
    {
        if (_inEngine.Remove((address, doorbell), out SafeHandle? handle))
        {
            _engine?.Detach(address, handle);
            return;
        }

        _table = _table.Without(address, doorbell);
    }

    /// <summary>Before the first doorbell: the engine that may take them.</summary>
    internal void Connect(IEventDoorbells? engine) => _engine = engine;

    /// <summary>Rings the doorbell of a guest's write; false where the write is another's. Takes no lock.</summary>
    internal bool TryRing(ulong address, int width)
    {
        Table table = _table;
        if (table.Addresses.Length == 0 || width is not (2 or 4))
        {
            return false;
        }

        int index = Array.BinarySearch(table.Addresses, address);
        if (index < 0)
        {
            return false;
        }

        table.Doorbells[index].Ring();
        return true;
    }

    /// <summary>Sorted by address.</summary>
    private sealed record Table(ulong[] Addresses, IDoorbell[] Doorbells)
    {
        internal Table With(ulong address, IDoorbell doorbell)
        {
            int index = Array.BinarySearch(Addresses, address);
            if (index >= 0)
            {
                // Two functions never have one address; the later would be right.
                return new Table(Addresses, [.. Doorbells[..index], doorbell, .. Doorbells[(index + 1)..]]);
            }

            index = ~index;
            return new Table(
                [.. Addresses[..index], address, .. Addresses[index..]],
                [.. Doorbells[..index], doorbell, .. Doorbells[index..]]);
        }

        internal Table Without(ulong address, IDoorbell doorbell)
        {
            int index = Array.BinarySearch(Addresses, address);
            return index < 0 || Doorbells[index] != doorbell
                ? this
                : new Table([.. Addresses[..index], .. Addresses[(index + 1)..]], [.. Doorbells[..index], .. Doorbells[(index + 1)..]]);
        }
    }
}
