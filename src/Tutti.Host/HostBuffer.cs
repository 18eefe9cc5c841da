using System.Buffers;

namespace Tutti.Host;

/// <summary>
/// Bytes for a short use that go back to the host when they are disposed of. The collector keeps what it has once had for a
/// large array, as a kernel file is.
/// </summary>
public sealed unsafe class HostBuffer : MemoryManager<byte>
{
    private readonly HostMapping _mapping;
    private readonly int _length;
    private bool _isDisposed;

    /// <param name="length">Bytes, above 0.</param>
    /// <exception cref="HostException">The host has no room.</exception>
    public HostBuffer(int length)
    {
        _mapping = new HostMapping(length, hugePages: true);
        _length = length;
    }

    /// <summary>The bytes, zero at first.</summary>
    /// <exception cref="ObjectDisposedException">They have been given back.</exception>
    public override Span<byte> GetSpan()
    {
        ObjectDisposedException.ThrowIf(_isDisposed, this);

        // SAFETY: the mapping has that many bytes and lives as long as this buffer.
        return new Span<byte>((void*)_mapping.Address, _length);
    }

    public override MemoryHandle Pin(int elementIndex = 0)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)elementIndex, (uint)_length);
        ObjectDisposedException.ThrowIf(_isDisposed, this);

        // SAFETY: within the mapping, which does not move.
        return new MemoryHandle((byte*)_mapping.Address + elementIndex, pinnable: this);
    }

    public override void Unpin()
    {
    }

    protected override void Dispose(bool disposing)
    {
        _isDisposed = true;
        _mapping.Dispose();
    }
}
