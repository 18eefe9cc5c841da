using System.Globalization;
using System.Text;

namespace Tutti.Boot.Tests;

public class CpioWriterTests
{
    private sealed record Entry(string Name, uint Mode, byte[] Content, uint Links, uint Major, uint Minor, uint Inode);

    [Fact]
    public void Another_reader_finds_what_was_written()
    {
        byte[] file = [1, 2, 3, 4, 5];
        List<Entry> entries = Read(Write(cpio =>
        {
            cpio.AddDirectory("dev");
            cpio.AddCharacterDevice("dev/console", 5, 1);
            cpio.AddFile("init", file, 0x1ED);
            cpio.AddSymbolicLink("bin", "usr/bin");
            cpio.AddFile("empty", []);
        }));
        Assert.Equal(["dev", "dev/console", "init", "bin", "empty", "TRAILER!!!"], entries.Select(e => e.Name));
        Assert.Equal([0x41EDU, 0x2180U, 0x81EDU, 0xA1FFU, 0x81A4U, 0U], entries.Select(e => e.Mode));
        Assert.Equal((5U, 1U), (entries[1].Major, entries[1].Minor));
        Assert.Equal(file, entries[2].Content);
        Assert.Equal("usr/bin"u8.ToArray(), entries[3].Content);
        Assert.Empty(entries[4].Content);
        Assert.Equal(5, entries.Take(5).Select(e => e.Inode).Distinct().Count());
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Names_and_contents_of_every_length_are_aligned(int extra)
    {
        string name = new('n', 10 + extra);
        byte[] content = new byte[100 + extra];
        new Random(extra).NextBytes(content);
        byte[] archive = Write(cpio =>
        {
            cpio.AddFile(name, content);
            cpio.AddFile("after", content);
        });
        Assert.Equal(0, archive.Length % 512);
        Assert.All(Read(archive).Take(2), e => Assert.Equal(content, e.Content));
    }

    [Fact]
    public void The_same_calls_give_the_same_bytes()
    {
        static void Fill(CpioWriter cpio) => cpio.AddFile("a", [1]);
        Assert.Equal(Write(Fill), Write(Fill));
    }

    [Theory]
    [InlineData("")]
    [InlineData("/abs")]
    [InlineData("a/")]
    [InlineData("a/../b")]
    [InlineData("a\0b")]
    public void Paths_that_leave_the_archive_are_refused(string name) =>
        Assert.Throws<ArgumentException>(() => Write(cpio => cpio.AddFile(name, [])));

    private static byte[] Write(Action<CpioWriter> fill)
    {
        using MemoryStream stream = new();
        CpioWriter cpio = new(stream);
        fill(cpio);
        cpio.Finish();
        return stream.ToArray();
    }

    private static List<Entry> Read(byte[] archive)
    {
        List<Entry> entries = [];
        int at = 0;
        do
        {
            Assert.Equal("070701", Encoding.ASCII.GetString(archive, at, 6));
            uint[] fields = [.. Enumerable.Range(0, 13).Select(i => uint.Parse(Encoding.ASCII.GetString(archive, at + 6 + (i * 8), 8), NumberStyles.HexNumber, CultureInfo.InvariantCulture))];
            string name = Encoding.UTF8.GetString(archive, at + 110, (int)fields[11] - 1);
            Assert.Equal(0, archive[at + 110 + (int)fields[11] - 1]);
            int data = (at + 110 + (int)fields[11] + 3) & ~3;
            entries.Add(new Entry(name, fields[1], archive[data..(data + (int)fields[6])], fields[4], fields[9], fields[10], fields[0]));
            at = (data + (int)fields[6] + 3) & ~3;
        }
        while (entries[^1].Name != "TRAILER!!!");
        Assert.All(archive[at..], b => Assert.Equal(0, b));
        return entries;
    }
}
