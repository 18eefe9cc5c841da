using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using Tutti.Storage.Files;

namespace Tutti.Storage.Qcow2;

/// <summary>
/// Makes empty images: version 3, clusters of 64 KiB, counts of 16 bits. Cluster 0 is the header, 1 the refcount table, 2 the first refcount block;
/// the L1 table follows.
/// </summary>
internal static class Qcow2Creation
{
    private const int ClusterBits = 16;
    private const int ClusterSize = 1 << ClusterBits;
    private const int L1Cluster = 3;
    private const uint BackingFileFormat = 0xE2792ACA;

    /// <exception cref="DiskException">The size or the backing file's name is too much for the format.</exception>
    internal static void Create(BlockFile file, ImageCreation creation)
    {
        const int BitsOfL1Entry = ClusterBits + ClusterBits - 3;
        long entries = (creation.Size >> BitsOfL1Entry) + ((creation.Size & ((1L << BitsOfL1Entry) - 1)) != 0 ? 1 : 0);
        if (entries * 8 > Qcow2Header.MaxL1Bytes)
        {
            long most = (Qcow2Header.MaxL1Bytes / 8) << (BitsOfL1Entry - 40);
            throw new DiskException($"a qcow2 image has at most {most.ToString(CultureInfo.InvariantCulture)} TiB");
        }

        int l1Clusters = (int)(((entries * 8) + ClusterSize - 1) / ClusterSize);
        // The header goes last: before, the file is no image.
        byte[] counts = new byte[ClusterSize];
        for (int i = 0; i < L1Cluster + l1Clusters; i++)
        {
            BinaryPrimitives.WriteUInt16BigEndian(counts.AsSpan(i * 2), 1);
        }

        byte[] table = new byte[ClusterSize];
        BinaryPrimitives.WriteInt64BigEndian(table, 2 * ClusterSize);
        file.SetLength((long)(L1Cluster + l1Clusters) * ClusterSize);
        file.Write(counts, 2 * ClusterSize);
        file.Write(table, ClusterSize);
        file.Flush();
        file.Write(Header(creation, (int)entries), 0);
    }

    private static byte[] Header(ImageCreation creation, int l1Entries)
    {
        byte[] header = new byte[ClusterSize];
        Span<byte> bytes = header;
        ((ReadOnlySpan<byte>)[(byte)'Q', (byte)'F', (byte)'I', 0xFB]).CopyTo(bytes);
        Put32(bytes, 4, 3);
        Put32(bytes, 20, ClusterBits);
        BinaryPrimitives.WriteInt64BigEndian(bytes[24..], creation.Size);
        Put32(bytes, 36, (uint)l1Entries);
        BinaryPrimitives.WriteInt64BigEndian(bytes[40..], L1Cluster * ClusterSize);
        BinaryPrimitives.WriteInt64BigEndian(bytes[48..], ClusterSize);
        Put32(bytes, 56, 1);
        Put32(bytes, 96, 4);
        Put32(bytes, 100, Qcow2Header.Version3Length);
        int at = Qcow2Header.Version3Length;
        if (creation.BackingFile != null)
        {
            if (creation.BackingFormat != null)
            {
                byte[] format = Encoding.UTF8.GetBytes(creation.BackingFormat);
                Put32(bytes, at, BackingFileFormat);
                Put32(bytes, at + 4, (uint)format.Length);
                format.CopyTo(bytes[(at + 8)..]);
                at += 8 + ((format.Length + 7) & ~7);
            }

            // Eight zeroes end the extensions.
            at += 8;
            byte[] name = Encoding.UTF8.GetBytes(creation.BackingFile);
            if (name.Length > Qcow2Header.MaxBackingName)
            {
                throw new DiskException($"the backing file's name has more than {Qcow2Header.MaxBackingName} bytes; give a shorter one, for example from the image's folder on");
            }

            name.CopyTo(bytes[at..]);
            BinaryPrimitives.WriteInt64BigEndian(bytes[8..], at);
            Put32(bytes, 16, (uint)name.Length);
        }

        return header;
    }

    private static void Put32(Span<byte> bytes, int offset, uint value) => BinaryPrimitives.WriteUInt32BigEndian(bytes[offset..], value);
}
