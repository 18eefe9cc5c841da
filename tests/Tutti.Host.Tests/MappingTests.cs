using System.Globalization;
using System.IO.MemoryMappedFiles;

namespace Tutti.Host.Tests;

public sealed unsafe class MappingTests
{
    [Fact]
    public void HostMappingIsZeroedWritableAndAlignedToHugePages()
    {
        using HostMapping mapping = new((4 << 20) + 1, hugePages: true);
        Assert.Equal((4 << 20) + 4096, mapping.Length);
        Assert.Equal(0, mapping.Address % (2 << 20));
        // SAFETY: the span covers exactly the mapping.
        Span<byte> bytes = new((void*)mapping.Address, (int)mapping.Length);
        Assert.Equal(-1, bytes.IndexOfAnyExcept((byte)0));
        bytes[0] = 1;
        bytes[^1] = 2;
        Assert.Equal(3, bytes[0] + bytes[^1]);
        mapping.Zero();
        Assert.Equal(-1, bytes.IndexOfAnyExcept((byte)0));
    }

    [Fact]
    public void HostMappingHasGapsOnBothSides()
    {
        using HostMapping mapping = new(8192);
        string? covering = Covering(mapping.Address);
        Assert.StartsWith($"{mapping.Address:x}-{mapping.Address + 8192:x} rw-p", covering);
        Assert.Contains("---p", Covering(mapping.Address - 1));
        Assert.Contains("---p", Covering(mapping.Address + 8192));
    }

    [Fact]
    public void LargeHostMappingSpendsNothingUntouched()
    {
        long before = Environment.WorkingSet;
        using HostMapping mapping = new(64L << 30);
        Assert.True(Environment.WorkingSet - before < 256 << 20);
    }

    [Fact]
    public void MappingNoHostHasRoomForIsAHostException()
    {
        HostException error = Assert.Throws<HostException>(() =>
        {
            // Together more than the 128 TiB of user addresses.
            List<HostMapping> all = [];
            try
            {
                for (int i = 0; i < 4; i++)
                {
                    all.Add(new HostMapping(1L << 46));
                }
            }
            finally
            {
                all.ForEach(m => m.Dispose());
            }
        });
        Assert.Equal("mmap", error.Call);
        Assert.Equal(12, error.Errno);
        Assert.Contains("errno 12", error.Message);
    }

    [Fact]
    public void DisposedMappingIsGone()
    {
        HostMapping mapping = new(4096);
        nint address = mapping.Address;
        mapping.Dispose();
        mapping.Dispose();
        Assert.DoesNotContain("rw-p", Covering(address) ?? string.Empty);
    }

    [Fact]
    public void CodeWrittenAtOneAddressRunsAtTheOther()
    {
        using ExecutableMapping mapping = new(100);
        Assert.Equal(4096, mapping.Length);
        // SAFETY: lea eax, [rdi+rdi]; ret fits in the page, and is the System V call it is called as.
        ReadOnlySpan<byte> code = [0x8D, 0x04, 0x3F, 0xC3];
        code.CopyTo(new Span<byte>((void*)mapping.WriteAddress, 100));
        int result = ((delegate* unmanaged<int, int>)mapping.ExecuteAddress)(21);
        Assert.Equal(42, result);
    }

    [Fact]
    public void NoViewIsBothWritableAndExecutable()
    {
        using ExecutableMapping mapping = new(1 << 20);
        Assert.Contains(" rw-s ", Covering(mapping.WriteAddress));
        Assert.Contains(" r-xs ", Covering(mapping.ExecuteAddress));
    }

    [Fact]
    public void ReleasedCodePagesAreTheHostsAgainAndThoseBeforeThemStay()
    {
        using ExecutableMapping mapping = new(1 << 20);
        // SAFETY: the spans cover exactly the views.
        Span<byte> written = new((void*)mapping.WriteAddress, (int)mapping.Length);
        ReadOnlySpan<byte> run = new((void*)mapping.ExecuteAddress, (int)mapping.Length);
        written.Fill(0xC3);
        Assert.Equal(1024, ResidentKilobytes(mapping.WriteAddress));
        Assert.Equal(-1, run.IndexOfAnyExcept((byte)0xC3));

        mapping.Release(4097);

        Assert.Equal(8, ResidentKilobytes(mapping.WriteAddress));
        Assert.Equal(8, ResidentKilobytes(mapping.ExecuteAddress));
        Assert.Equal(8192, run.IndexOfAnyExcept((byte)0xC3));
        Assert.Equal(-1, run[8192..].IndexOfAnyExcept((byte)0));
        written[^1] = 0x90;
        Assert.Equal(0x90, run[^1]);
        mapping.Release(mapping.Length);
        Assert.Equal(0x90, run[^1]);
        Assert.Throws<ArgumentOutOfRangeException>(() => mapping.Release(mapping.Length + 1));
    }

    [Fact]
    public void ReleasedMappingIsZeroAndTheHostsAgain()
    {
        using HostMapping mapping = new(1 << 20);
        // SAFETY: the span covers exactly the mapping.
        Span<byte> bytes = new((void*)mapping.Address, (int)mapping.Length);
        bytes.Fill(1);
        Assert.Equal(1024, ResidentKilobytes(mapping.Address));
        mapping.Release();
        Assert.Equal(0, ResidentKilobytes(mapping.Address));
        Assert.Equal(-1, bytes.IndexOfAnyExcept((byte)0));
    }

    [Fact]
    public void PagesOfAFileThatIsOnlyReadLeaveTheProcessAndComeBack()
    {
        string path = Path.GetTempFileName();
        try
        {
            byte[] content = [.. Enumerable.Range(0, 1 << 20).Select(i => (byte)(i % 251))];
            File.WriteAllBytes(path, content);
            using MemoryMappedFile file = MemoryMappedFile.CreateFromFile(path, FileMode.Open, null, 0, MemoryMappedFileAccess.Read);
            using MemoryMappedViewAccessor view = file.CreateViewAccessor(0, content.Length, MemoryMappedFileAccess.Read);
            nint address = view.SafeMemoryMappedViewHandle.DangerousGetHandle();
            // SAFETY: the span covers exactly the view.
            ReadOnlySpan<byte> bytes = new((void*)address, content.Length);
            Assert.True(bytes.SequenceEqual(content));
            Assert.Equal(1024, ResidentKilobytes(address));

            FilePages.Find().Both(FilePages.Find()).Release();

            Assert.Equal(0, ResidentKilobytes(address));
            Assert.True(bytes.SequenceEqual(content));
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public void OnlyMappingsThatAreTheirFilesAndStaySoAreReleased()
    {
        string path = Path.GetTempFileName();
        try
        {
            string read = Smaps("10000-20000 r-xp 00000000 fe:00 12 /usr/lib/with space.so", 0);
            string relocated = Smaps("20000-30000 r--p 00010000 fe:00 12 /usr/lib/with space.so", 0);
            File.WriteAllText(path, string.Concat(
                read,
                relocated,
                Smaps("30000-40000 rw-p 00020000 fe:00 12 /usr/lib/with space.so", 0),
                Smaps("40000-50000 r-xs 00000000 00:01 13 /memfd:code (deleted)", 0),
                Smaps("50000-60000 r--p 00000000 00:00 0", 0),
                Smaps("60000-61000 r-xp 00000000 00:00 0 [vdso]", 0),
                Smaps("70000-80000 r--p 00000000 fe:00 14 /usr/lib/other.so", 4)));
            FilePages before = FilePages.Find(path);
            Assert.Equal(2, before.Count);

            File.WriteAllText(path, read + relocated.Replace("Anonymous: 0", "Anonymous: 4", StringComparison.Ordinal));
            Assert.Equal(1, FilePages.Find(path).Both(before).Count);

            File.WriteAllText(path, read.Replace("with space", "another", StringComparison.Ordinal));
            Assert.Equal(0, FilePages.Find(path).Both(before).Count);
            Assert.Equal(0, FilePages.Find(path + ".none").Count);
        }
        finally
        {
            File.Delete(path);
        }
    }

    private static string Smaps(string mapping, int anonymous) =>
        string.Create(CultureInfo.InvariantCulture, $"{mapping}\nSize: 64 kB\nRss: 8 kB\nAnonymous: {anonymous} kB\nVmFlags: rd ex mr mw me\n");

    /// <summary>What the process has of a mapping in memory.</summary>
    private static int ResidentKilobytes(nint start)
    {
        string rss = File.ReadLines("/proc/self/smaps").SkipWhile(line => !line.StartsWith($"{start:x}-", StringComparison.Ordinal))
            .First(line => line.StartsWith("Rss:", StringComparison.Ordinal));
        return int.Parse(rss.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture);
    }

    private static string? Covering(nint address) => File.ReadLines("/proc/self/maps").FirstOrDefault(line =>
    {
        string[] range = line.Split(' ')[0].Split('-');
        return Convert.ToInt64(range[0], 16) <= address && address < Convert.ToInt64(range[1], 16);
    });

    [Fact]
    public void BufferHoldsItsBytesUntilItIsGivenBack()
    {
        var buffer = new HostBuffer(5000);
        Assert.Equal(5000, buffer.GetSpan().Length);
        Assert.False(buffer.GetSpan().ContainsAnyExcept((byte)0));
        buffer.GetSpan()[4999] = 7;
        Assert.Equal(7, buffer.Memory.Span[4999]);

        ((IDisposable)buffer).Dispose();

        Assert.Throws<ObjectDisposedException>(() => buffer.GetSpan().Length);
    }

    [Fact]
    public void RandomNumbersDiffer()
    {
        ulong set = 0;
        ulong clear = 0;
        for (int i = 0; i < 64; i++)
        {
            ulong value = HostRandom.Next();
            set |= value;
            clear |= ~value;
        }

        // A bit that were the same 64 times would be one in 2^58.
        Assert.Equal(ulong.MaxValue, set & clear);
    }
}
