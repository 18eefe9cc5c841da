namespace Tutti.Storage.Qcow2;

/// <summary>Feature bits that a program must know in order to read an image (qcow2 specification, header bytes 72 to 79).</summary>
[Flags]
internal enum Qcow2Incompatible : ulong
{
    None = 0,

    /// <summary>Reference counts may be wrong; they are to be rebuilt.</summary>
    Dirty = 1 << 0,

    /// <summary>Damage was found; the image is not to be written.</summary>
    Corrupt = 1 << 1,
    ExternalDataFile = 1 << 2,

    /// <summary>The header's compression type is not zlib.</summary>
    CompressionType = 1 << 3,
    ExtendedL2 = 1 << 4,
    Known = Dirty | Corrupt | ExternalDataFile | CompressionType | ExtendedL2,
}

/// <summary>Feature bits that a program may ignore (header bytes 80 to 87).</summary>
[Flags]
internal enum Qcow2Compatible : ulong
{
    None = 0,
    LazyRefcounts = 1 << 0,
}

/// <summary>How clusters are compressed (header byte 104).</summary>
internal enum Qcow2Compression : byte
{
    Zlib = 0,
    Zstd = 1,
}
