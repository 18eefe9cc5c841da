using System.Diagnostics;
using System.Globalization;
using Tutti.Host;
using Tutti.Memory;
using Tutti.Storage.Files;
using Tutti.Storage.Qcow2;

namespace Tutti.Storage.Tests.Qcow2;

/// <summary>Images whose headers and tables anybody has written: they may fail, in the ways that are said, and do no more.</summary>
[Trait("Category", "Fuzz")]
public sealed class Qcow2FuzzTests : IDisposable
{
    private const int Size = 1 << 20;
    private readonly TempFolder _folder = new(inMemory: true);

    public void Dispose() => _folder.Dispose();

    [QemuFact]
    public void A_mutated_image_fails_only_in_the_ways_that_are_said()
    {
        double seconds = double.TryParse(Environment.GetEnvironmentVariable("TUTTI_FUZZ_SECONDS"), CultureInfo.InvariantCulture, out double s) ? s : 3;
        int seed = int.TryParse(Environment.GetEnvironmentVariable("TUTTI_FUZZ_SEED"), CultureInfo.InvariantCulture, out int given) ? given : 1;
        byte[] plain = new byte[Size];
        new Random(1).NextBytes(plain.AsSpan(0, Size / 4));
        string raw = _folder.File("plain.raw", plain);
        byte[][] images = [Make(raw, "a", "cluster_size=512"), Make(raw, "b", "cluster_size=4096,refcount_bits=2"), Make(raw, "c", "cluster_size=1024", "-c"), Make(raw, "d", "compat=0.10,cluster_size=2048")];
        Stopwatch watch = Stopwatch.StartNew();
        for (int round = 0; watch.Elapsed.TotalSeconds < seconds; round++)
        {
            Random random = new(unchecked(seed + round));
            byte[] image = [.. images[random.Next(images.Length)]];
            for (int i = random.Next(1, 12); i > 0; i--)
            {
                int at = random.Next(4) == 0 ? random.Next(112) : random.Next(Math.Min(image.Length, 1 << 14));
                image[at] = random.Next(3) == 0 ? (byte)0xFF : (byte)(1 << random.Next(8));
            }

            // Such an image is mended when it is opened.
            image[79] |= (byte)(random.Next(3) == 0 ? 1 : 0);
            string path = _folder.File("mutated.qcow2", image);
            string copy = _folder.File("mended.qcow2", image);
            try
            {
                Attempt(() => Use(path, random));
                Attempt(() => Mend(copy, round % 16 == 0));
            }
            catch (Exception e)
            {
                Assert.Fail($"TUTTI_FUZZ_SEED={unchecked(seed + round)}: {e}");
            }
        }
    }

    private static void Mend(string path, bool asksQemu)
    {
        ImageCheck check = ImageFiles.Check(path, repair: true, ImageFormat.Qcow2).Check!;
        ImageCheck again = ImageFiles.Check(path, repair: false, ImageFormat.Qcow2).Check!;
        Assert.Equal((check.Leaks, check.Corruptions), (again.Leaks, again.Corruptions));
        // QEMU wants to know more of snapshots than we do.
        bool hasSnapshots = File.ReadAllBytes(path).AsSpan(60, 4).ContainsAnyExcept((byte)0);
        if (asksQemu && !hasSnapshots && check.Leaks + check.Corruptions == 0)
        {
            (int status, string text, string error) = QemuImage.Run("qemu-img", "check", "-f", "qcow2", path);
            // It may refuse a header that we need not read.
            Assert.True(status is 0 or 1, $"qemu-img check: {status} {text}{error}");
        }
    }

    private static void Use(string path, Random random)
    {
        using (BlockFile file = BlockFile.Open(path, isReadOnly: true))
        {
            Attempt(() => Qcow2Image.Open(file, opensBacking: false).Check());
        }

        using Qcow2Image image = Qcow2Image.Open(BlockFile.Open(path, isReadOnly: false), opensBacking: false);
        image.BeginWriting();
        if (image.IsReadOnly || image.Size < 1 << 17)
        {
            return;
        }

        using NativeBytes bytes = new(1 << 16, 0x5A);
        MemorySegment[] segments = [bytes.Segment];
        IoOperation scratch = new() { Owner = NoCompletion.Instance };
        for (int i = 0; i < 12; i++)
        {
            int length = random.Next(1, 129) * 512;
            long offset = random.NextInt64(0, ((Math.Min(image.Size, Size) - length) / 512) + 1) * 512;
            switch (random.Next(5))
            {
                case 0:
                    Attempt(() => image.Read(segments, 0, offset, length, scratch));
                    break;
                case 1:
                    Attempt(() => image.Discard(offset, length));
                    break;
                case 2:
                    Attempt(() => image.WriteZeroes(offset, length, mayUnmap: true, scratch));
                    break;
                case 3:
                    Attempt(image.Flush);
                    break;
                default:
                    Attempt(() => image.Write(segments, offset, length, scratch));
                    break;
            }
        }
    }

    private static void Attempt(Action action)
    {
        try
        {
            action();
        }
        catch (Exception e) when (e is HostException or DiskException)
        {
            // Said, and so allowed.
        }
    }

    private byte[] Make(string raw, string name, string options, params string[] more)
    {
        string path = _folder.File(name);
        (int status, _, string error) = QemuImage.Run("qemu-img", ["convert", .. more, "-O", "qcow2", "-o", options, raw, path]);
        Assert.True(status == 0, error);
        return File.ReadAllBytes(path);
    }
}
