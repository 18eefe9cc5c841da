using System.Buffers.Binary;
using System.Numerics;

namespace Tutti.Storage.Tests.Crash;

/// <summary>Bytes of a sector that tell which write they are of: everybody can make them anew, and torn or misplaced ones are told.</summary>
internal static class SectorStamp
{
    public const int Size = 512;

    /// <summary>What a sector of zeroes is of.</summary>
    public const long Zeroes = 0;

    /// <summary>Of the bytes that were there before the first write: they can be compressed.</summary>
    public const long First = long.MaxValue;

    /// <summary>What a sector is of that no write has made so.</summary>
    public const long Unknown = -1;

    public static void Fill(Span<byte> bytes, long firstSector, long write)
    {
        for (int at = 0; at < bytes.Length; at += Size)
        {
            FillOne(bytes.Slice(at, Size), firstSector + (at / Size), write);
        }
    }

    /// <summary>The write that a sector's bytes are of.</summary>
    public static long Find(ReadOnlySpan<byte> bytes, long sector)
    {
        long write = BinaryPrimitives.ReadInt64LittleEndian(bytes);
        if (write == Zeroes)
        {
            return bytes.ContainsAnyExcept((byte)0) ? Unknown : Zeroes;
        }

        Span<byte> expected = stackalloc byte[Size];
        FillOne(expected, sector, write);
        return bytes.SequenceEqual(expected) ? write : Unknown;
    }

    /// <summary>What can be said of a sector's bytes that no write has made so.</summary>
    public static string Describe(ReadOnlySpan<byte> bytes, long sector)
    {
        long write = BinaryPrimitives.ReadInt64LittleEndian(bytes);
        Span<byte> expected = stackalloc byte[Size];
        FillOne(expected, sector, write);
        int same = bytes.CommonPrefixLength(expected);
        int zeroesFrom = bytes.LastIndexOfAnyExcept((byte)0) + 1;
        return $"begins like write {write}, with {same} bytes of it, and ends with {Size - zeroesFrom} zeroes";
    }

    private static void FillOne(Span<byte> bytes, long sector, long write)
    {
        ulong state = ((ulong)write * 0x9E37_79B9_7F4A_7C15) ^ (ulong)sector;
        BinaryPrimitives.WriteInt64LittleEndian(bytes, write);
        for (int at = 8; at < Size; at += 8)
        {
            state = write == First ? (ulong)sector : (BitOperations.RotateLeft(state, 23) ^ (ulong)at) * 0xD129_0F95_2C6B_8A3D;
            BinaryPrimitives.WriteUInt64LittleEndian(bytes[at..], state);
        }
    }
}
