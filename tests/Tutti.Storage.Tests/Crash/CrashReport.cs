using System.Buffers.Binary;
using Tutti.Devices.Block;

namespace Tutti.Storage.Tests.Crash;

/// <summary>What a child tells over its standard output, in records small enough to be written whole or not at all.</summary>
/// <param name="IsEnd">Whether the request has ended, else it is about to be submitted.</param>
internal readonly record struct CrashReport(bool IsEnd, CrashRequest Request)
{
    public const int Length = 32;

    public void Put(Span<byte> bytes)
    {
        bytes.Clear();
        bytes[0] = IsEnd ? (byte)1 : (byte)0;
        bytes[1] = (byte)Request.Operation;
        BinaryPrimitives.WriteInt64LittleEndian(bytes[8..], Request.Id);
        BinaryPrimitives.WriteInt64LittleEndian(bytes[16..], Request.Offset);
        BinaryPrimitives.WriteInt64LittleEndian(bytes[24..], Request.Length);
    }

    public static CrashReport Get(ReadOnlySpan<byte> bytes) => new(
        bytes[0] != 0,
        new CrashRequest(
            BinaryPrimitives.ReadInt64LittleEndian(bytes[8..]),
            (BlockOperation)bytes[1],
            BinaryPrimitives.ReadInt64LittleEndian(bytes[16..]),
            BinaryPrimitives.ReadInt64LittleEndian(bytes[24..])));
}
