namespace Tutti.Virtio.Console;

/// <summary>The other end of a virtio console.</summary>
public interface IVirtioConsoleBackend
{
    /// <summary>
    /// Takes output of the guest's, and returns how many bytes, from the first. When that is not all, <see cref="VirtioConsole.TransmitReady"/>
    /// says when to go on. Any thread, also under the device's lock: it never waits, and calls nothing back.
    /// </summary>
    int Transmit(ReadOnlySpan<byte> data);

    /// <summary>There is room again after a <see cref="VirtioConsole.Receive"/> that took less than it was given. On the device's worker, under no lock.</summary>
    void ReceiveReady();
}
