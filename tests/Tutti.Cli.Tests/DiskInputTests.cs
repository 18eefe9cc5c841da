using System.Buffers.Binary;
using System.Diagnostics;
using Tutti.Storage;
using Tutti.Storage.Files;

namespace Tutti.Cli.Tests;

/// <summary>Disks that can't be used, given to the commands that would use them: one line that names the disk and says how to mend it, and status 2.</summary>
public sealed class DiskInputTests : IDisposable
{
    private readonly TuttiProcess _tutti = new();

    public void Dispose() => _tutti.Dispose();

    [Fact]
    public void A_missing_disk() => CheckRun(Name("none.img"), "does not exist; check the path, or make it with 'tutti disk create'");

    [Fact]
    public void A_file_of_qcow2s_name_that_is_none()
    {
        string path = _tutti.MakeFile("disk.qcow2", new byte[4096]);
        CheckRun(path, "is no qcow2 image, though its name says so");
        CheckRun($"{path},format=qcow2", "is no qcow2 image");
    }

    [Theory]
    [InlineData(0, "is no qcow2 image")]
    [InlineData(40, "is no qcow2 image")]
    [InlineData(512, "is cut short")]
    [InlineData(1 << 16, "is cut short")]
    [InlineData(3 << 16, "is cut short")]
    [InlineData((1 << 18) + 100, "is cut short")]
    public void A_qcow2_image_that_is_cut_short(int length, string expected)
    {
        string path = Name("disk.qcow2");
        ImageFiles.Create(path, ImageFormat.Qcow2, 1L << 40);
        // The 1 TiB have an L1 table of 2048 entries, one of which names an L2 table further on.
        byte[] image = [.. File.ReadAllBytes(path), .. new byte[1 << 19]];
        long l1 = BinaryPrimitives.ReadInt64BigEndian(image.AsSpan(40));
        BinaryPrimitives.WriteUInt64BigEndian(image.AsSpan((int)l1), (5UL << 16) | (1UL << 63));
        File.WriteAllBytes(path, image[..length]);
        CheckRun(path, expected);
        CheckRun($"{path},ro", expected);
        CheckRun($"{path},overlay", expected);
        Assert.Equal(length, new FileInfo(path).Length);
    }

    [Fact]
    public void A_chain_that_comes_back_to_itself()
    {
        (string first, string second) = (Name("first.qcow2"), Name("second.qcow2"));
        ImageFiles.Create(first, ImageFormat.Qcow2, 1 << 20);
        ImageFiles.Create(second, ImageFormat.Qcow2, null, "first.qcow2");
        File.Delete(first);
        ImageFiles.Create(first, ImageFormat.Qcow2, null, "second.qcow2");
        CheckRun(first, "a chain of more than 32 images, or of a circle");
        CheckRun($"{first},ro", "a chain of more than 32 images, or of a circle");
        CheckRun($"{first},overlay", "a chain of more than 32 images, or of a circle");
    }

    [Fact]
    public void A_backing_file_that_is_missing_cut_or_in_use()
    {
        (string below, string top) = (Name("below.qcow2"), Name("top.qcow2"));
        ImageFiles.Create(below, ImageFormat.Qcow2, 1 << 20);
        ImageFiles.Create(top, ImageFormat.Qcow2, null, "below.qcow2");
        using (BlockFile.Open(below, isReadOnly: false))
        {
            CheckRun(top, $"disk '{top}' stands on another: disk '{below}' is being written");
        }

        byte[] image = File.ReadAllBytes(below);
        File.WriteAllBytes(below, image[..(1 << 16)]);
        CheckRun(top, $"disk '{below}' is cut short");
        File.Delete(below);
        CheckRun(top, $"disk '{top}' stands on another: disk '{below}' does not exist");
    }

    [Fact]
    public void A_disk_in_a_format_that_is_not_supported()
    {
        byte[] bytes = new byte[1 << 20];
        "KDMV"u8.CopyTo(bytes);
        string path = _tutti.MakeFile("disk.vmdk", bytes);
        const string Expected = "is a VMDK image (VMware), which is not supported: convert it with 'qemu-img convert -O qcow2'; if its bytes are the disk, say format=raw";
        CheckRun(path, Expected);
        CheckRun($"{path},ro", Expected);
        CheckRun($"{path},overlay", Expected);
        CheckRefused(Expected, "run", "--engine", "software", path);
        CheckRefused(Expected, "disk", "check", path);
        CheckRefused(Expected, "disk", "resize", path, "2M");
        CheckRefused(Expected, "disk", "create", Name("over.qcow2"), "--backing", path);
        Assert.Contains("format:         vmdk\n", _tutti.Run("disk", "info", path).Output, StringComparison.Ordinal);
        Assert.Contains("\"format\": \"vmdk\"", _tutti.Run("disk", "info", "--json", path).Output, StringComparison.Ordinal);
        Assert.Equal(bytes, File.ReadAllBytes(path));
        Assert.Equal(0, _tutti.Run(RunWords($"{path},format=raw")).Status);
    }

    [Fact]
    public void A_backing_file_outside_the_image_s_folder()
    {
        string below = _tutti.MakeFile("below.raw", new byte[1 << 20]);
        string folder = Directory.CreateDirectory(Name("images")).FullName;
        string top = Path.Combine(folder, "top.qcow2");
        (int status, string output, string error) = _tutti.Run("disk", "create", top, "--backing", "../below.raw", "--backing-format", "raw");
        Assert.Equal((0, string.Empty, $"tutti: disk '{top}' stands on a file outside its folder: where you give it to a guest, say backing=allow\n"), (status, output, error));
        Assert.Contains("needs backing=allow", _tutti.Run("disk", "info", top).Output, StringComparison.Ordinal);
        CheckRun(top, "stands on '../below.raw', which is not among the files in its folder");
        CheckRun($"{top},ro", "say backing=allow if you trust it");
        CheckRun($"{top},overlay", "say backing=allow if you trust it");
        CheckRefused("say backing=allow if you trust it", "run", "--engine", "software", top);
        CheckRefused("say backing=allow if you trust it", "disk", "resize", top, "2M");
        CheckRun($"{top},backing=yes", "backing takes allow and nothing else");
        Assert.Equal(0, _tutti.Run(RunWords($"{top},backing=allow")).Status);
        Assert.Equal(0, _tutti.Run(RunWords($"{top},overlay,backing=allow")).Status);
        Assert.Equal((0, string.Empty, string.Empty), _tutti.Run("disk", "resize", "--backing=allow", top, "2M"));
        File.Move(below, Path.Combine(folder, "below.raw"));
        Assert.Equal((0, string.Empty, string.Empty), _tutti.Run("disk", "create", Name("images/second.qcow2"), "--backing", "below.raw"));
        Assert.Equal(0, _tutti.Run(RunWords(Name("images/second.qcow2"))).Status);
        Assert.DoesNotContain("backing=allow", _tutti.Run("disk", "info", Name("images/second.qcow2")).Output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("disk.img")]
    [InlineData("disk.qcow2")]
    public void A_disk_that_another_machine_has(string name)
    {
        string path = Name(name);
        ImageFiles.Create(path, name.EndsWith(".img", StringComparison.Ordinal) ? ImageFormat.Raw : ImageFormat.Qcow2, 1 << 20);
        using (BlockFile.Open(path, isReadOnly: false))
        {
            CheckRun(path, "is in use by another virtual machine");
            CheckRun($"{path},ro", "is being written by another virtual machine");
            CheckRun($"{path},overlay", "is being written by another virtual machine");
            CheckRefused("is in use by another virtual machine", "disk", "resize", path, "2M");
            Assert.Equal(0, _tutti.Run("disk", "info", path).Status);
        }

        using (BlockFile.Open(path, isReadOnly: true))
        {
            CheckRun(path, "is in use by another virtual machine");
        }
    }

    [Fact]
    public void The_same_disk_twice_in_one_machine()
    {
        string path = Name("disk.qcow2");
        ImageFiles.Create(path, ImageFormat.Qcow2, 1 << 20);
        CheckRefused("is in use", [.. RunWords(path), "--disk", path]);
    }

    [QemuIoFact]
    public void A_disk_that_a_program_of_QEMUs_has()
    {
        string path = Name("disk.qcow2");
        ImageFiles.Create(path, ImageFormat.Qcow2, 1 << 20);
        using Process qemu = Process.Start(new ProcessStartInfo("qemu-io", ["-f", "qcow2", path]) { RedirectStandardInput = true, RedirectStandardOutput = true })!;
        qemu.StandardInput.WriteLine("length");
        qemu.StandardInput.Flush();
        while (qemu.StandardOutput.ReadLine()?.Contains("MiB", StringComparison.Ordinal) == false)
        {
            // Its answer says that it has the image.
        }

        CheckRun(path, "is in use by another virtual machine");
        CheckRun($"{path},ro", "is being written by another virtual machine");
        CheckRefused("is in use by another virtual machine", "disk", "check", "--repair", path);
        qemu.StandardInput.Close();
        qemu.WaitForExit();
        Assert.Equal(0, _tutti.Run("disk", "check", path).Status);
    }

    [Fact]
    public void A_dirty_or_damaged_image_is_shown_as_it_is_and_mended_when_asked()
    {
        string path = Name("disk.qcow2");
        ImageFiles.Create(path, ImageFormat.Qcow2, 1 << 20);
        byte[] image = File.ReadAllBytes(path);
        image[79] |= 1;
        // No cluster is counted.
        image.AsSpan(2 << 16, 1 << 16).Clear();
        File.WriteAllBytes(path, image);
        Assert.Contains("not closed properly; mended when next opened for writing", _tutti.Run("disk", "info", path).Output, StringComparison.Ordinal);
        (int status, string output, _) = _tutti.Run("disk", "check", path);
        Assert.Equal(2, status);
        Assert.Contains("4 errors, 0 leaked clusters: data may be damaged; copy what matters, then use --repair", output, StringComparison.Ordinal);
        (status, output, _) = _tutti.Run("disk", "check", "--repair", path);
        Assert.Equal(0, status);
        Assert.Contains("mended: 0 leaked clusters, 4 errors\nno errors\n", output, StringComparison.Ordinal);
        Assert.Contains("state:          clean", _tutti.Run("disk", "info", path).Output, StringComparison.Ordinal);

        // The L1 table's own cluster as an L2 table: nothing says what is right.
        image[(3 << 16) + 5] = 3;
        File.WriteAllBytes(path, image);
        (status, output, _) = _tutti.Run("disk", "check", "--repair", path);
        Assert.Equal(2, status);
        Assert.Contains("that can't be mended here", output, StringComparison.Ordinal);
        CheckRun(path, "was not closed properly, and is damaged");
    }

    private string Name(string name) => Path.Combine(_tutti.Folder, name);

    private string[] RunWords(string disk) =>
        ["run", "--engine", "software", "--memory", "64M", "--kernel", _tutti.MakeFile("kernel", new TinyKernel().PowerOff().ToFile()), "--disk", disk];

    private void CheckRun(string disk, string expected) => CheckRefused(expected, RunWords(disk));

    private void CheckRefused(string expected, params string[] words)
    {
        (int status, string output, string error) = _tutti.Run(words);
        Assert.True(status == 2, $"status {status}: {output}{error}");
        Assert.Empty(output);
        Assert.Contains(expected, error, StringComparison.Ordinal);
        Assert.StartsWith("tutti: ", error, StringComparison.Ordinal);
        Assert.Equal(1, error.Count(c => c == '\n'));
    }
}

/// <summary>A test that needs qemu-io; skipped with that reason where it is not installed.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class QemuIoFactAttribute : FactAttribute
{
    public QemuIoFactAttribute() => Skip = (Environment.GetEnvironmentVariable("PATH") ?? string.Empty).Split(':').Any(folder => File.Exists(Path.Combine(folder, "qemu-io")))
        ? null
        : "qemu-io is not installed (Debian package qemu-utils)";
}
