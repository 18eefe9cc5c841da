namespace Tutti.Guests;

/// <summary>An image that lies ready in the cache.</summary>
public sealed record GuestImage
{
    /// <summary>The name that <c>tutti run</c> takes.</summary>
    public required string Name { get; init; }

    public required string Description { get; init; }

    /// <summary>Version of the kernel package, as its distribution writes it; for an image on a disk what it is and when it was built.</summary>
    public required string Version { get; init; }

    /// <summary>Absolute path of the kernel file.</summary>
    public required string KernelPath { get; init; }

    /// <summary>Absolute path of the initial RAM disk.</summary>
    public required string InitrdPath { get; init; }

    /// <summary>
    /// Absolute path of a second initial RAM disk with drivers, to follow the first one's bytes at a multiple of 4 in machines that have devices on
    /// PCI; null where the first has them.
    /// </summary>
    public string? ModulesPath { get; init; }

    /// <summary>
    /// Absolute path of a raw disk that is only ever read: machines write into overlays over it, which <see cref="Server.MachineDisks"/> keeps. Null
    /// for an image that lies in memory. Kernel and initial RAM disk are the ones of this disk; an overlay may have newer ones.
    /// </summary>
    public string? DiskPath { get; init; }

    /// <summary>Length of that disk in bytes; 0 for none.</summary>
    public long DiskSize { get; init; }

    /// <summary>The kernel command line that the image is meant to run with.</summary>
    public required string CommandLine { get; init; }

    /// <summary>Bytes that the image takes in the cache.</summary>
    public required long Size { get; init; }
}

/// <summary>One line of <c>tutti image list</c>.</summary>
/// <param name="Name">The name that <c>tutti run</c> takes.</param>
/// <param name="Description">One line on what it is.</param>
/// <param name="Cached">The image in the cache; null when it has not been pulled, or its cache entry is broken.</param>
public sealed record ImageListing(string Name, string Description, GuestImage? Cached);

/// <summary>How far a pull is.</summary>
/// <param name="Stage">What is being done, for people: "Downloading linux-image-…".</param>
/// <param name="Fraction">The whole pull, 0 to 1; never falls.</param>
public readonly record struct ImageProgress(string Stage, double Fraction);

/// <summary>An image cannot be had; the message is one line that tells what to do about it.</summary>
public class ImageException : Exception
{
    public ImageException(string message)
        : base(message)
    {
    }

    public ImageException(string message, Exception inner)
        : base(message, inner)
    {
    }
}
