using System.Buffers.Binary;
using static Tutti.Virtio.Network.VirtioNetLayout;

namespace Tutti.Virtio.Network;

/// <summary>The control queue: the driver says what it wants to receive. Source: Virtual I/O Device 1.2, 5.1.6.5.</summary>
public sealed partial class VirtioNet
{
    private const int MaxCommandsInARow = 64;

    // The worker is to go on with the queue.
    private bool _mustControl;

    private void Control()
    {
        bool signal;
        lock (Lock)
        {
            Virtqueue queue = Queue(ControlQueue);
            if (!_isActive || !queue.IsReady || (_features & FeatureCtrlVq) == 0)
            {
                return;
            }

            queue.DisableNotify();
            int commands = 0;
            while (commands < MaxCommandsInARow && TryPopOrEnable(queue))
            {
                byte ack = Execute() ? ControlOk : ControlErr;
                queue.Push(_chain, (uint)_chain.Write(0, [ack]));
                commands++;
            }

            signal = queue.Publish();
            _mustControl = commands == MaxCommandsInARow;
            if (_mustControl)
            {
                _wake.Ring();
            }
        }

        if (signal)
        {
            SignalQueue(ControlQueue);
        }
    }

    // Pops a chain into the scratch chain; false when there is none, and then the driver tells of the next.
    private bool TryPopOrEnable(Virtqueue queue)
    {
        while (!queue.TryPop(_chain))
        {
            if (!queue.EnableNotify() || !queue.IsReady)
            {
                return false;
            }

            queue.DisableNotify();
        }

        return true;
    }

    private bool Execute()
    {
        if (_chain.ReadableLength is < ControlHeaderSize || _chain.ReadableLength > _scratch.Length)
        {
            return false;
        }

        ReadOnlySpan<byte> command = _scratch.AsSpan(0, _chain.Read(0, _scratch.AsSpan(0, (int)_chain.ReadableLength)));
        ReadOnlySpan<byte> data = command[ControlHeaderSize..];
        switch ((command[0], command[1]))
        {
            case (ClassRx, byte mode) when (_features & FeatureCtrlRx) != 0:
                return _filter.TrySetMode(mode, data, (_features & FeatureCtrlRxExtra) != 0);
            case (ClassMac, MacTableSet) when (_features & FeatureCtrlRx) != 0:
                return _filter.TrySetTables(data);
            case (ClassMac, MacAddrSet) when (_features & FeatureCtrlMacAddr) != 0:
                return _filter.TrySetMac(data);
            case (ClassAnnounce, AnnounceAck) when (_features & FeatureGuestAnnounce) != 0:
                _mustAnnounce = false;
                return true;
            case (ClassGuestOffloads, GuestOffloadsSet) when (_features & FeatureCtrlGuestOffloads) != 0:
                return TrySetGuestOffloads(data);
            default:
                return false;
        }
    }

    private bool TrySetGuestOffloads(ReadOnlySpan<byte> data)
    {
        if (data.Length != sizeof(ulong))
        {
            return false;
        }

        ulong offloads = BinaryPrimitives.ReadUInt64LittleEndian(data);
        if ((offloads & ~(_features & GuestOffloads)) != 0)
        {
            return false;
        }

        _guestOffloads = offloads;
        SetAccepts();
        return true;
    }
}
