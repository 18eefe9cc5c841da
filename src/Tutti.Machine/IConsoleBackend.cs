namespace Tutti.Machine;

/// <summary>What a machine's console is connected to. A machine reads from one thread and writes from another.</summary>
public interface IConsoleBackend
{
    /// <summary>Waits for input. Returns the number of bytes, or 0 when there will be no more.</summary>
    int Read(Span<byte> buffer);

    /// <summary>Takes all bytes, waiting as long as it must; false when nobody wants output any more.</summary>
    bool Write(ReadOnlySpan<byte> bytes);

    /// <summary>Ends a <see cref="Read"/> that waits, now and later.</summary>
    void CancelRead();

    /// <summary>Ends a <see cref="Write"/> that waits, now and later.</summary>
    void CancelWrite();
}
