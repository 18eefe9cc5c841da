using Tutti.Devices.Block;

namespace Tutti.Storage.Tests.Qcow2;

/// <summary>Random requests to a disk, each compared with a model of what it holds.</summary>
internal static class RandomRequests
{
    /// <summary>Runs some in a part of the disk that nobody else uses.</summary>
    public static void Run(IBlockBackend disk, byte[] model, int from, int size, Random random, int steps = 200)
    {
        TestRequests requests = new(disk);
        using NativeBytes bytes = new(1 << 18);
        for (int i = 0; i < steps; i++)
        {
            int length = random.Next(1, random.Next(2) == 0 ? 9 : 513) * 512;
            int offset = from + (random.Next(0, ((size - length) / 512) + 1) * 512);
            Span<byte> part = model.AsSpan(offset, length);
            BlockStatus status;
            switch (random.Next(9))
            {
                case 0:
                    status = requests.Run(BlockOperation.WriteZeroes, offset, length, [], mayUnmap: random.Next(2) == 0);
                    part.Clear();
                    break;
                case 1 or 2:
                    status = requests.Run(BlockOperation.Discard, offset, length, []);

                    // What a discarded part reads as is not said: the model takes it as it is.
                    Assert.Equal(BlockStatus.Ok, requests.Read(offset, bytes.Part(0, length)));
                    bytes.Span[..length].CopyTo(part);
                    break;
                case 3:
                    status = requests.Flush();
                    break;
                case 4 or 5:
                    status = requests.Read(offset, bytes.Part(0, length));
                    Assert.True(bytes.Span[..length].SequenceEqual(part), $"step {i}: bytes at {offset} are not what was written");
                    break;
                default:
                    random.NextBytes(bytes.Span[..length]);
                    status = requests.Write(offset, bytes.Part(0, length));
                    bytes.Span[..length].CopyTo(part);
                    break;
            }

            Assert.Equal(BlockStatus.Ok, status);
        }
    }
}
