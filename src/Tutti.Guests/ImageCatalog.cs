using Tutti.Guests.Server;

namespace Tutti.Guests;

/// <summary>The guest images that Tutti can fetch, and those that lie in its cache.</summary>
public sealed class ImageCatalog
{
    /// <summary>The image of a <c>tutti run</c> without an argument.</summary>
    public const string DefaultImage = DebianImage.Name;

    /// <summary>Unfinished entries and apt's state, below the cache folder; a crash leaves them for the next pull to remove.</summary>
    private const string WorkPrefix = "work-";

    private static readonly ImageSource[] s_sources = [new DebianSource(), new ServerSource()];

    private readonly string _searchPath;

    /// <summary>The names of all images, without a look at the cache.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. s_sources.Select(source => source.Name)];

    /// <param name="cacheFolder">Where images are kept; null for <see cref="DefaultCacheFolder"/>.</param>
    public ImageCatalog(string? cacheFolder = null)
        : this(cacheFolder ?? DefaultCacheFolder, Environment.GetEnvironmentVariable("PATH") ?? string.Empty)
    {
    }

    internal ImageCatalog(string cacheFolder, string searchPath)
    {
        CacheFolder = Path.GetFullPath(cacheFolder);
        _searchPath = searchPath;
    }

    /// <summary>$XDG_CACHE_HOME/tutti, or ~/.cache/tutti where that is unset or not absolute (XDG Base Directory Specification).</summary>
    public static string DefaultCacheFolder
    {
        get
        {
            string? root = Environment.GetEnvironmentVariable("XDG_CACHE_HOME");
            if (!Path.IsPathFullyQualified(root ?? string.Empty))
            {
                root = Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache");
            }

            return Path.Combine(root!, "tutti");
        }
    }

    /// <summary>Absolute path of the folder that images are kept in.</summary>
    public string CacheFolder { get; }

    /// <summary>All images, pulled or not, by name. Never throws for a broken cache.</summary>
    public IReadOnlyList<ImageListing> List() => [.. s_sources.Select(source => new ImageListing(source.Name, source.Description, Open(source, hash: false)))];

    /// <summary>Whether an image is in the cache with the very bytes that were put there; reads all of them.</summary>
    /// <exception cref="ImageException">Unknown name.</exception>
    public bool Verify(string name)
    {
        return Open(Find(name), hash: true) is not null;
    }

    /// <summary>The image from the cache; pulled first when it is missing or its cache entry is broken.</summary>
    /// <exception cref="ImageException">Unknown name, or it cannot be fetched.</exception>
    public async Task<GuestImage> GetAsync(string name, IProgress<ImageProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        ImageSource source = Find(name);
        return Open(source, hash: false) ?? await ChangeAsync(source, pull: false, new RisingProgress(progress), cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Fetches the newest version of an image, and puts it in the place of the one in the cache.</summary>
    /// <exception cref="ImageException">Unknown name, or it cannot be fetched.</exception>
    public async Task<GuestImage> PullAsync(string name, IProgress<ImageProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        return await ChangeAsync(Find(name), pull: true, new RisingProgress(progress), cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Removes an image from the cache; false when it was not there.</summary>
    /// <exception cref="ImageException">Unknown name, or files cannot be removed.</exception>
    public bool Remove(string name)
    {
        _ = Find(name);
        if (!Directory.Exists(EntryFolder(name)))
        {
            return false;
        }

        return Guard(() =>
        {
            using CacheLock held = CacheLock.TryTake(CacheFolder)
                ?? throw new ImageException("Another tutti is changing the image cache: try again when it has finished.");
            Directory.Delete(EntryFolder(name), recursive: true);
            return true;
        });
    }

    private static ImageSource Find(string name) => Array.Find(s_sources, source => source.Name == name)
        ?? throw new ImageException($"There is no image '{name}': 'tutti image list' names those that there are.");

    private string EntryFolder(string name) => Path.Combine(CacheFolder, "images", name);

    /// <summary>The image if its entry is whole and this Tutti's.</summary>
    private GuestImage? Open(ImageSource source, bool hash)
    {
        try
        {
            return source.Open(EntryFolder(source.Name), hash);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private Task<GuestImage> ChangeAsync(ImageSource source, bool pull, RisingProgress progress, CancellationToken cancellationToken) => Guard(async () =>
    {
        Directory.CreateDirectory(CacheFolder);
        using CacheLock held = await CacheLock.TakeAsync(CacheFolder, () => progress.Report("Waiting for another tutti to finish with the cache", 0), cancellationToken).ConfigureAwait(false);

        // Whoever held the lock before may have done our work.
        if (!pull && Open(source, hash: false) is GuestImage image)
        {
            return image;
        }

        RemoveLeftovers();
        string work = Path.Combine(CacheFolder, $"{WorkPrefix}{Guid.NewGuid():N}");
        try
        {
            string entry = Directory.CreateDirectory(Path.Combine(work, "entry")).FullName;
            if (pull || !source.TryRebuild(EntryFolder(source.Name), entry))
            {
                string scratch = Directory.CreateDirectory(Path.Combine(work, "scratch")).FullName;
                await source.MakeAsync(entry, scratch, _searchPath, progress.Report, cancellationToken).ConfigureAwait(false);
            }

            Publish(EntryFolder(source.Name), entry, Path.Combine(work, "old"));
        }
        finally
        {
            TryDelete(work);
        }

        progress.Report("Ready", 1);
        return Open(source, hash: false) ?? throw new ImageException($"The image in {EntryFolder(source.Name)} changed while it was being made: try again.");
    });

    /// <summary>Two renames: a crash between them loses the old entry, which the next start notices, but never leaves half of one.</summary>
    private static void Publish(string place, string entry, string old)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(place)!);
        if (File.Exists(place))
        {
            File.Delete(place);
        }
        else if (Directory.Exists(place))
        {
            Directory.Move(place, old);
        }

        Directory.Move(entry, place);
    }

    private void RemoveLeftovers()
    {
        foreach (string folder in Directory.EnumerateDirectories(CacheFolder, WorkPrefix + "*"))
        {
            TryDelete(folder);
        }
    }

    private static void TryDelete(string folder)
    {
        try
        {
            Directory.Delete(folder, recursive: true);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // The next pull tries again; the error that led here matters more.
        }
    }

    private T Guard<T>(Func<T> action) => Guard(() => Task.FromResult(action())).GetAwaiter().GetResult();

    /// <summary>Turns what a file system can do to us into one line.</summary>
    private async Task<T> Guard<T>(Func<Task<T>> action)
    {
        try
        {
            return await action().ConfigureAwait(false);
        }
        catch (IOException error) when (DiskSpace.IsFull(error))
        {
            throw new ImageException(DiskSpace.Message, error);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new ImageException($"The image cache in {CacheFolder} cannot be used: {error.Message.TrimEnd('.')}. Set XDG_CACHE_HOME to a folder that you may write to.", error);
        }
    }

    /// <summary>Passes progress on, never backwards: apt counts anew when it learns of more files.</summary>
    private sealed class RisingProgress(IProgress<ImageProgress>? target)
    {
        private double _highest;

        public void Report(string stage, double fraction)
        {
            _highest = Math.Max(_highest, fraction);
            target?.Report(new ImageProgress(stage, _highest));
        }
    }
}
