using System.Buffers.Binary;

namespace Tutti.Devices.Pci;

/// <summary>State of an MSI-X table: 4 words for each entry, and the pending bits. What masks the whole lies in configuration space.</summary>
public sealed record MsixState(uint[] Entries, ulong[] Pending);

/// <summary>
/// The MSI-X table of a function and its pending bits. <see cref="Signal"/> is safe from any thread; everything else is called under the
/// chipset lock. Source: PCI Local Bus Specification 3.0, 6.8.2.
/// </summary>
public sealed class MsixTable
{
    private const int MaxVectors = 2048;
    private const int WordsPerEntry = 4;
    private const int AddressLow = 0;
    private const int AddressHigh = 1;
    private const int Data = 2;
    private const int Control = 3;
    private const uint Masked = 1;

    /// <summary>Where messages become interrupts. Source: Intel SDM, volume 3, "Message Address Register Format".</summary>
    private const ulong InterruptAddresses = 0xFEE;

    private readonly Lock _lock = new();
    private readonly uint[] _entries;
    private readonly ulong[] _pending;

    // Which vectors may be sent now: what Signal looks at. The rest of the fields below belongs to the chipset lock.
    private readonly bool[] _isOpen;
    private readonly Vector[] _vectors;
    private IMessageInterrupts? _messages;
    private volatile bool _isEnabled;
    private bool _isFunctionMasked;
    private bool _isBusMaster;

    internal MsixTable(int vectorCount)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(vectorCount, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(vectorCount, MaxVectors);
        _entries = new uint[vectorCount * WordsPerEntry];
        _pending = new ulong[(vectorCount + 63) / 64];
        _isOpen = new bool[vectorCount];
        _vectors = new Vector[vectorCount];
        MaskAll();
    }

    /// <summary>Number of vectors.</summary>
    public int Count => _vectors.Length;

    /// <summary>Whether the guest has switched MSI-X on. Safe from any thread.</summary>
    public bool IsEnabled => _isEnabled;

    /// <summary>
    /// Sends a vector's message; it stays pending while the vector, the function or bus mastering forbids it, and is lost while MSI-X is off.
    /// Safe from any thread; takes the chipset lock in some machines, so hold no lock that is taken under it.
    /// </summary>
    /// <param name="vector">One that does not exist (a guest may have asked for it) signals nothing.</param>
    public void Signal(int vector)
    {
        if ((uint)vector >= (uint)_vectors.Length || !_isEnabled)
        {
            return;
        }

        IMessageInterrupt? message;
        lock (_lock)
        {
            if (!_isOpen[vector])
            {
                _pending[vector >> 6] |= 1UL << (vector & 63);
                return;
            }

            message = _vectors[vector].Sent;
        }

        message?.Signal();
    }

    /// <param name="offset">Bytes from the table's start.</param>
    public void ReadTable(ulong offset, Span<byte> data)
    {
        for (int i = 0; i < data.Length; i++)
        {
            ulong at = offset + (ulong)i;
            data[i] = at / 4 < (ulong)_entries.Length ? (byte)(_entries[at / 4] >> (int)((at & 3) * 8)) : (byte)0;
        }
    }

    /// <summary>Takes a guest's write: whole words, 4 or 8 bytes; anything else is ignored, as the specification leaves it open.</summary>
    public void WriteTable(ulong offset, ReadOnlySpan<byte> data)
    {
        if ((offset & 3) != 0 || (data.Length & 3) != 0)
        {
            return;
        }

        int first = -1;
        int last = -1;
        for (; data.Length != 0 && offset / 4 < (ulong)_entries.Length; offset += 4, data = data[4..])
        {
            int word = (int)(offset / 4);
            uint value = BinaryPrimitives.ReadUInt32LittleEndian(data);
            uint writable = (word % WordsPerEntry) switch
            {
                AddressLow => ~3u,
                Control => Masked,
                _ => ~0u,
            };
            _entries[word] = value & writable;
            last = word / WordsPerEntry;
            first = first < 0 ? last : first;
        }

        for (int vector = first; vector >= 0 && vector <= last; vector++)
        {
            Update(vector);
        }
    }

    /// <param name="offset">Bytes from the pending bits' start. The guest can't write them.</param>
    public void ReadPba(ulong offset, Span<byte> data)
    {
        lock (_lock)
        {
            for (int i = 0; i < data.Length; i++)
            {
                ulong at = offset + (ulong)i;
                data[i] = at / 8 < (ulong)_pending.Length ? (byte)(_pending[at / 8] >> (int)((at & 7) * 8)) : (byte)0;
            }
        }
    }

    internal MsixState Save()
    {
        lock (_lock)
        {
            return new MsixState((uint[])_entries.Clone(), (ulong[])_pending.Clone());
        }
    }

    /// <summary>Takes entries and pending bits over; <see cref="SetControl"/> must follow.</summary>
    internal void Restore(MsixState state)
    {
        if (state.Entries.Length != _entries.Length || state.Pending.Length != _pending.Length)
        {
            throw new ArgumentException("The state has another number of MSI-X vectors.", nameof(state));
        }

        CloseAll();
        lock (_lock)
        {
            state.Entries.CopyTo(_entries, 0);
            state.Pending.CopyTo(_pending, 0);
        }
    }

    internal void Reset()
    {
        CloseAll();
        lock (_lock)
        {
            MaskAll();
            Array.Clear(_pending);
        }
    }

    internal void Connect(IMessageInterrupts messages) => _messages = messages;

    /// <summary>Gives all messages back; nothing is sent any more.</summary>
    internal void Disconnect()
    {
        CloseAll();
        _messages = null;
        foreach (ref Vector vector in _vectors.AsSpan())
        {
            vector.Message?.Dispose();
            vector = default;
        }
    }

    internal void SetControl(bool isEnabled, bool isFunctionMasked, bool isBusMaster)
    {
        if (!isEnabled && _isEnabled)
        {
            lock (_lock)
            {
                Array.Clear(_pending);
            }
        }

        (_isEnabled, _isFunctionMasked, _isBusMaster) = (isEnabled, isFunctionMasked, isBusMaster);
        for (int vector = 0; vector < _vectors.Length; vector++)
        {
            Update(vector);
        }
    }

    /// <summary>Opens or closes a vector as the masks say now, tells its message, and sends what has waited.</summary>
    private void Update(int vector)
    {
        ReadOnlySpan<uint> entry = _entries.AsSpan(vector * WordsPerEntry, WordsPerEntry);
        bool isOpen = _isEnabled && !_isFunctionMasked && _isBusMaster && (entry[Control] & Masked) == 0;
        IMessageInterrupt? message = isOpen ? Program(vector, entry[AddressLow] | ((ulong)entry[AddressHigh] << 32), entry[Data]) : null;
        bool isDue;
        lock (_lock)
        {
            _isOpen[vector] = isOpen;
            _vectors[vector].Sent = message;
            ulong bit = 1UL << (vector & 63);
            ref ulong pending = ref _pending[vector >> 6];
            isDue = isOpen && (pending & bit) != 0;
            pending &= isOpen ? ~bit : ulong.MaxValue;
        }

        if (isDue)
        {
            message?.Signal();
        }
    }

    /// <summary>The vector's message, set as the entry says; null where that would be no interrupt.</summary>
    private IMessageInterrupt? Program(int index, ulong address, uint data)
    {
        if (_messages == null || address >> 20 != InterruptAddresses)
        {
            return null;
        }

        ref Vector vector = ref _vectors[index];
        if (vector.Message == null || vector.Address != address || vector.Data != data)
        {
            vector.Message ??= _messages.Create();
            vector.Message.SetMessage(address, data);
            (vector.Address, vector.Data) = (address, data);
        }

        return vector.Message;
    }

    private void CloseAll()
    {
        lock (_lock)
        {
            Array.Clear(_isOpen);
        }
    }

    private void MaskAll()
    {
        Array.Clear(_entries);
        for (int i = Control; i < _entries.Length; i += WordsPerEntry)
        {
            _entries[i] = Masked;
        }
    }

    private struct Vector
    {
        /// <summary>Made when it is first needed, and kept.</summary>
        public IMessageInterrupt? Message;

        /// <summary>The message while it may be sent; under the table's lock.</summary>
        public IMessageInterrupt? Sent;
        public ulong Address;
        public uint Data;
    }
}
