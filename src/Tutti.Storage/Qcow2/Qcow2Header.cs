using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using Tutti.Host;
using Tutti.Storage.Files;

namespace Tutti.Storage.Qcow2;

/// <summary>
/// A qcow2 image's header and header extensions, versions 2 and 3 (QEMU's docs/interop/qcow2, "Header"). The bytes may be anybody's: what is
/// here has been checked, so tables are aligned, of bounded length, and end before 2^63.
/// </summary>
internal sealed record Qcow2Header
{
    internal const int Version2Length = 72;
    internal const int Version3Length = 104;

    /// <summary>QEMU's own limits: an image beyond them is not one that it would open.</summary>
    internal const long MaxL1Bytes = 32 << 20;
    internal const long MaxRefcountTableBytes = 8 << 20;
    internal const int MaxSnapshots = 65536;
    internal const int MaxBackingName = 1023;
    private const int MinClusterBits = 9;
    private const int MaxClusterBits = 21;
    private const int MinExtendedL2ClusterBits = 14;
    private const int MaxRefcountOrder = 6;
    private const int SectorSize = 512;

    public required int Version { get; init; }

    /// <summary>Bytes of the header's fixed part.</summary>
    public required int Length { get; init; }

    public required int ClusterBits { get; init; }

    public int ClusterSize => 1 << ClusterBits;

    /// <summary>Bytes that a guest sees, a multiple of 512: whole sectors count, as in QEMU.</summary>
    public required long Size { get; init; }

    public required long L1Offset { get; init; }

    /// <summary>Entries of the L1 table; enough for <see cref="Size"/>.</summary>
    public required int L1Entries { get; init; }

    public required long RefcountTableOffset { get; init; }

    public required int RefcountTableClusters { get; init; }

    /// <summary>Bits of a reference count: 1, 2, 4 ... 64.</summary>
    public required int RefcountBits { get; init; }

    public required int SnapshotCount { get; init; }

    public required long SnapshotsOffset { get; init; }

    public required Qcow2Incompatible Incompatible { get; init; }

    public required Qcow2Compatible Compatible { get; init; }

    public required ulong Autoclear { get; init; }

    public required Qcow2Compression Compression { get; init; }

    /// <summary>The backing file's name as the image has it; null for none.</summary>
    public string? BackingFile { get; init; }

    /// <summary>The backing file's format as the image has it; null where it says none.</summary>
    public string? BackingFormat { get; init; }

    /// <summary>Reads and checks a header.</summary>
    /// <exception cref="DiskException">It is none, damaged, or wants what is not built.</exception>
    /// <exception cref="HostException">The storage fails.</exception>
    public static Qcow2Header Read(BlockFile file)
    {
        Span<byte> first = stackalloc byte[Version3Length + 8];
        long fileLength = file.Length;
        file.Read(first, 0);
        if (fileLength < Version2Length || !ImageFormat.IsOtherThanRaw(first))
        {
            throw new DiskException($"disk '{file.Path}' is no qcow2 image; say format=raw if its bytes are the disk");
        }

        uint version = Get32(first, 4);
        if (version is not 2 and not 3)
        {
            throw new DiskException($"disk '{file.Path}' is a qcow2 image of version {Text(version)}, which is not supported; convert it with 'qemu-img convert -O qcow2'");
        }

        uint clusterBits = Get32(first, 20);
        if (clusterBits is < MinClusterBits or > MaxClusterBits)
        {
            throw Damaged(file.Path, $"clusters of 2^{Text(clusterBits)} bytes");
        }

        // All that the header says is in the first cluster, at most 2 MiB; bytes behind the file's end read as zeroes.
        byte[] cluster = new byte[(int)Math.Min(1L << (int)clusterBits, Math.Max(fileLength, first.Length))];
        file.Read(cluster, 0);
        return Parse(file.Path, cluster, (int)version, (int)clusterBits);
    }

    private static Qcow2Header Parse(string path, byte[] cluster, int version, int clusterBits)
    {
        int length = version == 2 ? Version2Length : (int)Math.Min(Get32(cluster, 100), int.MaxValue);
        if (version == 3 && (length < Version3Length || length > cluster.Length || length % 8 != 0))
        {
            throw Damaged(path, $"a header of {Text((uint)length)} bytes");
        }

        Qcow2Incompatible incompatible = version == 2 ? Qcow2Incompatible.None : (Qcow2Incompatible)Get64(cluster, 72);
        ulong backingOffset = Get64(cluster, 8);
        uint backingLength = Get32(cluster, 16);
        if (backingOffset != 0 && (backingOffset > (ulong)cluster.Length || backingLength > MaxBackingName || backingLength > (ulong)cluster.Length - backingOffset))
        {
            throw Damaged(path, "a backing file's name outside the header");
        }

        // A name ends at its first NUL for the kernel, and not for us: what was looked at must be what is opened.
        if (backingOffset != 0 && cluster.AsSpan((int)backingOffset, (int)backingLength).Contains((byte)0))
        {
            throw Damaged(path, "a backing file's name with a NUL in it");
        }

        int extensionsEnd = backingOffset != 0 ? (int)backingOffset : cluster.Length;
        Qcow2Extensions extensions = Qcow2Extensions.Parse(path, cluster, Math.Min(length, extensionsEnd), extensionsEnd);
        Refuse(path, cluster, incompatible, extensions);
        uint refcountOrder = version == 2 ? 4 : Get32(cluster, 96);
        if (refcountOrder > MaxRefcountOrder)
        {
            throw Damaged(path, $"reference counts of 2^{Text(refcountOrder)} bits");
        }

        Qcow2Header header = new()
        {
            Version = version,
            Length = length,
            ClusterBits = clusterBits,
            Size = (long)Math.Min(Get64(cluster, 24), long.MaxValue) & -SectorSize,
            L1Offset = Table(path, "L1 table", cluster, 40, Get32(cluster, 36) * 8L, MaxL1Bytes, clusterBits),
            L1Entries = (int)Get32(cluster, 36),
            RefcountTableOffset = Table(path, "refcount table", cluster, 48, (long)Get32(cluster, 56) << clusterBits, MaxRefcountTableBytes, clusterBits),
            RefcountTableClusters = (int)Get32(cluster, 56),
            RefcountBits = 1 << (int)refcountOrder,
            SnapshotCount = (int)Math.Min(Get32(cluster, 60), int.MaxValue),
            SnapshotsOffset = Table(path, "snapshot table", cluster, 64, Get32(cluster, 60), MaxSnapshots, clusterBits),
            Incompatible = incompatible,
            Compatible = version == 2 ? Qcow2Compatible.None : (Qcow2Compatible)Get64(cluster, 80),
            Autoclear = version == 2 ? 0 : Get64(cluster, 88),
            Compression = CompressionOf(path, cluster, length, incompatible),
            BackingFile = backingOffset == 0 || backingLength == 0 ? null : Encoding.UTF8.GetString(cluster, (int)backingOffset, (int)backingLength),
            BackingFormat = extensions.BackingFormat,
        };
        header.CheckSize(path, Get64(cluster, 24));
        return header;
    }

    /// <summary>What the image needs and Tutti does not do.</summary>
    private static void Refuse(string path, byte[] cluster, Qcow2Incompatible incompatible, Qcow2Extensions extensions)
    {
        ulong unknown = (ulong)(incompatible & ~Qcow2Incompatible.Known);
        if (unknown != 0)
        {
            int bit = System.Numerics.BitOperations.TrailingZeroCount(unknown);
            string name = extensions.FindIncompatible(bit) is string known ? $"'{known}'" : $"bit {bit.ToString(CultureInfo.InvariantCulture)}";
            throw new DiskException($"disk '{path}' needs the qcow2 feature {name}, which is not supported; convert it with 'qemu-img convert -O qcow2'");
        }

        if (incompatible.HasFlag(Qcow2Incompatible.ExternalDataFile))
        {
            throw new DiskException($"disk '{path}' keeps its data in another file, which is not supported; convert it with 'qemu-img convert -O qcow2'");
        }

        if (Get32(cluster, 32) != 0)
        {
            throw new DiskException($"disk '{path}' is encrypted, which is not supported; convert it with 'qemu-img convert -O qcow2'");
        }
    }

    private static Qcow2Compression CompressionOf(string path, byte[] cluster, int length, Qcow2Incompatible incompatible)
    {
        byte type = length > Version3Length ? cluster[Version3Length] : (byte)0;
        if (type > (byte)Qcow2Compression.Zstd)
        {
            throw new DiskException($"disk '{path}' is compressed by method {Text(type)}, which is not supported; convert it with 'qemu-img convert -O qcow2'");
        }

        return incompatible.HasFlag(Qcow2Incompatible.CompressionType) == (type != 0)
            ? (Qcow2Compression)type
            : throw Damaged(path, "a compression type that its feature bit denies");
    }

    /// <summary>The offset of a table, which is aligned, not too long, and ends before 2^63.</summary>
    private static long Table(string path, string name, byte[] cluster, int field, long length, long maxLength, int clusterBits)
    {
        ulong offset = Get64(cluster, field);
        if (length > maxLength)
        {
            throw Damaged(path, $"a {name} that is too long");
        }

        return offset <= (ulong)(long.MaxValue - length) && (offset & ((1UL << clusterBits) - 1)) == 0
            ? (long)offset
            : throw Damaged(path, $"a {name} at an impossible place");
    }

    private void CheckSize(string path, ulong size)
    {
        bool isExtended = Incompatible.HasFlag(Qcow2Incompatible.ExtendedL2);
        if (isExtended && ClusterBits < MinExtendedL2ClusterBits)
        {
            throw Damaged(path, "subclusters in clusters below 16 KiB");
        }

        // An L2 table is a cluster of 8-byte entries, or of 16-byte ones.
        int bitsOfL1Entry = ClusterBits + ClusterBits - (isExtended ? 4 : 3);
        if (size > long.MaxValue || (size >> bitsOfL1Entry) + ((size & ((1UL << bitsOfL1Entry) - 1)) != 0 ? 1UL : 0) > (ulong)L1Entries)
        {
            throw Damaged(path, "an L1 table that is too short for its size");
        }
    }

    internal static DiskException Damaged(string path, string what) =>
        new($"disk '{path}' is damaged: its qcow2 header has {what}; restore it from a copy");

    private static uint Get32(ReadOnlySpan<byte> bytes, int offset) => BinaryPrimitives.ReadUInt32BigEndian(bytes[offset..]);

    private static ulong Get64(ReadOnlySpan<byte> bytes, int offset) => BinaryPrimitives.ReadUInt64BigEndian(bytes[offset..]);

    private static string Text(uint value) => value.ToString(CultureInfo.InvariantCulture);
}
