using Tutti.Devices.Block;
using Tutti.Host;
using Tutti.Storage.Files;
using Tutti.Storage.Qcow2;
using Tutti.Workers;

namespace Tutti.Storage;

/// <summary>
/// An opened disk with the thread that does its work: a disk device takes <see cref="Worker"/> as its worker, and nothing then changes threads between
/// the guest's doorbell and the kernel.
/// </summary>
public sealed class Disk : IDisposable
{
    private readonly IoQueue _queue;
    private readonly IDiskImage _image;
    private readonly ThrottledDisk? _throttled;
    private bool _isDisposed;

    private Disk(DiskOptions options, ImageFormat format, EventLoop worker, IoQueue queue, IDiskImage image)
    {
        Options = options;
        Format = format;
        Worker = worker;
        _queue = queue;
        _image = image;
        _throttled = options.Limits.IsNone ? null : new ThrottledDisk(image, options.Limits, worker);
    }

    public DiskOptions Options { get; }

    /// <summary>The file's format: of an overlay, that of what is below.</summary>
    public ImageFormat Format { get; }

    /// <summary>Where requests go.</summary>
    public IBlockBackend Backend => _throttled != null ? _throttled : _image;

    /// <summary>The thread on which requests end.</summary>
    public EventLoop Worker { get; }

    /// <summary>By what means the host's storage is read and written.</summary>
    public IoMethod Method => _queue.Method;

    /// <summary>Opens a disk.</summary>
    /// <exception cref="DiskException">It is missing, damaged, not permitted or in use; the message says how to mend that.</exception>
    public static Disk Open(DiskOptions options, StorageNotices? notices = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        notices ??= StorageNotices.None;
        string name = Path.GetFileName(options.Path);
        EventLoop worker = new($"disk {name}", e => notices.Report(options.Path, $"internal error: {e.GetType().Name}: {e.Message}"));
        IoQueue? queue = null;
        try
        {
            queue = new IoQueue(worker, options.Method);
            (IDiskImage image, ImageFormat format) = options.IsOverlay ? OpenOverlay(options, queue, notices) : OpenFile(options, queue, notices);
            return new Disk(options, format, worker, queue, image);
        }
        catch (Exception e)
        {
            queue?.Dispose();
            worker.Dispose();
            if (e is HostException)
            {
                throw new DiskException($"disk '{options.Path}' cannot be used: {e.Message}", e);
            }

            throw;
        }
    }

    /// <summary>Waits for requests under way, closes the image, and ends the thread. Nobody may submit any more.</summary>
    public void Dispose()
    {
        if (_isDisposed)
        {
            return;
        }

        _isDisposed = true;
        _throttled?.Dispose();
        _image.Dispose();
        _queue.Dispose();
        Worker.Dispose();
    }

    private static (IDiskImage Image, ImageFormat Format) OpenFile(DiskOptions options, IoQueue queue, StorageNotices notices)
    {
        BlockFile file = BlockFile.Open(options.Path, options.IsReadOnly, ImageLocking.Lock, notices);
        ImageFormat format;
        try
        {
            format = options.Format ?? ImageFormat.Probe(file);
        }
        catch
        {
            file.Dispose();
            throw;
        }

        return (format.Open(file, queue, guardsHeader: options.Format == null && !file.IsBlockDevice, new BackingScope(options.Backing, options.Path)), format);
    }

    /// <summary>The throwaway image has no name any more once it is open: nothing is left of it, however this process ends.</summary>
    private static (IDiskImage Image, ImageFormat Format) OpenOverlay(DiskOptions options, IoQueue queue, StorageNotices notices)
    {
        ImageFormat format;
        long size;
        // Locked as a reader until the image on top has its own lock: no writer gets in between.
        using BlockFile below = BlockFile.Open(options.Path, isReadOnly: true, ImageLocking.Lock, notices);
        format = options.Format ?? ImageFormat.Probe(below);
        size = format.GetSize(below);
        string folder = options.TemporaryFolder ?? Path.GetTempPath();
        string path = Path.Combine(folder, $"tutti-overlay-{Guid.NewGuid():N}.qcow2");
        BlockFile file = BlockFile.Create(path, notices);
        try
        {
            // As it was written: what stands before a ".." may be a link, which Path.GetFullPath does not ask.
            string image = Path.Combine(Environment.CurrentDirectory, options.Path);
            ImageFormat.Qcow2.Create(file, new ImageCreation { Size = size, BackingFile = image, BackingFormat = format.Name });
            return (ImageFormat.Qcow2.Open(file, queue, guardsHeader: false, new BackingScope(options.Backing, image, IsBelow: true)), format);
        }
        catch
        {
            file.Dispose();
            throw;
        }
        finally
        {
            File.Delete(path);
        }
    }
}
