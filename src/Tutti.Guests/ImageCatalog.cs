namespace Tutti.Guests;

/// <summary>The guest images that Tutti can fetch, and those that lie in its cache.</summary>
public sealed class ImageCatalog
{
    /// <summary>The image of a <c>tutti run</c> without an argument.</summary>
    public const string DefaultImage = "debian";

    /// <param name="cacheFolder">Where images are kept; null for <see cref="DefaultCacheFolder"/>.</param>
    public ImageCatalog(string? cacheFolder = null)
    {
        CacheFolder = Path.GetFullPath(cacheFolder ?? DefaultCacheFolder);
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
    public IReadOnlyList<ImageListing> List() => [new ImageListing(DefaultImage, "Debian's cloud kernel with a BusyBox userland", null)];

    /// <summary>The image from the cache; pulled first when it is missing or its cache entry is broken.</summary>
    /// <exception cref="ImageException">Unknown name, or it cannot be fetched.</exception>
    public Task<GuestImage> GetAsync(string name, IProgress<ImageProgress>? progress = null, CancellationToken cancellationToken = default) =>
        PullAsync(name, progress, cancellationToken);

    /// <summary>Fetches the newest version of an image, and puts it in the place of the one in the cache.</summary>
    /// <exception cref="ImageException">Unknown name, or it cannot be fetched.</exception>
    public Task<GuestImage> PullAsync(string name, IProgress<ImageProgress>? progress = null, CancellationToken cancellationToken = default) =>
        throw new ImageException("Fetching images is not built yet: give a kernel with --kernel and an initial RAM disk with --initrd.");

    /// <summary>Removes an image from the cache; false when it was not there.</summary>
    /// <exception cref="ImageException">Unknown name, or files cannot be removed.</exception>
    public bool Remove(string name) => false;
}
