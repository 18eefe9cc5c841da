namespace Tutti.Virtio.Block;

/// <summary>Numbers of the block device. Source: Virtual I/O Device 1.2, 5.2.</summary>
internal static class VirtioBlockLayout
{
    // Feature bits, 5.2.3.
    internal const ulong FeatureSegMax = 1UL << 2;
    internal const ulong FeatureReadOnly = 1UL << 5;
    internal const ulong FeatureBlkSize = 1UL << 6;
    internal const ulong FeatureFlush = 1UL << 9;
    internal const ulong FeatureTopology = 1UL << 10;
    internal const ulong FeatureConfigWce = 1UL << 11;
    internal const ulong FeatureMq = 1UL << 12;
    internal const ulong FeatureDiscard = 1UL << 13;
    internal const ulong FeatureWriteZeroes = 1UL << 14;

    // struct virtio_blk_config, 5.2.4.
    internal const int Capacity = 0;
    internal const int SegMax = 12;
    internal const int BlkSize = 20;
    internal const int PhysicalBlockExp = 24;
    internal const int MinIoSize = 26;
    internal const int OptIoSize = 28;
    internal const int Writeback = 32;
    internal const int NumQueues = 34;
    internal const int MaxDiscardSectors = 36;
    internal const int MaxDiscardSeg = 40;
    internal const int DiscardSectorAlignment = 44;
    internal const int MaxWriteZeroesSectors = 48;
    internal const int MaxWriteZeroesSeg = 52;
    internal const int WriteZeroesMayUnmap = 56;
    internal const int ConfigSize = 60;

    // struct virtio_blk_req, 5.2.6: type, reserved, sector; then data; then status.
    internal const int RequestType = 0;
    internal const int RequestSector = 8;
    internal const int RequestHeaderSize = 16;

    internal const uint TypeIn = 0;
    internal const uint TypeOut = 1;
    internal const uint TypeFlush = 4;
    internal const uint TypeGetId = 8;
    internal const uint TypeDiscard = 11;
    internal const uint TypeWriteZeroes = 13;

    internal const byte StatusOk = 0;
    internal const byte StatusIoErr = 1;
    internal const byte StatusUnsupp = 2;

    // struct virtio_blk_discard_write_zeroes: sector, num_sectors, flags.
    internal const int RangeSector = 0;
    internal const int RangeNumSectors = 8;
    internal const int RangeFlags = 12;
    internal const int RangeSize = 16;
    internal const uint RangeFlagUnmap = 1;

    /// <summary>Bytes of the text that GET_ID answers; no NUL follows one that fills it.</summary>
    internal const int IdSize = 20;

    internal const int SectorShift = 9;
    internal const int SectorSize = 1 << SectorShift;
}
