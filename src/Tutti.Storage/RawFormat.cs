using Tutti.Host;
using Tutti.Storage.Files;
using Tutti.Storage.Qcow2;

namespace Tutti.Storage;

/// <summary>The disk's bytes, and nothing else.</summary>
internal sealed class RawFormat : ImageFormat
{
    public override string Name => "raw";

    internal override IDiskImage Open(BlockFile file, IoQueue queue, bool guardsHeader, BackingScope backing)
    {
        try
        {
            return new RawDisk(file, queue, guardsHeader);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    internal override void Create(BlockFile file, ImageCreation creation)
    {
        if (creation.BackingFile != null)
        {
            throw new DiskException("a raw image has no backing file; say --format qcow2");
        }

        file.SetLength(creation.Size);
    }

    internal override ImageInfo GetInfo(BlockFile file) => new()
    {
        Format = Name,
        VirtualSize = RawDisk.RoundUp(file.Length),
        ActualSize = file.Allocated,
    };

    internal override ImageCheck? Check(BlockFile file, bool repair) => null;

    internal override void Resize(BlockFile file, long size, BackingScope backing)
    {
        if (file.IsBlockDevice)
        {
            throw new DiskException($"disk '{file.Path}' is a block device, whose size is the host's affair; resize it there");
        }

        file.SetLength(size);
        file.Flush();
    }
}
