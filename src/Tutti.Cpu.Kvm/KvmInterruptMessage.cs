using Tutti.Host;

namespace Tutti.Cpu.Kvm;

/// <summary>A message that an eventfd raises inside the kernel (irqfd): a signal is one system call, and no lock of ours.</summary>
internal sealed class KvmInterruptMessage(KvmInterruptControllers controllers) : IInterruptMessage
{
    private readonly EventFd _event = new();
    private int _gsi = -1;

    public void Set(ulong address, uint data)
    {
        try
        {
            if (_gsi >= 0)
            {
                controllers.ChangeMessageRoute(_gsi, address, data);
                return;
            }

            int gsi = controllers.AddMessageRoute(address, data);
            controllers.Attach(gsi, _event);
            _gsi = gsi;
        }
        catch (ObjectDisposedException)
        {
            // The partition is gone: nobody is left to be interrupted.
        }
    }

    public void Signal()
    {
        try
        {
            _event.Signal();
        }
        catch (ObjectDisposedException)
        {
            // A worker may be a moment behind the end of its device.
        }
    }

    public void Dispose()
    {
        try
        {
            if (_gsi >= 0)
            {
                controllers.Detach(_gsi, _event);
                controllers.RemoveMessageRoute(_gsi);
            }
        }
        catch (ObjectDisposedException)
        {
            // Both have gone with the partition.
        }
        finally
        {
            _gsi = -1;
            _event.Dispose();
        }
    }
}
