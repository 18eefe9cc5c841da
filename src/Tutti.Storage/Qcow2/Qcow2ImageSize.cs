using System.Buffers.Binary;
using Tutti.Host;
using Tutti.Storage.Files;

namespace Tutti.Storage.Qcow2;

/// <summary>Changes of the size that a guest sees.</summary>
internal sealed partial class Qcow2Image
{
    /// <summary>Changes the size, and brings it into the file. What a shorter backing size has hidden stays hidden: new bytes are zero.</summary>
    /// <exception cref="DiskException">The image can't have this size.</exception>
    internal void Resize(long size)
    {
        if (_header.SnapshotCount != 0)
        {
            throw new DiskException($"disk '{_file.Path}' has snapshots, and keeps its size while it has; delete them with 'qemu-img snapshot -d', or use 'qemu-img resize'");
        }

        if (_header.Version < 3 && _backing != null)
        {
            throw new DiskException($"disk '{_file.Path}' is a version 2 image with a backing file, which can't say that new bytes are zero; use 'qemu-img amend -o compat=1.1' first");
        }

        IoOperation scratch = new() { Owner = NoCompletion.Instance };
        long old = Size;
        if (size < old)
        {
            ZeroHere(size, old - size, mayUnmap: true, scratch);
        }
        else
        {
            GrowL1(size);
            _header = _header with { Size = size };
            if (_backing != null && _backing.Size > old)
            {
                ZeroHere(old, Math.Min(size, _backing.Size) - old, mayUnmap: true, scratch);
            }
        }

        FlushHere();
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteInt64BigEndian(bytes, size);
        _file.Write(bytes, 24);
        _header = _header with { Size = size };
        FlushHere();
    }

    private void GrowL1(long size)
    {
        int bits = _clusterBits + _l2Bits;
        long entries = (size >> bits) + ((size & ((1L << bits) - 1)) != 0 ? 1 : 0);
        if (entries <= _l1.Length)
        {
            return;
        }

        if (entries * 8 > Qcow2Header.MaxL1Bytes)
        {
            throw new DiskException($"disk '{_file.Path}' can't grow so far: its clusters are too small");
        }

        FlushHere();
        long oldOffset = _header.L1Offset;
        long oldClusters = ((_l1.Length * 8L) + _clusterSize - 1) >> _clusterBits;
        int clusters = (int)(((entries * 8) + _clusterSize - 1) >> _clusterBits);
        long place = _refcounts.Allocate(clusters, isWhole: true).First << _clusterBits;
        byte[] bytes = new byte[(long)clusters << _clusterBits];
        for (int i = 0; i < _l1.Length; i++)
        {
            BinaryPrimitives.WriteUInt64BigEndian(bytes.AsSpan(i * 8), _l1[i]);
        }

        _file.Write(bytes, place);
        FlushHere();
        Span<byte> header = stackalloc byte[12];
        BinaryPrimitives.WriteInt32BigEndian(header, (int)entries);
        BinaryPrimitives.WriteInt64BigEndian(header[4..], place);
        _file.Write(header, 36);
        Array.Resize(ref _l1, (int)entries);
        _header = _header with { L1Offset = place, L1Entries = (int)entries };
        for (long i = 0; i < oldClusters; i++)
        {
            _pendingFrees.Add((oldOffset >> _clusterBits) + i);
        }
    }
}
