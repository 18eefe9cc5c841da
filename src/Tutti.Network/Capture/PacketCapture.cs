using System.Buffers.Binary;
using Tutti.Host;

namespace Tutti.Network.Capture;

/// <summary>
/// Writes frames to a file as tcpdump and Wireshark read them (pcap 2.4, microseconds). The network's loop copies them into a buffer; a thread of its
/// own writes that. What comes faster than the file takes is left out and counted.
/// </summary>
public sealed class PacketCapture : IDisposable
{
    private const uint Magic = 0xA1B2C3D4;
    private const uint LinkTypeEthernet = 1;
    private const int RecordHeader = 16;
    private const int BufferSize = 4 << 20;

    private readonly FileStream _file;
    private readonly int _snapLength;
    private readonly Lock _lock = new();
    private readonly SemaphoreSlim _hasData = new(0, 1);
    private readonly Thread _writer;
    private byte[] _filling = new byte[BufferSize];
    private byte[] _writing = new byte[BufferSize];
    private int _filled;
    private bool _isEnding;

    /// <summary>Begins a file, in place of one that is there.</summary>
    /// <param name="path">The file.</param>
    /// <param name="snapLength">The most bytes kept of a frame, 64 to 262144.</param>
    /// <exception cref="NetworkException">The file can't be made.</exception>
    public PacketCapture(string path, int snapLength = 262144)
    {
        _snapLength = Math.Clamp(snapLength, 64, 262144);
        try
        {
            _file = OwnerOnly.Write(path, FileMode.Create, bufferSize: 1);
            Span<byte> header = stackalloc byte[24];
            BinaryPrimitives.WriteUInt32LittleEndian(header, Magic);
            BinaryPrimitives.WriteUInt16LittleEndian(header[4..], 2);
            BinaryPrimitives.WriteUInt16LittleEndian(header[6..], 4);
            header[8..16].Clear();
            BinaryPrimitives.WriteInt32LittleEndian(header[16..], _snapLength);
            BinaryPrimitives.WriteUInt32LittleEndian(header[20..], LinkTypeEthernet);
            _file.Write(header);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new NetworkException($"Can't write packets to {path}: {e.Message} Name a file that you may write, one for each network.");
        }

        _writer = new Thread(WriteOut) { IsBackground = true, Name = "pcap" };
        _writer.Start();
    }

    /// <summary>Frames left out, because the file was too slow or full.</summary>
    public long Dropped { get; private set; }

    /// <summary>Notes a frame; on one thread.</summary>
    public void Write(ReadOnlySpan<byte> frame)
    {
        int kept = Math.Min(frame.Length, _snapLength);
        long microseconds = (DateTime.UtcNow - DateTime.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond;
        lock (_lock)
        {
            if (_filled + RecordHeader + kept > _filling.Length || _isEnding)
            {
                Dropped++;
                return;
            }

            Span<byte> record = _filling.AsSpan(_filled, RecordHeader + kept);
            BinaryPrimitives.WriteUInt32LittleEndian(record, (uint)(microseconds / 1_000_000));
            BinaryPrimitives.WriteUInt32LittleEndian(record[4..], (uint)(microseconds % 1_000_000));
            BinaryPrimitives.WriteInt32LittleEndian(record[8..], kept);
            BinaryPrimitives.WriteInt32LittleEndian(record[12..], frame.Length);
            frame[..kept].CopyTo(record[RecordHeader..]);
            bool wasEmpty = _filled == 0;
            _filled += record.Length;
            if (wasEmpty && _hasData.CurrentCount == 0)
            {
                _hasData.Release();
            }
        }
    }

    /// <summary>Writes the rest and closes the file.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            if (_isEnding)
            {
                return;
            }

            _isEnding = true;
            if (_hasData.CurrentCount == 0)
            {
                _hasData.Release();
            }
        }

        _writer.Join();
        _file.Dispose();
        _hasData.Dispose();
    }

    private void WriteOut()
    {
        bool isEnding = false;
        while (!isEnding)
        {
            _hasData.Wait();
            int count;
            lock (_lock)
            {
                (_filling, _writing) = (_writing, _filling);
                count = _filled;
                _filled = 0;
                isEnding = _isEnding;
            }

            try
            {
                _file.Write(_writing.AsSpan(0, count));
            }
            catch (IOException)
            {
                // A full disk ends the capture, not the guest's network.
                lock (_lock)
                {
                    _isEnding = true;
                    Dropped++;
                }

                return;
            }
        }
    }
}
