namespace Tutti.Storage.Files;

/// <summary>
/// Hears of what is done to a file by calls that wait, in the order in which it is done: tests find out so what a loss of power may leave of it. What <see cref="IoQueue"/> does by io_uring
/// is not told.
/// </summary>
internal interface IBlockFileWatch
{
    /// <summary>Bytes are about to be written.</summary>
    void OnWrite(ReadOnlySpan<byte> bytes, long offset);

    /// <summary>A range is about to become zero; the file does not grow.</summary>
    void OnZero(long offset, long length);

    /// <summary>All that was done before is stable.</summary>
    void OnFlushed();
}
