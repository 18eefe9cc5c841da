using System.Diagnostics;
using Tutti.Devices.Block;

namespace Tutti.Storage.Tests.Crash;

/// <summary>
/// What each sector of a disk may hold after a crash. Requests that overlap are not under way at once, so those of a sector have an order: it may hold
/// what the last write that a completed flush covers has left, or what any later one would leave.
/// </summary>
internal sealed class CrashModel
{
    private readonly long[] _settled;
    private readonly SortedDictionary<long, List<Candidate>> _open = [];
    private readonly Dictionary<long, CrashRequest> _underWay = [];
    private readonly Dictionary<long, CrashRequest> _completed = [];
    private readonly Dictionary<long, HashSet<long>> _flushes = [];

    /// <param name="sectors">The disk's size.</param>
    /// <param name="initial">What a sector holds at first.</param>
    public CrashModel(int sectors, Func<int, long>? initial = null)
    {
        _settled = new long[sectors];
        for (int i = 0; i < sectors && initial != null; i++)
        {
            _settled[i] = initial(i);
        }
    }

    private CrashModel(CrashModel other) => _settled = [.. other._settled];

    public int Sectors => _settled.Length;

    /// <summary>Flushes that ended.</summary>
    public int Flushes { get; private set; }

    /// <summary>Writes, discards and writes of zeroes that were submitted.</summary>
    public int Requests { get; private set; }

    /// <summary>A model of the same disk before anything was done.</summary>
    public CrashModel Copy() => _open.Count == 0 ? new(this) : throw new UnreachableException();

    public void Submit(CrashRequest request)
    {
        if (request.Operation == BlockOperation.Flush)
        {
            _flushes.Add(request.Id, [.. _completed.Keys]);
            return;
        }

        Requests++;
        _underWay.Add(request.Id, request);
        long value = request.Operation == BlockOperation.Write ? request.Id : SectorStamp.Zeroes;
        for (long sector = request.Offset / SectorStamp.Size; sector < (request.Offset + request.Length) / SectorStamp.Size; sector++)
        {
            if (!_open.TryGetValue(sector, out List<Candidate>? candidates))
            {
                _open.Add(sector, candidates = [new Candidate(0, _settled[sector], IsSure: true)]);
            }

            // A discard may leave things as they are.
            candidates.Add(new Candidate(request.Id, value, IsSure: request.Operation != BlockOperation.Discard));
        }
    }

    public void Complete(long id)
    {
        if (_flushes.Remove(id, out HashSet<long>? covered))
        {
            Flushes++;
            foreach (List<Candidate> candidates in _open.Values)
            {
                int last = candidates.FindLastIndex(c => c.IsSure && covered.Contains(c.Id));
                candidates.RemoveRange(0, Math.Max(last, 0));
            }

            // Their part is done: what they have left is first in its sectors' lists.
            foreach (long done in covered)
            {
                _completed.Remove(done);
            }
        }
        else if (_underWay.Remove(id, out CrashRequest request))
        {
            _completed.Add(id, request);
        }
    }

    /// <summary>Takes what is on the disk now.</summary>
    /// <returns>Null, or what is wrong with it.</returns>
    public string? Adopt(long firstSector, ReadOnlySpan<byte> bytes)
    {
        for (int at = 0; at < bytes.Length; at += SectorStamp.Size)
        {
            long sector = firstSector + (at / SectorStamp.Size);
            long found = SectorStamp.Find(bytes.Slice(at, SectorStamp.Size), sector);
            bool isRight = _open.TryGetValue(sector, out List<Candidate>? candidates) ? candidates.Exists(c => c.Value == found) : found == _settled[sector];
            if (!isRight)
            {
                string holds = found == SectorStamp.Unknown ? SectorStamp.Describe(bytes.Slice(at, SectorStamp.Size), sector) : $"holds {found}";
                return $"sector {sector} {holds}, and may hold {(candidates == null ? _settled[sector] : string.Join(", ", candidates.Select(c => c.Value)))}";
            }

            _settled[sector] = found;
        }

        return null;
    }

    /// <summary>All sectors have been adopted; what the crash has ended goes no further.</summary>
    public void Settle()
    {
        _open.Clear();
        _underWay.Clear();
        _completed.Clear();
        _flushes.Clear();
    }

    private readonly record struct Candidate(long Id, long Value, bool IsSure);
}

/// <summary>A request as a model needs it.</summary>
internal readonly record struct CrashRequest(long Id, BlockOperation Operation, long Offset, long Length);
