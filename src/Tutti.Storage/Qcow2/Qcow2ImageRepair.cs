using System.Buffers.Binary;

namespace Tutti.Storage.Qcow2;

/// <summary>
/// Makes reference counts anew from the tables that name clusters, for an image that says they may be wrong (the dirty bit: lazy refcounts of QEMU, and no
/// orderly end), or when the user asks. Tables that can't be believed are left as they are: nothing says what should be there.
/// </summary>
internal sealed partial class Qcow2Image
{
    /// <summary>Counts that are made anew may need new clusters, whose counts then are looked at again.</summary>
    private const int MaxPasses = 4;

    /// <summary>Mends what can be mended. The image has been opened for writing, and nothing was done with it yet.</summary>
    /// <returns>What is still wrong, and how much is not any more.</returns>
    /// <exception cref="DiskException">As <see cref="Check"/>.</exception>
    /// <exception cref="Host.HostException">The storage fails; the image is no worse than before.</exception>
    internal ImageCheck Mend()
    {
        Qcow2Census first = TakeCensus();
        Qcow2Census last = first;
        for (int pass = 0; pass < MaxPasses && last.Damages == 0 && !last.IsSound; pass++)
        {
            Correct(last);
            last = TakeCensus();
        }

        if (last.IsSound)
        {
            ClearMarks();
        }

        return last.Result() with
        {
            LeaksFixed = Math.Max(first.Leaks - last.Leaks, 0),
            CorruptionsFixed = Math.Max(first.Miscounts - last.Miscounts, 0),
            Messages = last.Damages != 0 ? last.Result().Messages : first.Result().Messages,
        };
    }

    /// <summary>Counts first; an entry may say that its cluster is nobody else's only when the count says so too.</summary>
    private void Correct(Qcow2Census census)
    {
        List<long> freed = [];
        _refcounts.IsReserved = cluster => census.UsersOf(cluster) != 0;
        _refcounts.OnTaken = census.Take;
        try
        {
            _refcounts.DropBlocks(entry => !_refcounts.IsBlock(entry) || !census.Has((long)entry));
            ForEachWrongCount(census, (cluster, expected, _) =>
            {
                _refcounts.Set(cluster, expected);
                if (expected == 0)
                {
                    freed.Add(cluster);
                }
            });
            _refcounts.Write();
            _file.Flush();
        }
        finally
        {
            _refcounts.IsReserved = null;
            _refcounts.OnTaken = null;
        }

        ForEachCopied((entry, place) => census.UsersOf(place >> _clusterBits) == 1 ? entry | Copied : entry & ~Copied);
        WriteTables();
        _file.Flush();
        GiveBack(freed.Where(cluster => census.UsersOf(cluster) == 0));
    }

    /// <summary>Punches holes where nothing is, a run of clusters at a time.</summary>
    private void GiveBack(IEnumerable<long> clusters)
    {
        long start = 0;
        long end = 0;
        foreach (long cluster in clusters)
        {
            if (cluster != end)
            {
                Punch(start, end);
                start = cluster;
            }

            end = cluster + 1;
        }

        Punch(start, end);
    }

    /// <summary>The image is sound, and may say so.</summary>
    private void ClearMarks()
    {
        Qcow2Incompatible features = _header.Incompatible & ~(Qcow2Incompatible.Dirty | Qcow2Incompatible.Corrupt);
        if (features != _header.Incompatible)
        {
            Span<byte> bytes = stackalloc byte[8];
            BinaryPrimitives.WriteUInt64BigEndian(bytes, (ulong)features);
            _file.Write(bytes, 72);
            _file.Flush();
            _header = _header with { Incompatible = features };
        }

        _isCorrupt = false;
    }
}
