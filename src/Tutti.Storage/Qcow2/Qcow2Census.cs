namespace Tutti.Storage.Qcow2;

/// <summary>What a cluster is used for.</summary>
internal enum Qcow2Use : byte
{
    None,

    /// <summary>The header, or one of the tables that only one may use.</summary>
    Alone,

    /// <summary>An L2 table, which snapshots may share.</summary>
    Table,

    /// <summary>A guest's bytes, which snapshots may share.</summary>
    Data,
}

/// <summary>How many users each cluster of an image has, and what was found wrong on the way.</summary>
internal sealed class Qcow2Census(int clusters, int clusterBits)
{
    private const int MaxMessages = 100;
    private readonly List<string> _messages = [];
    private uint[] _users = new uint[clusters];
    private Qcow2Use[] _uses = new Qcow2Use[clusters];
    private long _last;

    /// <summary>Clusters that the file has.</summary>
    internal long Length { get; private set; } = clusters;

    internal long TotalClusters { get; init; }

    internal long AllocatedClusters { get; set; }

    internal long CompressedClusters { get; set; }

    internal long FragmentedClusters { get; set; }

    internal long NextPlace { get; set; }

    internal long Leaks { get; private set; }

    /// <summary>Tables that can't be believed: nothing says what they should be.</summary>
    internal long Damages { get; private set; }

    /// <summary>Counts, and what rests on them, that are wrong: the tables say what they should be.</summary>
    internal long Miscounts { get; private set; }

    /// <summary>The first thing that was found wrong.</summary>
    internal string? First => _messages.Count == 0 ? null : _messages[0];

    internal bool IsSound => Leaks + Damages + Miscounts == 0;

    internal bool Has(long place) => place >> clusterBits < Length;

    internal ulong UsersOf(long cluster) => cluster < Length ? _users[cluster] : 0;

    internal void Use(long place, long length, Qcow2Use use, string what)
    {
        if (length == 0)
        {
            return;
        }

        long last = (place + length - 1) >> clusterBits;
        for (long cluster = place >> clusterBits; cluster <= last; cluster++)
        {
            if (cluster >= Length)
            {
                Corrupt($"{what} is behind the file's end, at offset 0x{place:x}");
                return;
            }

            if (_uses[cluster] != Qcow2Use.None && (_uses[cluster] != use || use == Qcow2Use.Alone))
            {
                Corrupt($"{what} at offset 0x{place:x} is where something else is");
            }

            _uses[cluster] = use;
            _users[cluster]++;
            _last = Math.Max(_last, cluster + 1);
        }
    }

    /// <summary>A cluster has come into use that had no users, perhaps behind the file's end.</summary>
    internal void Take(long cluster)
    {
        if (cluster >= _users.Length)
        {
            Array.Resize(ref _users, (int)Math.Max(cluster + 1, _users.Length * 5L / 4));
            Array.Resize(ref _uses, _users.Length);
        }

        Length = Math.Max(Length, cluster + 1);
        _users[cluster] = 1;
        _uses[cluster] = Qcow2Use.Alone;
    }

    internal void Leak(string text)
    {
        Leaks++;
        Say($"leaked: {text}");
    }

    internal void Miscount(string text)
    {
        Miscounts++;
        Say($"ERROR: {text}");
    }

    internal void Corrupt(string text)
    {
        Damages++;
        Say($"ERROR: {text}");
    }

    internal ImageCheck Result() => new()
    {
        EndOffset = _last << clusterBits,
        TotalClusters = TotalClusters,
        AllocatedClusters = AllocatedClusters,
        CompressedClusters = CompressedClusters,
        FragmentedClusters = FragmentedClusters,
        Leaks = Leaks,
        Corruptions = Damages + Miscounts,
        Messages = _messages,
    };

    private void Say(string text)
    {
        if (_messages.Count < MaxMessages)
        {
            _messages.Add(text);
        }
    }
}
