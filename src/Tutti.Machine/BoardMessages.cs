using Tutti.Cpu;
using Tutti.Devices.Pci;

namespace Tutti.Machine;

/// <summary>
/// A board's message-signalled interrupts: the engine's own where it has them (kvm: an eventfd, no lock), else by its controllers under the
/// chipset lock.
/// </summary>
internal sealed class BoardMessages(IInterruptControllers controllers, Lock chipset) : IMessageInterrupts
{
    private IInterruptControllers? _controllers = controllers;

    private Lock ChipsetLock => chipset;

    public IMessageInterrupt Create() =>
        _controllers?.CreateMessage() is IInterruptMessage message ? new EngineMessage(message) : new ControllerMessage(this);

    /// <summary>Nothing is sent to the controllers any more. Call under the chipset lock.</summary>
    internal void Disconnect() => _controllers = null;

    private sealed class EngineMessage(IInterruptMessage message) : IMessageInterrupt
    {
        public void SetMessage(ulong address, uint data) => message.Set(address, data);

        public void Signal() => message.Signal();

        public void Dispose() => message.Dispose();
    }

    private sealed class ControllerMessage(BoardMessages board) : IMessageInterrupt
    {
        private (ulong Address, uint Data)? _message;

        public void SetMessage(ulong address, uint data) => _message = (address, data);

        public void Signal()
        {
            lock (board.ChipsetLock)
            {
                if (_message is (ulong Address, uint Data) message)
                {
                    board._controllers?.SignalMsi(message.Address, message.Data);
                }
            }
        }

        public void Dispose() => _message = null;
    }
}
