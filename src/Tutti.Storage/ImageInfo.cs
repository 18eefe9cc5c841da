namespace Tutti.Storage;

/// <summary>What an image says of itself.</summary>
public sealed record ImageInfo
{
    /// <summary>The format's name: "raw", "qcow2", or that of one which is only known by sight.</summary>
    public required string Format { get; init; }

    /// <summary>Why the file can't be a guest's disk as it is, and what to do; null for the formats that are supported.</summary>
    public string? Obstacle { get; init; }

    /// <summary>Bytes that a guest sees; null for a format that is only known by sight.</summary>
    public required long? VirtualSize { get; init; }

    /// <summary>Bytes that the file takes up on the host.</summary>
    public required long ActualSize { get; init; }

    /// <summary>Bytes of a cluster; null for raw.</summary>
    public int? ClusterSize { get; init; }

    /// <summary>Whether the image was not closed properly, and its reference counts are to be mended.</summary>
    public bool IsDirty { get; init; }

    /// <summary>The backing file's name as the image has it; null for none.</summary>
    public string? BackingFile { get; init; }

    /// <summary>The same as a path from here.</summary>
    public string? FullBackingFile { get; init; }

    /// <summary>The backing file's format as the image has it; null where it says none.</summary>
    public string? BackingFormat { get; init; }

    /// <summary>Details of a qcow2 image; null for raw.</summary>
    public Qcow2Details? Qcow2 { get; init; }
}

/// <summary>Details of a qcow2 image, named as qemu-img names them.</summary>
/// <param name="Compat">"0.10" for version 2, "1.1" for version 3.</param>
/// <param name="CompressionType">"zlib" or "zstd".</param>
public sealed record Qcow2Details(string Compat, string CompressionType, bool LazyRefcounts, int RefcountBits, bool IsCorrupt, bool HasExtendedL2);

/// <summary>What a check of an image has found.</summary>
public sealed record ImageCheck
{
    /// <summary>The file's length that the image needs.</summary>
    public long EndOffset { get; init; }

    public long TotalClusters { get; init; }

    public long AllocatedClusters { get; init; }

    public long FragmentedClusters { get; init; }

    public long CompressedClusters { get; init; }

    /// <summary>Clusters that are counted but not used: lost space, no danger.</summary>
    public long Leaks { get; init; }

    /// <summary>Damage.</summary>
    public long Corruptions { get; init; }

    /// <summary>What could not be looked at.</summary>
    public long CheckErrors { get; init; }

    /// <summary>What was mended.</summary>
    public long LeaksFixed { get; init; }

    public long CorruptionsFixed { get; init; }

    /// <summary>One line each, the first hundred.</summary>
    public IReadOnlyList<string> Messages { get; init; } = [];
}

/// <summary>How a new image is to be.</summary>
public sealed record ImageCreation
{
    /// <summary>Bytes that a guest sees, a multiple of 512.</summary>
    public required long Size { get; init; }

    /// <summary>The backing file's name, as it goes into the image; null for none.</summary>
    public string? BackingFile { get; init; }

    /// <summary>Its format's name.</summary>
    public string? BackingFormat { get; init; }
}
