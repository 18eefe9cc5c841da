using System.IO.MemoryMappedFiles;
using Tutti.Bench;

namespace Tutti.Compare.Tests;

/// <summary>What a process is said to keep in memory.</summary>
public class ResidentMemoryTests
{
    private const long Size = 32 << 20;

    [Fact]
    public void A_page_that_is_mapped_at_two_addresses_counts_once()
    {
        string path = Path.Combine(Path.GetTempPath(), Path.GetRandomFileName());
        using var file = MemoryMappedFile.CreateFromFile(new FileStream(path, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.None, 1, FileOptions.DeleteOnClose), null, Size, MemoryMappedFileAccess.ReadWrite, HandleInheritability.None, leaveOpen: false);
        using MemoryMappedViewAccessor one = file.CreateViewAccessor();
        using MemoryMappedViewAccessor other = file.CreateViewAccessor();
        Assert.Equal(0, InFiles());
        Touch(one);
        Assert.Equal(Size, InFiles());
        Touch(other);
        Assert.Equal(Size, InFiles());
    }

    [Fact]
    public void What_is_left_out_counts_apart()
    {
        (long none, long all) = ResidentMemory.Measure(Environment.ProcessId, _ => false);
        (long leftOut, long nothing) = ResidentMemory.Measure(Environment.ProcessId, _ => true);

        Assert.Equal(0, none);
        Assert.Equal(0, nothing);
        Assert.True(all > 0);
        Assert.True(leftOut > 0);
    }

    private static long InFiles() => ResidentMemory.Measure(Environment.ProcessId, mapping => mapping.File is null || mapping.Size != Size).Counted;

    private static void Touch(MemoryMappedViewAccessor view)
    {
        for (long i = 0; i < Size; i += 4096)
        {
            view.Write(i, (byte)1);
        }
    }
}
