using System.Buffers.Binary;
using Tutti.Host;
using Tutti.Storage.Files;
using Tutti.Storage.Qcow2;

namespace Tutti.Storage;

/// <summary>What an image's format is asked for.</summary>
public abstract class ImageFormat
{
    private const int HeaderLength = 512;

    public static ImageFormat Raw { get; } = new RawFormat();

    public static ImageFormat Qcow2 { get; } = new Qcow2Format();

    /// <summary>The names that users give.</summary>
    public static IReadOnlyList<string> Names { get; } = [Raw.Name, Qcow2.Name];

    /// <summary>The format's name, "raw" or "qcow2".</summary>
    public abstract string Name { get; }

    /// <summary>The format of this name, or null.</summary>
    public static ImageFormat? Find(string name) => name == Raw.Name ? Raw : name == Qcow2.Name ? Qcow2 : null;

    /// <summary>Opens an image.</summary>
    /// <param name="file">The file, which the image owns from now on, also when this throws.</param>
    /// <param name="queue">The queue, for this image alone.</param>
    /// <param name="guardsHeader">Whether a guest may not make the file look like another format.</param>
    /// <param name="backing">What it may stand on.</param>
    /// <exception cref="DiskException">It is damaged, of another format, or its backing file is missing or not allowed.</exception>
    /// <exception cref="HostException">The storage fails.</exception>
    internal abstract IDiskImage Open(BlockFile file, IoQueue queue, bool guardsHeader, BackingScope backing);

    /// <summary>Makes an empty file an image.</summary>
    /// <exception cref="DiskException">The size or the backing file is not possible.</exception>
    /// <exception cref="HostException">The storage fails.</exception>
    internal abstract void Create(BlockFile file, ImageCreation creation);

    /// <exception cref="DiskException">The image is damaged, or of another format.</exception>
    /// <exception cref="HostException">The storage fails.</exception>
    internal abstract ImageInfo GetInfo(BlockFile file);

    /// <summary>Bytes that a guest sees.</summary>
    /// <exception cref="DiskException">The image is damaged, or of another format.</exception>
    /// <exception cref="HostException">The storage fails.</exception>
    internal long GetSize(BlockFile file) => GetInfo(file).VirtualSize!.Value;

    /// <summary>Looks for damage, and mends what can be mended where asked.</summary>
    /// <returns>Null for a format that has nothing to check.</returns>
    /// <exception cref="DiskException">The image can't be checked.</exception>
    /// <exception cref="HostException">The storage fails.</exception>
    internal abstract ImageCheck? Check(BlockFile file, bool repair);

    /// <summary>Changes the size that a guest sees; what is behind it is lost.</summary>
    /// <exception cref="DiskException">The size is not possible.</exception>
    /// <exception cref="HostException">The storage fails.</exception>
    internal abstract void Resize(BlockFile file, long size, BackingScope backing);

    /// <summary>
    /// The format of a file of which the user has not said it. The file's bytes may be a guest's: one that has a raw disk could write a qcow2 header
    /// there, which names any file of the host's as its backing file, and read that at the next start. Therefore
    /// <list type="bullet">
    /// <item>a guest of a raw disk whose format was found here can't write such a header (the disk's <c>guardsHeader</c>);</item>
    /// <item>a header found in a file whose name does not end in .qcow2 is not believed when it names other files: the user must say the format;</item>
    /// <item>a block device is raw unless the user says otherwise;</item>
    /// <item>a file of a format that is known but not supported is refused by that name (<see cref="ForeignFormat"/>). A guest can write such bytes to its raw
    /// disk, too; then it is not started again until the user says <c>format=raw</c>.</item>
    /// </list>
    /// A name in .qcow2 is the user's word for the format; a file of that name without the header is refused.
    /// </summary>
    /// <exception cref="DiskException">The user must say the format.</exception>
    /// <exception cref="HostException">The storage fails.</exception>
    internal static ImageFormat Probe(BlockFile file)
    {
        if (file.IsBlockDevice)
        {
            return Raw;
        }

        Span<byte> header = stackalloc byte[HeaderLength];
        file.Read(header, 0);
        bool isNamed = file.Path.EndsWith(".qcow2", StringComparison.OrdinalIgnoreCase);
        if (!IsOtherThanRaw(header))
        {
            if (ForeignFormat.Find(file) is { } foreign)
            {
                throw foreign.Refuse(file.Path);
            }

            return isNamed
                ? throw new DiskException($"disk '{file.Path}' is no qcow2 image, though its name says so; if its bytes are the disk, say format=raw")
                : Raw;
        }

        if (!isNamed && NamesOtherFiles(header))
        {
            throw new DiskException($"disk '{file.Path}' may be a qcow2 image that reads another file, or a guest's forgery of one; say format=qcow2 if you trust it, else format=raw");
        }

        return Qcow2;
    }

    /// <summary>Whether a file that begins like this is taken for another format than raw.</summary>
    internal static bool IsOtherThanRaw(ReadOnlySpan<byte> header) => header.StartsWith((ReadOnlySpan<byte>)[(byte)'Q', (byte)'F', (byte)'I', 0xFB]);

    /// <summary>Whether a qcow2 header has a backing file or an external data file.</summary>
    private static bool NamesOtherFiles(ReadOnlySpan<byte> header)
    {
        const int Version = 4;
        const int BackingFileOffset = 8;
        const int IncompatibleFeatures = 72;
        const ulong ExternalDataFile = 1 << 2;
        return BinaryPrimitives.ReadUInt64BigEndian(header[BackingFileOffset..]) != 0
            || (BinaryPrimitives.ReadUInt32BigEndian(header[Version..]) >= 3
                && (BinaryPrimitives.ReadUInt64BigEndian(header[IncompatibleFeatures..]) & ExternalDataFile) != 0);
    }
}
