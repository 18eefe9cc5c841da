using Tutti.Storage.Files;

namespace Tutti.Storage;

/// <summary>A disk as the user wants it.</summary>
public sealed record DiskOptions
{
    /// <summary>The image file or block device.</summary>
    public required string Path { get; init; }

    /// <summary>Its format; null to find out: see <see cref="ImageFormat.Probe"/>.</summary>
    public ImageFormat? Format { get; init; }

    /// <summary>Which files the image may stand on.</summary>
    public BackingRule Backing { get; init; } = BackingRule.OwnFolder;

    public bool IsReadOnly { get; init; }

    /// <summary>Whether the guest's writes go to a throwaway image on top, and the file is only read.</summary>
    public bool IsOverlay { get; init; }

    /// <summary>What the guest sees as the disk's serial number, at most 20 bytes; null for none.</summary>
    public string? Serial { get; init; }

    public DiskLimits Limits { get; init; } = DiskLimits.None;

    /// <summary>Request queues that the guest gets.</summary>
    public int QueueCount { get; init; } = 1;

    public IoMethod Method { get; init; }

    /// <summary>Where throwaway images go; $TMPDIR or /tmp when not given.</summary>
    public string? TemporaryFolder { get; init; }
}
