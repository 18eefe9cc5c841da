using System.Globalization;

namespace Tutti.Cpu.Translator.Tests.Emitted;

/// <summary>What becomes of the code region's memory.</summary>
public sealed unsafe class TranslationCacheTests
{
    private const int PageSize = 4096;

    [Fact]
    public void Memory_of_dropped_code_is_the_hosts_again_and_the_region_goes_on_working()
    {
        using TranslationCache cache = new();
        byte[] code = new byte[2 * PageSize];
        // inc qword ptr [rbx], and a return at the end.
        for (int i = 0; i < PageSize - 3; i += 3)
        {
            new byte[] { 0x48, 0xFF, 0x03 }.CopyTo(code, i);
        }

        code[PageSize - 1] = 0xC3;
        Translate(cache, code, pages: 80);
        Assert.InRange(cache.UsedBytes, 1 << 20, 63 << 20);
        Assert.InRange(ResidentBytes(cache), cache.UsedBytes, 64 << 20);

        cache.Clear();
        cache.ReleaseMemory();
        Assert.Equal(0, cache.UsedBytes);
        Assert.InRange(ResidentBytes(cache), 0, 64 << 10);
        Assert.Null(cache.Find(PageSize, TlbSet.User));

        Translate(cache, code, pages: 1);
        Assert.NotNull(cache.Find(PageSize, TlbSet.User));
        Assert.InRange(cache.UsedBytes, 1, 1 << 20);
    }

    /// <summary>Where the guest comes back from a fault, the code around goes on: a loop would be cut in two.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_block_ends_before_another_one_but_not_before_one_that_was_resumed(bool isResumed)
    {
        const int Middle = 8;
        const int Length = 17;
        using TranslationCache cache = new();
        byte[] code = new byte[PageSize];
        code.AsSpan(0, Length - 1).Fill(0x90);
        code[Length - 1] = 0xC3;

        // SAFETY: the page is in the array, which stays where it is.
        fixed (byte* page = code)
        {
            TranslatedBlock resumed = cache.Translate(page, 1, PageSize + Middle, TlbSet.User, isResumed);
            TranslatedBlock whole = cache.Translate(page, 1, PageSize, TlbSet.User);
            Assert.Equal(isResumed ? Length : Middle, whole.ByteLength);
            Assert.Same(resumed, cache.Find(PageSize + Middle, TlbSet.User));
        }
    }

    private static void Translate(TranslationCache cache, byte[] code, int pages)
    {
        // SAFETY: the page is in the array, which stays where it is.
        fixed (byte* page = code)
        {
            for (int number = 1; number <= pages; number++)
            {
                // A block at each instruction that one may jump to: each is translated by itself.
                for (int offset = 0; offset < PageSize; offset += 96)
                {
                    _ = cache.Translate(page, number, ((ulong)number * PageSize) + (ulong)offset, TlbSet.User);
                }
            }
        }
    }

    /// <summary>What the process has in memory of the region, in either view, each page once.</summary>
    private static long ResidentBytes(TranslationCache cache)
    {
        string file = File.ReadLines("/proc/self/maps").Select(Words).First(words => Covers(words[0], cache.Common.Enter))[4];
        long sum = 0;
        bool isRegion = false;
        foreach (string[] words in File.ReadLines("/proc/self/smaps").Select(Words))
        {
            isRegion = words[0].EndsWith(':') ? isRegion : words[4] == file;
            sum += isRegion && words[0] == "Pss:" ? long.Parse(words[1], CultureInfo.InvariantCulture) * 1024 : 0;
        }

        return sum;
    }

    private static string[] Words(string line) => line.Split(' ', StringSplitOptions.RemoveEmptyEntries);

    private static bool Covers(string range, long address)
    {
        long[] bounds = [.. range.Split('-').Select(bound => long.Parse(bound, NumberStyles.HexNumber, CultureInfo.InvariantCulture))];
        return bounds[0] <= address && address < bounds[1];
    }
}
