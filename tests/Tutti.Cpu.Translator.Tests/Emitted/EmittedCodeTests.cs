using System.Diagnostics;
using System.Globalization;
using Tutti.Cpu.Interpreter.Tests.Oracle;

namespace Tutti.Cpu.Translator.Tests.Emitted;

/// <summary>Whatever the guest's code is, what is emitted for it stays inside the guest's RAM and its own state.</summary>
[Trait("Category", "Fuzz")]
public sealed unsafe class EmittedCodeTests : IDisposable
{
    private const int PageSize = 4096;
    private const int ShortRuns = 60;
    private const int BlocksPerPage = 6;

    private static readonly int Seconds = FromEnvironment("TUTTI_FUZZ_SECONDS");
    private static readonly int Seed = FromEnvironment("TUTTI_FUZZ_SEED");

    private readonly TranslationCache _cache = new();
    private readonly HashSet<ulong> _entries = [];
    private ulong _nextPage = PageSize;
    private int _blocks;

    public static TheoryData<GuestCodeKind> Kinds => [.. Enum.GetValues<GuestCodeKind>()];

    public void Dispose() => _cache.Dispose();

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Emitted_code_reaches_guest_memory_behind_a_lookup_and_its_own_state_only(GuestCodeKind kind)
    {
        var random = new SeededRandom((ulong)(Seed * 16) + (ulong)kind + 1);
        var pages = new GuestCode(random);
        var watch = Stopwatch.StartNew();
        byte[] bytes = new byte[2 * PageSize];
        for (int run = 0; run < ShortRuns || watch.Elapsed.TotalSeconds < Seconds / (double)Kinds.Count; run++)
        {
            pages.Fill(kind, bytes);
            _cache.Hot.IsEverything = run % 2 != 0;

            // No block here ever runs: that they share records does no harm.
            _cache.Hot.ForgetSites();
            for (int i = 0; i < BlocksPerPage; i++)
            {
                // One in six at the end of the page, where instructions cross it.
                int offset = i == 0 ? PageSize - 1 - random.Below(40) : random.Percent(20) ? 0 : random.Below(PageSize);
                TranslateAndCheck(bytes, offset, $"{kind}, seed {Seed}, run {run}");
            }

            _nextPage += PageSize;
        }

        Assert.True(_blocks > ShortRuns, "Hardly a block has been translated.");
        Assert.True(_cache.InstructionsTranslated > 2 * _cache.BlocksTranslated, "Hardly an instruction has been translated.");
    }

    /// <summary>What has reached past the guest's RAM once: differences and sums of displacements that overflow 32 bits.</summary>
    [Theory]
    [InlineData("30AB1BD8B550188BDB587E82F4")]
    [InlineData("48898300000070488983000000F4F4")]
    [InlineData("50488B842410000080F4")]
    [InlineData("488984240000008058F4")]
    [InlineData("48FFC3488983F8FFFF7F488983F0FFFF7FF4")]
    public void Displacements_that_overflow_are_looked_up_as_they_are(string hex)
    {
        byte[] bytes = new byte[2 * PageSize];
        Convert.FromHexString(hex).CopyTo(bytes, 0);
        TranslateAndCheck(bytes, 0, "By hand");
        Assert.Equal(Enum.GetValues<TlbSet>().Length, _blocks);
        _nextPage += PageSize;
        _cache.Hot.IsEverything = true;
        TranslateAndCheck(bytes, 0, "By hand, hot");
        Assert.Equal(2 * Enum.GetValues<TlbSet>().Length, _blocks);
    }

    private static int FromEnvironment(string name) =>
        int.TryParse(Environment.GetEnvironmentVariable(name), NumberStyles.None, CultureInfo.InvariantCulture, out int value) ? value : 0;

    private void TranslateAndCheck(byte[] bytes, int offset, string where)
    {
        ulong physical = _nextPage + (ulong)offset;

        // SAFETY: both pages are in the array, which stays where it is.
        fixed (byte* page = bytes)
        {
            foreach (TlbSet set in Enum.GetValues<TlbSet>())
            {
                if (_cache.IsFull)
                {
                    _cache.Clear();
                    _entries.Clear();
                }

                TranslatedBlock? block = _cache.Find(physical, set);
                if (block != null)
                {
                    continue;
                }

                long index = (long)(physical / PageSize);
                block = _cache.Translate(page, index, physical, set);
                if (block.IsCrossing)
                {
                    byte* crossing = page + offset;
                    block = _cache.TranslateCrossing(crossing, (index, index + 1), physical, (physical & ~0xFFFUL) + PageSize, set);
                }
                else
                {
                    _entries.Add((ulong)block.NearEntry);
                    _entries.UnionWith(_cache.Entries.Select(static entry => (ulong)entry.Host));
                }

                Check(block, bytes.AsSpan(offset, Math.Min(block.ByteLength + 1, bytes.Length - offset)), where);
            }
        }
    }

    private void Check(TranslatedBlock block, ReadOnlySpan<byte> guest, string where)
    {
        _blocks++;

        // SAFETY: the code region can be read where it runs, and the block lies in it.
        byte[] emitted = new ReadOnlySpan<byte>((byte*)block.FarEntry, (int)(_cache.End - block.FarEntry)).ToArray();
        IReadOnlyCollection<string> violations = EmittedCodeChecker.Check(
            new EmittedBlock(emitted, (ulong)block.FarEntry, (ulong)block.NearEntry, block.Set, _cache.Common, _entries.Contains)
            {
                Retries = Retries(block),
                Entries = block.NextPage != 0 ? [] : [.. _cache.Entries.Select(static entry => (ulong)entry.Host)],
            });
        if (violations.Count > 0)
        {
            Assert.Fail($"{where}, {block.Set}, offset {block.Physical & 0xFFF:x}, guest bytes {Convert.ToHexString(guest)}:\n"
                + $"{string.Join('\n', violations)}\nemitted {Convert.ToHexString(emitted)}");
        }
    }

    /// <summary>Where the block goes on after faults.</summary>
    private static Dictionary<ulong, (int Cached, int Region)> Retries(TranslatedBlock block)
    {
        Dictionary<ulong, (int Cached, int Region)> retries = [];
        foreach (ulong access in block is WindowBlock window ? window.Accesses : [])
        {
            retries.Add((ulong)(block.FarEntry + WindowBlock.DistanceOf(access)), (WindowBlock.CachedOf(access), WindowBlock.RegionOf(access)));
        }

        return retries;
    }
}
