using System.Text.Json;

namespace Tutti.Storage.Tests.Qcow2;

public sealed class Qcow2InfoTests : IDisposable
{
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [QemuFact]
    public void An_image_says_of_itself_what_qemu_img_says_of_it()
    {
        string[] options =
        [
            "compat=0.10", "compat=1.1", "cluster_size=512", "cluster_size=2M", "compat=0.10,cluster_size=512", "lazy_refcounts=on", "refcount_bits=1",
            "refcount_bits=64", "compression_type=zstd", "extended_l2=on,cluster_size=128k", "preallocation=metadata",
        ];
        foreach (string option in options)
        {
            string path = _folder.File("disk.qcow2");
            Qemu("create", "-q", "-f", "qcow2", "-o", option, path, "100M");
            AssertSameInfo(path, option);
        }
    }

    [QemuFact]
    public void A_backing_file_is_named_as_in_the_image_and_from_the_images_folder()
    {
        string raw = _folder.File("base.raw", new byte[1 << 20]);
        string over = _folder.File("over.qcow2");
        foreach (string name in (string[])["base.raw", raw])
        {
            Qemu("create", "-q", "-f", "qcow2", "-b", name, "-F", "raw", over);
            AssertSameInfo(over, name);
            ImageInfo info = ImageFiles.GetInfo(over);
            Assert.Equal((name, raw, "raw"), (info.BackingFile, info.FullBackingFile, info.BackingFormat));
        }
    }

    [QemuFact]
    public void Snapshots_do_not_stand_in_the_way()
    {
        string path = Make();
        Qemu("snapshot", "-c", "one", path);
        AssertSameInfo(path, "snapshot");
    }

    [QemuFact]
    public void An_unknown_feature_is_refused_by_the_name_that_the_image_gives_it()
    {
        // The dirty bit's entry in the feature name table becomes that of bit 40.
        byte[] image = File.ReadAllBytes(Make());
        int entry = image.AsSpan(0, 4096).IndexOf("dirty bit"u8) - 2;
        Assert.True(entry > 0);
        image[entry + 1] = 40;
        image[72 + 2] |= 1;
        Assert.Contains("'dirty bit'", Refusal(image), StringComparison.Ordinal);
        image[entry + 1] = 0;
        Assert.Contains("bit 40", Refusal(image), StringComparison.Ordinal);
    }

    [QemuFact]
    public void What_is_not_built_is_refused_by_name()
    {
        byte[] image = File.ReadAllBytes(Make());
        Assert.Contains("another file", Refusal(With(image, 79, 4)), StringComparison.Ordinal);
        Assert.Contains("encrypted", Refusal(With(image, 35, 2)), StringComparison.Ordinal);
        Assert.Contains("version 9", Refusal(With(image, 7, 9)), StringComparison.Ordinal);
    }

    [QemuFact]
    public void A_damaged_header_is_refused_in_one_line()
    {
        byte[] image = File.ReadAllBytes(Make());
        (int Offset, byte Value, string Says)[] cases =
        [
            (23, 8, "clusters of 2^8"), (23, 22, "clusters of 2^22"), (99, 7, "reference counts of 2^7"), (103, 96, "header of 96"), (40, 0x80, "L1 table at"),
            (47, 1, "L1 table at"), (36, 1, "L1 table that is too long"), (25, 1, "too short"), (24, 0x80, "too short"), (48, 0xFF, "refcount table at"),
            (57, 1, "refcount table that is too long"), (60, 1, "snapshot table that is too long"), (71, 1, "snapshot table at"), (8, 1, "backing file's name"),
            (79, 8, "compression type"),
        ];
        foreach ((int offset, byte value, string says) in cases)
        {
            string refusal = Refusal(With(image, offset, value));
            Assert.Contains(says, refusal, StringComparison.Ordinal);
            Assert.DoesNotContain('\n', refusal);
        }
    }

    [QemuFact]
    [Trait("Category", "Fuzz")]
    public void Mutated_headers_are_read_or_refused()
    {
        int seed = int.Parse(Environment.GetEnvironmentVariable("TUTTI_FUZZ_SEED") ?? "1", System.Globalization.CultureInfo.InvariantCulture);
        int seconds = int.Parse(Environment.GetEnvironmentVariable("TUTTI_FUZZ_SECONDS") ?? "0", System.Globalization.CultureInfo.InvariantCulture);
        byte[] image = File.ReadAllBytes(Make()).AsSpan(0, 1 << 16).ToArray();
        string path = _folder.File("fuzz.qcow2");
        long end = Environment.TickCount64 + (seconds * 1000L);
        for (int run = 0; run < 2_000 || Environment.TickCount64 < end; run++)
        {
            Random random = new(unchecked(seed + run));
            byte[] bytes = image.AsSpan(0, random.Next(4) == 0 ? random.Next(700) : 4096).ToArray();
            for (int i = random.Next(1, 6); i > 0 && bytes.Length > 8; i--)
            {
                int at = random.Next(4, Math.Min(bytes.Length, 640));
                bytes[at] = random.Next(3) == 0 ? (byte)random.Next(256) : (byte)(bytes[at] ^ (1 << random.Next(8)));
            }

            File.WriteAllBytes(path, bytes);
            try
            {
                ImageInfo info = ImageFiles.GetInfo(path, ImageFormat.Qcow2);
                Assert.True(info.VirtualSize >= 0 && info.VirtualSize % 512 == 0);
            }
            catch (DiskException)
            {
                // Refused.
            }
            catch (Exception e)
            {
                throw new InvalidOperationException($"seed {unchecked(seed + run)}", e);
            }
        }
    }

    private static byte[] With(byte[] image, int offset, byte value)
    {
        byte[] copy = [.. image];
        copy[offset] = value;
        return copy;
    }

    private static void Qemu(params string[] args)
    {
        (int status, _, string error) = QemuImage.Run("qemu-img", args);
        Assert.True(status == 0, error);
    }

    private static void AssertSameInfo(string path, string what)
    {
        (int status, string output, string error) = QemuImage.Run("qemu-img", "info", "--output=json", path);
        Assert.True(status == 0, error);
        using JsonDocument document = JsonDocument.Parse(output);
        JsonElement theirs = document.RootElement;
        JsonElement data = theirs.GetProperty("format-specific").GetProperty("data");
        ImageInfo ours = ImageFiles.GetInfo(path);
        bool isVersion2 = data.GetProperty("compat").GetString() == "0.10";
        Assert.NotNull(ours.Qcow2);
        Assert.Equal(
            (what, theirs.GetProperty("virtual-size").GetInt64(), theirs.GetProperty("cluster-size").GetInt32(), theirs.GetProperty("dirty-flag").GetBoolean(), Optional("backing-filename"), Optional("full-backing-filename"), Optional("backing-filename-format")),
            (what, ours.VirtualSize, ours.ClusterSize!.Value, ours.IsDirty, ours.BackingFile, ours.FullBackingFile, ours.BackingFormat));
        Assert.Equal(
            (what, data.GetProperty("compat").GetString(), data.GetProperty("compression-type").GetString(), data.GetProperty("refcount-bits").GetInt32()),
            (what, ours.Qcow2.Compat, ours.Qcow2.CompressionType, ours.Qcow2.RefcountBits));
        Assert.Equal((what, Flag("lazy-refcounts"), Flag("corrupt"), Flag("extended-l2")), (what, ours.Qcow2.LazyRefcounts, ours.Qcow2.IsCorrupt, ours.Qcow2.HasExtendedL2));

        string? Optional(string name) => theirs.TryGetProperty(name, out JsonElement value) ? value.GetString() : null;
        bool Flag(string name) => !isVersion2 && data.GetProperty(name).GetBoolean();
    }

    private string Make()
    {
        string path = _folder.File("made.qcow2");
        Qemu("create", "-q", "-f", "qcow2", path, "100M");
        return path;
    }

    private string Refusal(byte[] image) =>
        Assert.Throws<DiskException>(() => ImageFiles.GetInfo(_folder.File("bad.qcow2", image), ImageFormat.Qcow2)).Message;
}
