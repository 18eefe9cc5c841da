using System.Buffers.Binary;
using System.Text;

namespace Tutti.Storage.Qcow2;

/// <summary>The header extensions that are of use here (qcow2 specification, "Header extensions"); others are passed over.</summary>
internal sealed class Qcow2Extensions
{
    private const uint EndOfExtensions = 0;
    private const uint BackingFileFormat = 0xE2792ACA;
    private const uint FeatureNameTable = 0x6803F857;
    private const int FeatureNameLength = 48;
    private const int MaxFormatName = 15;
    private byte[] _features = [];

    private Qcow2Extensions()
    {
    }

    public string? BackingFormat { get; private set; }

    /// <summary>Reads the extensions between two offsets of the first cluster; bytes behind <paramref name="end"/> are not looked at.</summary>
    /// <exception cref="DiskException">One is longer than its room.</exception>
    public static Qcow2Extensions Parse(string path, byte[] cluster, int start, int end)
    {
        Qcow2Extensions made = new();
        for (long at = start; at + 8 <= end;)
        {
            uint type = BinaryPrimitives.ReadUInt32BigEndian(cluster.AsSpan((int)at));
            uint length = BinaryPrimitives.ReadUInt32BigEndian(cluster.AsSpan((int)at + 4));
            if (type == EndOfExtensions)
            {
                break;
            }

            if (length > end - at - 8)
            {
                throw Qcow2Header.Damaged(path, "an extension that is longer than its room");
            }

            ReadOnlySpan<byte> data = cluster.AsSpan((int)at + 8, (int)length);
            switch (type)
            {
                case BackingFileFormat when length > MaxFormatName:
                    throw Qcow2Header.Damaged(path, "a backing format's name that is too long");
                case BackingFileFormat:
                    made.BackingFormat = Encoding.UTF8.GetString(data);
                    break;
                case FeatureNameTable:
                    made._features = data.ToArray();
                    break;
            }

            at += 8 + (((long)length + 7) & ~7L);
        }

        return made;
    }

    /// <summary>The name that the image gives an incompatible feature, fit for a terminal; null for none.</summary>
    public string? FindIncompatible(int bit)
    {
        for (int at = 0; at + FeatureNameLength <= _features.Length; at += FeatureNameLength)
        {
            if (_features[at] == 0 && _features[at + 1] == bit)
            {
                string name = Encoding.UTF8.GetString(_features, at + 2, FeatureNameLength - 2).TrimEnd('\0');
                return PrintableText.Of(name);
            }
        }

        return null;
    }
}
