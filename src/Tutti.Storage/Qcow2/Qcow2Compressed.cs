using System.IO.Compression;
using Tutti.Host;
using Tutti.Memory;
using Tutti.Storage.Files;

namespace Tutti.Storage.Qcow2;

/// <summary>Reads compressed clusters; the last one is kept, since a guest mostly reads on.</summary>
internal sealed class Qcow2Compressed(BlockFile file, Qcow2Header header)
{
    private const int SectorSize = 512;
    private readonly Lock _lock = new();
    private byte[] _packed = [];
    private byte[] _plain = [];
    private ulong _last;

    /// <summary>Where a compressed cluster's bytes are; they may end before.</summary>
    internal (long Place, int Length) Locate(ulong entry)
    {
        int bits = 62 - (header.ClusterBits - 8);
        long place = (long)(entry & ((1UL << bits) - 1));
        int sectors = (int)((entry >> bits) & ((1UL << (header.ClusterBits - 8)) - 1)) + 1;
        return (place, (sectors * SectorSize) - (int)(place & (SectorSize - 1)));
    }

    internal void Read(ulong entry, int start, ReadOnlySpan<MemorySegment> segments, long skip, int length)
    {
        lock (_lock)
        {
            if (_plain.Length == 0 || _last != entry)
            {
                Unpack(entry);
            }

            Segments.Copy(_plain.AsSpan(start, length), segments, skip);
        }
    }

    private void Unpack(ulong entry)
    {
        (long place, int length) = Locate(entry);
        if (_packed.Length < length)
        {
            _packed = new byte[length];
        }

        byte[] plain = _plain.Length == 0 ? new byte[header.ClusterSize] : _plain;
        _plain = [];
        file.Read(_packed.AsSpan(0, length), place);
        try
        {
            using MemoryStream packed = new(_packed, 0, length);
            using Stream unpacking = header.Compression == Qcow2Compression.Zstd
                ? new ZstdSharp.DecompressionStream(packed)
                : new DeflateStream(packed, CompressionMode.Decompress);
            unpacking.ReadExactly(plain);
        }
        catch (Exception e) when (e is IOException or InvalidDataException or ZstdSharp.ZstdException)
        {
            file.Notices.Report(file.Path, "a compressed cluster is damaged; the guest sees an error");
            throw new HostException("qcow2 decompression", Errno.EIO);
        }

        _plain = plain;
        _last = entry;
    }
}
