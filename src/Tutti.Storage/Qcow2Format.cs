using Tutti.Storage.Files;

namespace Tutti.Storage;

/// <summary>QEMU's image format.</summary>
internal sealed class Qcow2Format : ImageFormat
{
    public override string Name => "qcow2";

    internal override IDiskImage Open(BlockFile file, IoQueue queue, bool guardsHeader)
    {
        file.Dispose();
        throw NotBuilt();
    }

    internal override void Create(BlockFile file, ImageCreation creation) => throw NotBuilt();

    internal override ImageInfo GetInfo(BlockFile file) => throw NotBuilt();

    internal override ImageCheck? Check(BlockFile file, bool repair) => throw NotBuilt();

    internal override void Resize(BlockFile file, long size) => throw NotBuilt();

    private static DiskException NotBuilt() => new("qcow2 images are not built yet; use a raw image");
}
