using Tutti.Devices.Network;
using static Tutti.Virtio.Network.VirtioNetLayout;

namespace Tutti.Virtio.Network;

/// <summary>The way of the guest's frames to the network.</summary>
public sealed partial class VirtioNet
{
    // After as many frames the worker does its other work first: what came in for the guest, among it.
    private const int MaxFramesInARow = 256;

    // Frames after which the guest gets their buffers back.
    private const int FramesPerPublish = 32;

    // The worker is to go on with the queue.
    private bool _mustTransmit;

    private void Transmit()
    {
        int frames = 0;
        while (TryTakeFrame(frames, out int length, out ulong features, out bool signal))
        {
            if (signal)
            {
                SignalQueue(TransmitQueue);
            }

            frames++;
            Send(length, features);
        }

        bool signalLast;
        lock (Lock)
        {
            signalLast = _isActive && frames != 0 && Queue(TransmitQueue).Publish();
        }

        if (frames != 0)
        {
            _backend.EndSend();
        }

        if (signalLast)
        {
            SignalQueue(TransmitQueue);
        }
    }

    // Copies a frame with its header to the scratch buffer and gives the guest its buffers back; length is -1 for one that is too long.
    private bool TryTakeFrame(int frames, out int length, out ulong features, out bool signal)
    {
        length = 0;
        signal = false;
        lock (Lock)
        {
            features = _features;
            Virtqueue queue = Queue(TransmitQueue);
            if (!_isActive || !queue.IsReady)
            {
                return false;
            }

            if (frames == MaxFramesInARow)
            {
                _mustTransmit = true;
                _wake.Ring();
                return false;
            }

            if (frames == 0)
            {
                queue.DisableNotify();
            }

            if (!TryPopOrEnable(queue))
            {
                return false;
            }

            length = _chain.ReadableLength <= _scratch.Length ? _chain.Read(0, _scratch.AsSpan(0, (int)_chain.ReadableLength)) : -1;
            queue.Push(_chain, 0);
            signal = (frames + 1) % FramesPerPublish == 0 && queue.Publish();
            return true;
        }
    }

    private void Send(int length, ulong features)
    {
        if (length >= HeaderSize)
        {
            ReadOnlySpan<byte> frame = _scratch.AsSpan(HeaderSize, length - HeaderSize);
            if (VirtioNetHeader.TryRead(_scratch.AsSpan(0, HeaderSize), frame, features, _backend.Mtu, out PacketOffload offload))
            {
                _sent++;
                _sentBytes += frame.Length;
                _backend.Send(frame, offload);
                return;
            }
        }

        _sendDropped++;
    }
}
