using Tutti.Host;
using Tutti.Memory;
using Tutti.Storage.Files;

namespace Tutti.Storage.Qcow2;

/// <summary>The image that another one stands on; only read.</summary>
internal static class Qcow2Backing
{
    private const int MaxDepth = 32;

    /// <summary>Where a backing file is. A relative name counts from the image's folder; one with a protocol ("nbd:...", "json:...") is no path, and stays.</summary>
    internal static string Resolve(string image, string backing) => IsPath(backing) && !backing.StartsWith('/')
        ? image[..(image.LastIndexOf('/') + 1)] + backing
        : backing;

    /// <exception cref="DiskException">It is missing, in use by a writer, damaged, or the chain is too long.</exception>
    internal static IImageSource Open(BlockFile image, Qcow2Header header, int depth)
    {
        string name = header.BackingFile!;
        if (depth > MaxDepth)
        {
            throw TooDeep(image.Path);
        }

        if (!IsPath(name))
        {
            throw new DiskException($"disk '{image.Path}' stands on '{name}', which is no file's name; convert it with 'qemu-img convert -O qcow2'");
        }

        ImageFormat? format = header.BackingFormat == null
            ? null
            : ImageFormat.Find(header.BackingFormat) ?? throw new DiskException($"disk '{image.Path}' stands on an image of format '{header.BackingFormat}', which is not supported; convert it with 'qemu-img convert -O qcow2'");
        BlockFile file;
        try
        {
            file = BlockFile.Open(Resolve(image.Path, name), isReadOnly: true, ImageLocking.Lock, image.Notices);
        }
        catch (DiskException e)
        {
            // A chain that leads back to its writable image meets that image's lock, which would not tell why.
            throw IsTooDeep(image.Path) ? TooDeep(image.Path) : new DiskException($"disk '{image.Path}' stands on another: {e.Message}", e);
        }

        try
        {
            format ??= ImageFormat.Probe(file);
        }
        catch
        {
            file.Dispose();
            throw;
        }

        return format == ImageFormat.Qcow2 ? OpenQcow2(file, depth) : new RawSource(file);
    }

    private static DiskException TooDeep(string path) =>
        new($"disk '{path}' is the end of a chain of more than {MaxDepth} images, or of a circle; merge some with 'qemu-img commit' or 'qemu-img convert'");

    /// <summary>Whether more images than are allowed lie below one, as far as can be seen, whoever uses them.</summary>
    private static bool IsTooDeep(string path)
    {
        try
        {
            for (int depth = 0; depth <= MaxDepth; depth++)
            {
                using BlockFile file = BlockFile.Open(path, isReadOnly: true, ImageLocking.None);
                if (ImageFormat.Probe(file) != ImageFormat.Qcow2 || Qcow2Header.Read(file).BackingFile is not { } name || !IsPath(name))
                {
                    return false;
                }

                path = Resolve(path, name);
            }

            return true;
        }
        catch (DiskException)
        {
            return false;
        }
    }

    private static Qcow2Image OpenQcow2(BlockFile file, int depth)
    {
        Qcow2Image image = Qcow2Image.Open(file, depth);
        try
        {
            image.RefuseCut();
            return image;
        }
        catch
        {
            image.Dispose();
            throw;
        }
    }

    private static bool IsPath(string name)
    {
        int colon = name.IndexOf(':', StringComparison.Ordinal);
        int slash = name.IndexOf('/', StringComparison.Ordinal);
        return colon < 0 || (slash >= 0 && slash < colon);
    }

    private sealed class RawSource(BlockFile file) : IImageSource
    {
        public long Size { get; } = RawDisk.RoundUp(file.Length);

        public void Read(ReadOnlySpan<MemorySegment> segments, long skip, long offset, long length, IoOperation scratch)
        {
            scratch.Set(IoKind.Read, file, offset, segments, skip, length);
            scratch.RunHere();
            if (scratch.Error != 0)
            {
                file.Notices.Report(file.Path, "reading", scratch.Error);
                throw new HostException("preadv", scratch.Error);
            }
        }

        public bool TryReadAtOnce(ReadOnlySpan<MemorySegment> segments, long skip, long offset, long length, IoOperation scratch)
        {
            scratch.Set(IoKind.Read, file, offset, segments, skip, length);
            return scratch.TryReadCached() && scratch.Error == 0;
        }

        public void Dispose() => file.Dispose();
    }
}
