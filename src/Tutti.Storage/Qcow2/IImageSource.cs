using Tutti.Memory;
using Tutti.Storage.Files;

namespace Tutti.Storage.Qcow2;

/// <summary>What an image takes its bytes from that it does not have itself.</summary>
internal interface IImageSource : IDisposable
{
    /// <summary>Bytes.</summary>
    long Size { get; }

    /// <summary>Reads a part that is inside the size, and waits for it. Safe from any thread.</summary>
    /// <param name="segments">Where the bytes go.</param>
    /// <param name="skip">Bytes of the segments to leave as they are.</param>
    /// <param name="offset">First byte.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="scratch">An operation of the caller's, to do it with.</param>
    /// <exception cref="Host.HostException">The storage fails, or the image is damaged.</exception>
    void Read(ReadOnlySpan<MemorySegment> segments, long skip, long offset, long length, IoOperation scratch);

    /// <summary>The same where nothing has to be waited for: bytes and tables are in memory, and no other thread changes the image.</summary>
    /// <returns>False when that is not so; a part may have been read.</returns>
    /// <exception cref="Host.HostException">The storage fails, or the image is damaged.</exception>
    bool TryReadAtOnce(ReadOnlySpan<MemorySegment> segments, long skip, long offset, long length, IoOperation scratch);
}

/// <summary>For operations that are never submitted.</summary>
internal sealed class NoCompletion : IIoCompletion
{
    internal static NoCompletion Instance { get; } = new();

    public void Complete(IoOperation operation)
    {
    }
}
