using Tutti.Storage.Files;
using Tutti.Storage.Qcow2;

namespace Tutti.Storage;

/// <summary>QEMU's image format. Images can be looked at; reading and writing them is not built.</summary>
internal sealed class Qcow2Format : ImageFormat
{
    public override string Name => "qcow2";

    internal override IDiskImage Open(BlockFile file, IoQueue queue, bool guardsHeader)
    {
        file.Dispose();
        throw NotBuilt();
    }

    internal override void Create(BlockFile file, ImageCreation creation) => throw NotBuilt();

    internal override ImageInfo GetInfo(BlockFile file)
    {
        Qcow2Header header = Qcow2Header.Read(file);
        return new ImageInfo
        {
            Format = Name,
            VirtualSize = header.Size,
            ActualSize = file.Allocated,
            ClusterSize = header.ClusterSize,
            IsDirty = header.Incompatible.HasFlag(Qcow2Incompatible.Dirty),
            BackingFile = header.BackingFile,
            FullBackingFile = header.BackingFile == null ? null : Resolve(file.Path, header.BackingFile),
            BackingFormat = header.BackingFormat,
            Qcow2 = new Qcow2Details(
                header.Version == 2 ? "0.10" : "1.1",
                header.Compression == Qcow2Compression.Zstd ? "zstd" : "zlib",
                header.Compatible.HasFlag(Qcow2Compatible.LazyRefcounts),
                header.RefcountBits,
                header.Incompatible.HasFlag(Qcow2Incompatible.Corrupt),
                header.Incompatible.HasFlag(Qcow2Incompatible.ExtendedL2)),
        };
    }

    internal override ImageCheck? Check(BlockFile file, bool repair) => throw NotBuilt();

    internal override void Resize(BlockFile file, long size) => throw NotBuilt();

    /// <summary>A relative name counts from the image's folder; one with a protocol ("nbd:...", "json:...") is no path, and stays.</summary>
    private static string Resolve(string image, string backing)
    {
        int colon = backing.IndexOf(':', StringComparison.Ordinal);
        int slash = backing.IndexOf('/', StringComparison.Ordinal);
        bool isRelativePath = slash != 0 && (colon < 0 || (slash >= 0 && slash < colon));
        return isRelativePath ? image[..(image.LastIndexOf('/') + 1)] + backing : backing;
    }

    private static DiskException NotBuilt() => new("qcow2 images are not built yet; use a raw image");
}
