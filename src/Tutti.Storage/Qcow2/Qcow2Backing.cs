using Tutti.Host;
using Tutti.Memory;
using Tutti.Storage.Files;

namespace Tutti.Storage.Qcow2;

/// <summary>What the chain below an image may consist of.</summary>
/// <param name="Rule">The user's rule.</param>
/// <param name="Image">The image that the user named.</param>
/// <param name="IsBelow">Whether that image itself is the first of the chain: what stands on it is ours.</param>
internal sealed record BackingScope(BackingRule Rule, string Image, bool IsBelow = false)
{
    /// <summary>Bytes of L1 and refcount tables of all images of a chain together: six of the largest there can be.</summary>
    private const long MaxTables = 256L << 20;

    private long _tables;

    /// <summary>Charges an image's tables, which stay in memory as long as it is open, before they are read.</summary>
    /// <exception cref="DiskException">The chain has too many.</exception>
    internal void TakeTables(string path, Qcow2Header header)
    {
        _tables += (header.L1Entries * 8L) + ((long)header.RefcountTableClusters << header.ClusterBits);
        if (_tables > MaxTables)
        {
            throw new DiskException($"disk '{path}' and those that stand on it have more than {MaxTables >> 20} MiB of tables; merge some with 'qemu-img commit' or 'qemu-img convert'");
        }
    }

    /// <summary>Whether a file may be read.</summary>
    internal bool Allows(string path) => (IsBelow && path == Image) || Rule.Allows(Image, path);
}

/// <summary>The image that another one stands on; only read.</summary>
internal static class Qcow2Backing
{
    private const int MaxDepth = 32;

    /// <summary>Where a backing file is. A relative name counts from the image's folder; one with a protocol ("nbd:...", "json:...") is no path, and stays.</summary>
    internal static string Resolve(string image, string backing) => IsPath(backing) && !backing.StartsWith('/')
        ? image[..(image.LastIndexOf('/') + 1)] + backing
        : backing;

    /// <exception cref="DiskException">It is not allowed, missing, in use by a writer, damaged, or the chain is too long.</exception>
    internal static IImageSource Open(BlockFile image, Qcow2Header header, BackingScope scope, int depth)
    {
        string name = header.BackingFile!;
        if (depth > MaxDepth)
        {
            throw TooDeep(image.Path);
        }

        if (!IsPath(name))
        {
            throw new DiskException($"disk '{image.Path}' stands on '{PrintableText.Of(name)}', which is no file's name; convert it with 'qemu-img convert -O qcow2'");
        }

        ImageFormat? format = header.BackingFormat == null
            ? null
            : ImageFormat.Find(header.BackingFormat) ?? throw new DiskException($"disk '{image.Path}' stands on an image of format '{PrintableText.Of(header.BackingFormat)}', which is not supported; convert it with 'qemu-img convert -O qcow2'");
        string path = Resolve(image.Path, name);
        if (!scope.Allows(path))
        {
            throw new DiskException($"disk '{image.Path}' stands on '{PrintableText.Of(name)}', which is not among the files in its folder: an image from a stranger could have your files read so; say backing=allow if you trust it");
        }

        BlockFile file;
        try
        {
            file = BlockFile.Open(path, isReadOnly: true, ImageLocking.Lock, image.Notices);
        }
        catch (DiskException e)
        {
            // A chain that leads back to its writable image meets that image's lock, which would not tell why.
            throw IsTooDeep(image.Path, scope) ? TooDeep(image.Path) : new DiskException($"disk '{image.Path}' stands on another: {e.Message}", e);
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

        return format == ImageFormat.Qcow2 ? OpenQcow2(file, scope, depth) : new RawSource(file);
    }

    private static DiskException TooDeep(string path) =>
        new($"disk '{path}' is the end of a chain of more than {MaxDepth} images, or of a circle; merge some with 'qemu-img commit' or 'qemu-img convert'");

    /// <summary>Whether more images than are allowed lie below one, as far as can be seen, whoever uses them.</summary>
    private static bool IsTooDeep(string path, BackingScope scope)
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
                if (!scope.Allows(path))
                {
                    return false;
                }
            }

            return true;
        }
        catch (DiskException)
        {
            return false;
        }
    }

    private static Qcow2Image OpenQcow2(BlockFile file, BackingScope scope, int depth)
    {
        Qcow2Image image = Qcow2Image.Open(file, scope, depth);
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
