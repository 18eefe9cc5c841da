using System.Collections.Concurrent;
using System.Globalization;
using Tutti.Devices.Block;
using Tutti.Storage.Files;
using Tutti.Storage.Qcow2;
using Tutti.Workers;

namespace Tutti.Storage.Tests.Crash;

/// <summary>
/// The process that a test kills: it does random requests on an image, several at once, and says what it submits and what has ended. Requests
/// that overlap are not under way together.
/// </summary>
internal static class CrashChild
{
    private const string Word = "crash-child";
    private const int Slots = 6;
    private const int MaxSectors = 256;

    /// <summary>A child that nobody kills ends by itself.</summary>
    private const long MaxMilliseconds = 20_000;

    /// <summary>The words that make this assembly the child.</summary>
    /// <param name="path">The image.</param>
    /// <param name="seed">The history's.</param>
    /// <param name="firstId">Number of the first request; the numbers go up from there.</param>
    public static string[] Words(string path, int seed, long firstId) =>
        ["exec", typeof(CrashChild).Assembly.Location, Word, path, seed.ToString(CultureInfo.InvariantCulture), firstId.ToString(CultureInfo.InvariantCulture)];

    private static int Main(string[] args)
    {
        if (args is not [Word, string path, string seed, string firstId])
        {
            Console.Error.WriteLine("run this assembly with 'dotnet test'");
            return 2;
        }

        Random random = new(int.Parse(seed, CultureInfo.InvariantCulture));
        using Stream output = Console.OpenStandardOutput();
        long first = long.Parse(firstId, CultureInfo.InvariantCulture);
        if (random.Next(2) == 0)
        {
            using Disk disk = Disk.Open(new DiskOptions { Path = path, Format = ImageFormat.Qcow2 });
            Run(disk.Backend, random, first, output);
            return 0;
        }

        // With so few tables in memory that they are written back all the time, by whoever needs another.
        using EventLoop worker = new("crash", e => Environment.FailFast(e.ToString()));
        using IoQueue queue = new(worker, IoMethod.IoUring);
        Qcow2Image image = Qcow2Image.Open(BlockFile.Open(path, isReadOnly: false), cacheBytes: 4096);
        image.BeginWriting();
        using Qcow2Disk small = new(image, queue);
        Run(small, random, first, output);
        return 0;
    }

    private static void Run(IBlockBackend disk, Random random, long id, Stream output)
    {
        BlockingCollection<Slot> free = [];
        List<Slot> all = [];
        for (int i = 0; i < Slots; i++)
        {
            Slot slot = new(free, output);
            all.Add(slot);
            free.Add(slot);
        }

        long end = Environment.TickCount64 + MaxMilliseconds;
        while (Environment.TickCount64 < end)
        {
            Slot slot = free.Take();
            CrashRequest next = Draw(random, id++, disk.Size);
            while (all.Exists(other => other.Overlaps(next)))
            {
                next = Draw(random, next.Id, disk.Size);
            }

            slot.Begin(disk, next, mayUnmap: random.Next(2) == 0);
        }
    }

    private static CrashRequest Draw(Random random, long id, long size)
    {
        BlockOperation operation = random.Next(100) switch
        {
            < 60 => BlockOperation.Write,
            < 68 => BlockOperation.Discard,
            < 78 => BlockOperation.WriteZeroes,
            < 86 => BlockOperation.Read,
            _ => BlockOperation.Flush,
        };
        if (operation == BlockOperation.Flush)
        {
            return new CrashRequest(id, operation, 0, 0);
        }

        long sectors = random.Next(4) == 0 ? random.Next(1, MaxSectors + 1) : random.Next(1, 17);
        // Half of them in one part, which is written again and again.
        long part = random.Next(2) == 0 ? size / 16 : size;
        return new CrashRequest(id, operation, random.NextInt64(0, (part / SectorStamp.Size) - sectors + 1) * SectorStamp.Size, sectors * SectorStamp.Size);
    }

    private sealed class Slot : IBlockCompletion
    {
        private readonly BlockingCollection<Slot> _free;
        private readonly Stream _output;
        private readonly NativeBytes _bytes = new(MaxSectors * SectorStamp.Size);
        private readonly BlockRequest _block;
        private CrashRequest _request;
        private volatile bool _isUnderWay;

        public Slot(BlockingCollection<Slot> free, Stream output)
        {
            _free = free;
            _output = output;
            _block = new BlockRequest { Owner = this, Segments = [_bytes.Segment] };
        }

        public bool Overlaps(CrashRequest other) =>
            _isUnderWay && other.Offset < _request.Offset + _request.Length && _request.Offset < other.Offset + other.Length;

        public void Begin(IBlockBackend disk, CrashRequest request, bool mayUnmap)
        {
            _request = request;
            _isUnderWay = true;
            bool hasBytes = request.Operation is BlockOperation.Read or BlockOperation.Write;
            _block.Operation = request.Operation;
            _block.Offset = request.Offset;
            _block.Length = request.Length;
            _block.MayUnmap = mayUnmap;
            _block.SegmentCount = hasBytes ? 1 : 0;
            _block.Segments[0] = _bytes.Part(0, (int)request.Length);
            if (request.Operation == BlockOperation.Write)
            {
                SectorStamp.Fill(_bytes.Span[..(int)request.Length], request.Offset / SectorStamp.Size, request.Id);
            }

            Report(isEnd: false);
            disk.Submit(_block);
            disk.Kick();
        }

        public void Complete(BlockRequest request, BlockStatus status)
        {
            if (status != BlockStatus.Ok)
            {
                Console.Error.WriteLine($"{_request} ended with {status}");
                Environment.Exit(3);
            }

            Report(isEnd: true);
            _isUnderWay = false;
            _free.Add(this);
        }

        public void EndCompletions()
        {
        }

        private void Report(bool isEnd)
        {
            if (_request.Operation != BlockOperation.Read)
            {
                Span<byte> record = stackalloc byte[CrashReport.Length];
                new CrashReport(isEnd, _request).Put(record);
                _output.Write(record);
            }
        }
    }
}
