namespace Tutti.Devices;

/// <summary>How a device answered an access.</summary>
public enum IoResult
{
    Ok,

    /// <summary>The device has nothing at this offset or of this width: the bus answers all-ones.</summary>
    Unclaimed,
}

/// <summary>A device reached through I/O ports. Offsets count from the first port of the range it is mapped at; data is 1, 2 or 4 bytes.</summary>
public interface IPortDevice
{
    IoResult ReadPort(ushort offset, Span<byte> data);

    IoResult WritePort(ushort offset, ReadOnlySpan<byte> data);
}

/// <summary>A device reached through physical addresses. Offsets count from where it is mapped; data is 1, 2, 4 or 8 bytes.</summary>
public interface IMmioDevice
{
    IoResult ReadMmio(ulong offset, Span<byte> data);

    IoResult WriteMmio(ulong offset, ReadOnlySpan<byte> data);
}

/// <summary>A device whose whole state is a plain record.</summary>
public interface IStatefulDevice<TState>
{
    TState Save();

    void Restore(TState state);
}

/// <summary>An interrupt input of a controller. Level lines follow the value; edge inputs act on false to true.</summary>
public interface IInterruptLine
{
    void Set(bool asserted);
}
