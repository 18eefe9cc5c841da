using System.Text.Json;
using Tutti.Storage;

namespace Tutti.Cli.Tests;

public sealed class DiskTests : IDisposable
{
    private readonly TuttiProcess _tutti = new();

    public void Dispose() => _tutti.Dispose();

    [Fact]
    public void All_words_of_a_disk()
    {
        DiskOptions options = DiskOption.Parse("a,,b.img,format=raw,overlay,serial=S1,queues=4,bps=10M,bps-rd=1M,bps-wr=2M,bps-burst=20M,iops=100,iops-rd=50,iops-wr=60,iops-burst=7");
        Assert.Equal("a,b.img", options.Path);
        Assert.Same(ImageFormat.Raw, options.Format);
        Assert.True(options.IsOverlay);
        Assert.False(options.IsReadOnly);
        Assert.Equal("S1", options.Serial);
        Assert.Equal(4, options.QueueCount);
        DiskLimits expected = new()
        {
            BytesPerSecond = 10 << 20,
            ReadBytesPerSecond = 1 << 20,
            WriteBytesPerSecond = 2 << 20,
            BytesBurst = 20 << 20,
            OperationsPerSecond = 100,
            ReadOperationsPerSecond = 50,
            WriteOperationsPerSecond = 60,
            OperationsBurst = 7,
        };
        Assert.Equal(expected, options.Limits);
        Assert.True(DiskOption.Parse("x,ro").IsReadOnly);
        Assert.Null(DiskOption.Parse("x").Format);
        Assert.True(DiskOption.Parse("x").Limits.IsNone);
    }

    /// <summary>The image says these names, and a stranger perhaps made it.</summary>
    [Fact]
    public void What_an_image_says_of_itself_does_not_talk_to_the_terminal()
    {
        using StringWriter output = new();
        DiskReports.Write(output, "a\u001b[31m", new ImageInfo { Format = "qcow2", VirtualSize = 1, ActualSize = 1, BackingFile = "b\u001b]0;x\u0007\nc", FullBackingFile = "d\u009b1m", BackingFormat = "e\r\u001bc" });
        string[] lines = output.ToString().Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.DoesNotContain(lines, line => line.Any(char.IsControl));
        Assert.Equal(6, lines.Length);
    }

    [Theory]
    [InlineData("", "names no file")]
    [InlineData(",ro", "names no file")]
    [InlineData("x,rw", "'rw' is no word of it; it takes ro, overlay, format=")]
    [InlineData("x,", "'' is no word of it")]
    [InlineData("x,ro=1", "'ro=1' is no word of it")]
    [InlineData("x,format", "'format' needs a value: format=...")]
    [InlineData("x,format=vmdk", "no format 'vmdk'; formats: raw, qcow2")]
    [InlineData("x,ro,ro", "'ro' is there twice")]
    [InlineData("x,ro,overlay", "give either ro or overlay")]
    [InlineData("x,serial=", "a serial number is 1 to 20")]
    [InlineData("x,serial=123456789012345678901", "a serial number is 1 to 20")]
    [InlineData("x,queues=0", "queues '0' is no number from 1 to 16")]
    [InlineData("x,queues=17", "queues '17' is no number from 1 to 16")]
    [InlineData("x,bps=fast", "bps 'fast' is no size above 0")]
    [InlineData("x,iops=-1", "iops '-1' is no number from 1")]
    public void A_wrong_word_of_a_disk_is_told(string text, string expected)
    {
        string message = Assert.Throws<UserException>(() => DiskOption.Parse(text)).Message;
        Assert.StartsWith($"--disk '{text}'", message, StringComparison.Ordinal);
        Assert.Contains(expected, message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_raw_image_is_made_shown_and_resized()
    {
        string path = Path.Combine(_tutti.Folder, "disk.img");
        Assert.Equal((0, string.Empty, string.Empty), _tutti.Run("disk", "create", "--format", "raw", path, "10M"));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(path));
        Assert.Equal((0, string.Empty, string.Empty), _tutti.Run("disk", "resize", path, "+1M"));
        (int status, string output, _) = _tutti.Run("disk", "info", "--json", path);
        Assert.Equal(0, status);
        JsonElement info = JsonDocument.Parse(output).RootElement;
        Assert.Equal("raw", info.GetProperty("format").GetString());
        Assert.Equal(11 << 20, info.GetProperty("virtual-size").GetInt64());
        Assert.Equal(path, info.GetProperty("filename").GetString());
        CheckRefused("add --shrink", "disk", "resize", path, "1M");
        Assert.Equal((0, string.Empty, string.Empty), _tutti.Run("disk", "resize", "--shrink", path, "-2M"));
        Assert.Equal(9 << 20, new FileInfo(path).Length);
        Assert.Contains("9 MiB (9437184 bytes)", _tutti.Run("disk", "info", path).Output, StringComparison.Ordinal);
        CheckRefused("nothing in it to check", "disk", "check", path);
        CheckRefused("exists already", "disk", "create", path, "1M");
        Assert.Equal([path], Directory.GetFiles(_tutti.Folder));
    }

    [Theory]
    [InlineData("is no size above 0", "create", "DISK", "large")]
    [InlineData("is no size above 0", "create", "DISK", "0")]
    [InlineData("say how large", "create", "DISK")]
    [InlineData("no format 'vdi'", "create", "DISK", "1M", "--format", "vdi")]
    [InlineData("folder does not exist", "create", "/no/such/folder/disk", "1M")]
    [InlineData("does not exist", "create", "DISK", "--backing", "missing.img")]
    [InlineData("name one with --backing", "create", "DISK", "1M", "--backing-format", "raw")]
    [InlineData("does not exist", "info", "DISK")]
    [InlineData("is a folder", "info", "/")]
    [InlineData("does not exist", "check", "DISK")]
    [InlineData("does not exist", "resize", "DISK", "1M")]
    [InlineData("is no size above 0", "resize", "DISK", "+")]
    public void A_wrong_word_of_a_disk_command_is_one_line_and_leaves_nothing(string expected, params string[] words)
    {
        CheckRefused(expected, ["disk", .. words.Select(word => word == "DISK" ? Path.Combine(_tutti.Folder, "disk.img") : word)]);
        Assert.Empty(Directory.EnumerateFileSystemEntries(_tutti.Folder));
    }

    private void CheckRefused(string expected, params string[] words)
    {
        (int status, string output, string error) = _tutti.Run(words);
        Assert.Equal(2, status);
        Assert.Empty(output);
        Assert.Contains(expected, error, StringComparison.Ordinal);
        Assert.StartsWith("tutti: ", error, StringComparison.Ordinal);
        Assert.Equal(1, error.Count(c => c == '\n'));
    }
}
