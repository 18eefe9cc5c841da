using Tutti.Host;
using Tutti.Storage.Files;
using Tutti.Storage.Qcow2;

namespace Tutti.Storage;

/// <summary>Image files as things to make, look at, check and resize, while no guest uses them.</summary>
public static class ImageFiles
{
    private const int SectorSize = 512;

    /// <summary>Makes an image: under another name at first, so that nothing half-made is ever found under its own.</summary>
    /// <param name="path">The file, which must not be there yet.</param>
    /// <param name="format">Its format.</param>
    /// <param name="size">Bytes, rounded up to a multiple of 512; null for the backing file's size.</param>
    /// <param name="backingFile">A file that it stands on, as it goes into the image: from the image's folder on where it is relative. Null for none.</param>
    /// <param name="backingFormat">That file's format; null to find out.</param>
    /// <returns>The image's size.</returns>
    /// <exception cref="DiskException">It can't be made; nothing is left behind.</exception>
    public static long Create(string path, ImageFormat format, long? size, string? backingFile = null, ImageFormat? backingFormat = null)
    {
        ArgumentNullException.ThrowIfNull(path);
        ArgumentNullException.ThrowIfNull(format);
        string folder = Path.GetDirectoryName(Path.GetFullPath(path)) ?? "/";
        if (!Directory.Exists(folder))
        {
            throw new DiskException($"disk '{path}' cannot be made: its folder does not exist");
        }

        if (Path.Exists(path))
        {
            throw new DiskException($"disk '{path}' exists already; remove it first, or give another name");
        }

        if (backingFile != null)
        {
            using BlockFile backing = BlockFile.Open(Path.Combine(folder, backingFile), isReadOnly: true);
            backingFormat ??= ImageFormat.Probe(backing);
            size ??= backingFormat.GetSize(backing);
        }

        if (size is not > 0)
        {
            throw new DiskException(size == null ? $"disk '{path}' needs a size" : "a disk has at least 512 bytes");
        }

        ImageCreation creation = new() { Size = RoundUp(size.Value), BackingFile = backingFile, BackingFormat = backingFile == null ? null : backingFormat!.Name };
        string temporary = Path.Combine(folder, $".{Path.GetFileName(path)}.{Guid.NewGuid():N}.new");
        Make(path, temporary, format, creation);
        HostFile.FlushFolder(folder);
        return creation.Size;
    }

    /// <summary>What an image says of itself; it may be in use, and its size be about to change then.</summary>
    /// <param name="path">The file.</param>
    /// <param name="format">Its format; null to find out.</param>
    /// <exception cref="DiskException">It is missing, damaged, or not permitted.</exception>
    public static ImageInfo GetInfo(string path, ImageFormat? format = null) =>
        Use(path, isReadOnly: true, ImageLocking.None, file => format == null && FindForeign(file) is { } foreign
            ? new ImageInfo { Format = foreign.Name, Obstacle = $"{foreign.Description}, which is not supported: {foreign.Advice}", VirtualSize = null, ActualSize = file.Allocated }
            : (format ?? ProbeToLook(file)).GetInfo(file));

    /// <summary>Looks an image through, and mends it where asked.</summary>
    /// <returns>Null for a format that has nothing to check.</returns>
    /// <exception cref="DiskException">It is missing, in use, or can't be checked.</exception>
    public static (string Format, ImageCheck? Check) Check(string path, bool repair, ImageFormat? format = null) =>
        Use(path, isReadOnly: !repair, ImageLocking.Lock, file =>
        {
            if (format == null && FindForeign(file) is { } foreign)
            {
                throw foreign.Refuse(path);
            }

            ImageFormat known = format ?? ProbeToLook(file);
            return (known.Name, known.Check(file, repair));
        });

    /// <summary>Changes the size that a guest sees.</summary>
    /// <param name="path">The file.</param>
    /// <param name="change">Gives the new size for the old one, or throws; rounded up to a multiple of 512.</param>
    /// <param name="format">Its format; null to find out.</param>
    /// <param name="backing">What it may stand on; null for files in its folder.</param>
    /// <returns>The new size.</returns>
    /// <exception cref="DiskException">It is missing, in use, or can't have this size.</exception>
    public static long Resize(string path, Func<long, long> change, ImageFormat? format = null, BackingRule? backing = null) =>
        Use(path, isReadOnly: false, ImageLocking.Lock, file =>
        {
            ImageFormat known = format ?? ImageFormat.Probe(file);
            long old = known.GetSize(file);
            long size = RoundUp(change(old));
            if (size != old)
            {
                known.Resize(file, size, new BackingScope(backing ?? BackingRule.OwnFolder, path));
            }

            return size;
        });

    private static long RoundUp(long size) => size > long.MaxValue - SectorSize
        ? throw new DiskException("a disk of this size is not possible")
        : (size + SectorSize - 1) & -SectorSize;

    /// <summary>Nothing is read from files that the header names, so it needs no trust.</summary>
    private static ImageFormat ProbeToLook(BlockFile file)
    {
        byte[] header = new byte[SectorSize];
        file.Read(header, 0);
        return ImageFormat.IsOtherThanRaw(header) ? ImageFormat.Qcow2 : ImageFormat.Raw;
    }

    /// <summary>A block device is raw, whatever its guest has put there.</summary>
    private static ForeignFormat? FindForeign(BlockFile file) => file.IsBlockDevice || ProbeToLook(file) != ImageFormat.Raw ? null : ForeignFormat.Find(file);

    private static void Make(string path, string temporary, ImageFormat format, ImageCreation creation)
    {
        try
        {
            using (BlockFile file = BlockFile.Create(temporary))
            {
                format.Create(file, creation);
                file.Flush();
            }

            File.Move(temporary, path, overwrite: false);
        }
        catch (Exception e)
        {
            File.Delete(temporary);
            throw e switch
            {
                DiskException when e.Message.Contains(temporary, StringComparison.Ordinal) => new DiskException(e.Message.Replace(temporary, path, StringComparison.Ordinal), e),
                DiskException => e,
                HostException { Errno: Errno.ENOSPC } => new DiskException($"disk '{path}' cannot be made: the host's disk is full", e),
                HostException { Errno: Errno.EFBIG or Errno.EINVAL } => new DiskException($"disk '{path}' cannot be made: its file system, or a limit of this process (ulimit -f), allows no file of that size", e),
                IOException or UnauthorizedAccessException => new DiskException($"disk '{path}' cannot be made: {e.Message}", e),
                _ => e,
            };
        }
    }

    private static T Use<T>(string path, bool isReadOnly, ImageLocking locking, Func<BlockFile, T> use)
    {
        using BlockFile file = BlockFile.Open(path, isReadOnly, locking);
        try
        {
            return use(file);
        }
        catch (HostException e)
        {
            throw new DiskException($"disk '{path}' cannot be used: {Errno.Describe(e.Errno)}", e);
        }
    }
}
