using System.Buffers.Binary;
using System.Globalization;
using Tutti.Devices.Block;
using Tutti.Storage.Files;

namespace Tutti.Storage.Tests.Qcow2;

/// <summary>Images whose reference counts are wrong: of QEMU's programs that were killed, or made so by hand. qemu-img is the judge.</summary>
public sealed class Qcow2RepairTests : IDisposable
{
    private const int Size = 4 << 20;
    private const byte Dirty = 1;
    private readonly TempFolder _folder = new(inMemory: true);

    public void Dispose() => _folder.Dispose();

    [QemuFact]
    public void An_image_with_lazy_refcounts_whose_program_was_killed_is_mended_when_opened_for_writing()
    {
        foreach (string options in (string[])["lazy_refcounts=on", "lazy_refcounts=on,cluster_size=512", "lazy_refcounts=on,cluster_size=4096,refcount_bits=1"])
        {
            string path = _folder.File($"{options}.qcow2");
            Do("create", "-q", "-f", "qcow2", "-o", options, path, Text(Size));
            QemuImage.Run("qemu-io", "-f", "qcow2", "-c", "write -P 17 0 1M", "-c", "write -P 34 2M 300k", "-c", "flush", "-c", "sigraise 9", path);
            Assert.True(ImageFiles.GetInfo(path).IsDirty, options);
            Assert.Equal(2, QemuImage.Run("qemu-img", "check", path).Status);
            List<string> lines = [];
            byte[] model = new byte[Size];
            model.AsSpan(0, 1 << 20).Fill(17);
            model.AsSpan(2 << 20, 300 << 10).Fill(34);
            using (Disk disk = Disk.Open(new DiskOptions { Path = path }, new StorageNotices(lines.Add)))
            {
                Assert.Contains("was not closed properly; its reference counts were made anew", Assert.Single(lines), StringComparison.Ordinal);
                using NativeBytes bytes = new(1 << 16, 51);
                Assert.Equal(BlockStatus.Ok, new TestRequests(disk.Backend).Write(3 << 20, bytes.Segment));
                model.AsSpan(3 << 20, bytes.Length).Fill(51);
            }

            Assert.False(ImageFiles.GetInfo(path).IsDirty);
            AssertSound(path);
            Do("compare", "-f", "raw", "-F", "qcow2", _folder.File("model.raw", model), path);
        }
    }

    [QemuFact]
    public void A_dirty_image_is_read_without_being_changed()
    {
        byte[] before = MakeDirty(out string path);
        using (Disk disk = Disk.Open(new DiskOptions { Path = path, IsReadOnly = true }))
        {
            using NativeBytes bytes = new(1 << 16);
            Assert.Equal(BlockStatus.Ok, new TestRequests(disk.Backend).Read(0, bytes.Segment));
            Assert.True(bytes.Span.SequenceEqual(Pattern().AsSpan(0, bytes.Length)));
        }

        Assert.True(File.ReadAllBytes(path).AsSpan().SequenceEqual(before));
    }

    [QemuFact]
    public void Counts_of_any_kind_of_wrongness_are_made_anew()
    {
        string[] shapes = ["cluster_size=65536", "cluster_size=512", "cluster_size=512,refcount_bits=64", "cluster_size=1024,refcount_bits=1", "cluster_size=4096,refcount_bits=4"];
        for (int shape = 0; shape < shapes.Length; shape++)
        {
            string options = shapes[shape];
            for (int seed = shape % 2; seed < 6; seed += 2)
            {
                string path = Make(options);
                if (seed % 2 == 1 && !options.EndsWith("bits=1", StringComparison.Ordinal))
                {
                    Do("snapshot", "-c", "one", path);
                    QemuImage.Run("qemu-io", "-f", "qcow2", "-c", "write -P 17 1M 200k", "-c", "write -P 17 1M 200k", path);
                }

                string copy = _folder.File("before.raw");
                Do("convert", "-O", "raw", path, copy);
                Spoil(path, new Random(seed), seed);
                (_, ImageCheck? check) = ImageFiles.Check(path, repair: true, ImageFormat.Qcow2);
                Assert.True((check!.Leaks, check.Corruptions) == (0, 0), $"{options}, {seed}: {string.Join('\n', check.Messages)}");
                Assert.True(check.LeaksFixed + check.CorruptionsFixed > 0, $"{options}, {seed}: nothing was wrong");
                AssertSound(path);
                Do("compare", "-f", "raw", "-F", "qcow2", copy, path);
            }
        }
    }

    [QemuFact]
    public void A_mark_of_damage_goes_when_nothing_is_damaged()
    {
        string path = Make("cluster_size=65536");
        SetFeatures(path, 2);
        ImageFiles.Check(path, repair: true, ImageFormat.Qcow2);
        Assert.False(ImageFiles.GetInfo(path).Qcow2!.IsCorrupt);
        AssertSound(path);
    }

    [QemuFact]
    public void A_dirty_image_with_damaged_tables_is_refused_and_left_as_it_is()
    {
        MakeDirty(out string path);
        byte[] image = File.ReadAllBytes(path);
        long l1 = BinaryPrimitives.ReadInt64BigEndian(image.AsSpan(40));
        long l2 = BinaryPrimitives.ReadInt64BigEndian(image.AsSpan((int)l1)) & 0x00FF_FFFF_FFFF_FE00;
        // A guest's cluster where the L1 table is.
        BinaryPrimitives.WriteInt64BigEndian(image.AsSpan((int)l2), l1);
        File.WriteAllBytes(path, image);
        string message = Assert.Throws<DiskException>(() => Disk.Open(new DiskOptions { Path = path })).Message;
        Assert.Contains("was not closed properly, and is damaged", message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', message);
        Assert.True(File.ReadAllBytes(path).AsSpan().SequenceEqual(image));
        (_, ImageCheck? check) = ImageFiles.Check(path, repair: true, ImageFormat.Qcow2);
        Assert.True(check!.Corruptions > 0);
        Assert.True(File.ReadAllBytes(path).AsSpan().SequenceEqual(image));
    }

    [QemuFact]
    public void Mended_leaks_give_their_space_back()
    {
        string path = Make("cluster_size=65536");
        long before = ImageFiles.GetInfo(path).ActualSize;
        byte[] image = File.ReadAllBytes(path);
        int end = image.Length & -65536;
        using (FileStream file = File.OpenWrite(path))
        {
            file.Position = end;
            file.Write(new byte[1 << 20].Select(_ => (byte)1).ToArray());
        }

        Spoil(path, cluster => cluster >= end >> 16 && cluster < (end >> 16) + 16 ? 1u : null);
        Assert.Equal(3, QemuImage.Run("qemu-img", "check", path).Status);
        (_, ImageCheck? check) = ImageFiles.Check(path, repair: true, ImageFormat.Qcow2);
        Assert.Equal((16, 0), (check!.LeaksFixed, check.Leaks));
        AssertSound(path);
        Assert.InRange(ImageFiles.GetInfo(path).ActualSize, 0, before + 65536);
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);

    private static byte[] Pattern()
    {
        byte[] model = new byte[Size];
        new Random(5).NextBytes(model.AsSpan(0, Size / 2));
        return model;
    }

    private string Make(string options)
    {
        string path = _folder.File("made.qcow2");
        File.Delete(path);
        Do("convert", "-O", "qcow2", "-o", options, _folder.File("pattern.raw", Pattern()), path);
        return path;
    }

    private byte[] MakeDirty(out string path)
    {
        path = Make("cluster_size=65536");
        Spoil(path, new Random(1), seed: 2);
        SetFeatures(path, Dirty);
        return File.ReadAllBytes(path);
    }

    private static void SetFeatures(string path, byte features)
    {
        byte[] image = File.ReadAllBytes(path);
        image[79] |= features;
        File.WriteAllBytes(path, image);
    }

    /// <summary>Random bytes over the refcount blocks; or zeroes; or blocks that are not there, or can't be.</summary>
    private static void Spoil(string path, Random random, int seed)
    {
        byte[] image = File.ReadAllBytes(path);
        int clusterSize = 1 << image[23];
        int table = (int)BinaryPrimitives.ReadInt64BigEndian(image.AsSpan(48));
        for (int at = table; at < table + clusterSize; at += 8)
        {
            int block = (int)BinaryPrimitives.ReadInt64BigEndian(image.AsSpan(at));
            if (block == 0)
            {
                continue;
            }

            switch (seed / 2)
            {
                case 0:
                    random.NextBytes(image.AsSpan(block, clusterSize));
                    break;
                case 1:
                    image.AsSpan(block, clusterSize).Clear();
                    break;
                default:
                    BinaryPrimitives.WriteInt64BigEndian(image.AsSpan(at), random.Next(3) switch { 0 => 0, 1 => 1L << 40, _ => block + 1 });
                    break;
            }
        }

        File.WriteAllBytes(path, image);
    }

    /// <summary>Other counts of 16 bits, where the function gives one.</summary>
    private static void Spoil(string path, Func<int, uint?> count)
    {
        byte[] image = File.ReadAllBytes(path);
        int clusterSize = 1 << image[23];
        int block = (int)BinaryPrimitives.ReadInt64BigEndian(image.AsSpan((int)BinaryPrimitives.ReadInt64BigEndian(image.AsSpan(48))));
        for (int cluster = 0; cluster < clusterSize / 2; cluster++)
        {
            if (count(cluster) is uint value)
            {
                BinaryPrimitives.WriteUInt16BigEndian(image.AsSpan(block + (cluster * 2)), (ushort)value);
            }
        }

        File.WriteAllBytes(path, image);
    }

    private static void AssertSound(string path) => Do("check", path);

    private static void Do(params string[] args)
    {
        (int status, string output, string error) = QemuImage.Run("qemu-img", args);
        Assert.True(status == 0, $"qemu-img {string.Join(' ', args)}: {output}{error}");
    }
}
