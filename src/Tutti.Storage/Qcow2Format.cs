using Tutti.Storage.Files;
using Tutti.Storage.Qcow2;

namespace Tutti.Storage;

/// <summary>QEMU's image format.</summary>
internal sealed class Qcow2Format : ImageFormat
{
    public override string Name => "qcow2";

    internal override IDiskImage Open(BlockFile file, IoQueue queue, bool guardsHeader, BackingScope backing)
    {
        Qcow2Image image = Qcow2Image.Open(file, backing);
        try
        {
            image.RefuseCut();
            image.BeginWriting();
            return new Qcow2Disk(image, queue);
        }
        catch
        {
            image.Dispose();
            throw;
        }
    }

    internal override void Create(BlockFile file, ImageCreation creation) => Qcow2Creation.Create(file, creation);

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
            FullBackingFile = header.BackingFile == null ? null : Qcow2Backing.Resolve(file.Path, header.BackingFile),
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

    internal override ImageCheck? Check(BlockFile file, bool repair)
    {
        Qcow2Image image = Qcow2Image.Open(file, opensBacking: false);
        return repair ? image.Mend() : image.Check();
    }

    internal override void Resize(BlockFile file, long size, BackingScope backing)
    {
        using Qcow2Image image = Qcow2Image.Open(file, backing);
        image.RefuseCut();
        image.BeginWriting();
        if (image.IsReadOnly)
        {
            throw new DiskException($"disk '{file.Path}' is marked as damaged and can't be written; mend it with 'tutti disk check --repair'");
        }

        image.Resize(size);
    }
}
