using Tutti.Storage.Files;

namespace Tutti.Storage.Qcow2;

/// <summary>Tables of one cluster each, L2 tables or refcount blocks, that are kept in memory and written back. Its image's lock is held.</summary>
internal sealed class Qcow2TableCache
{
    /// <summary>Bytes of tables that are kept when nothing else is said.</summary>
    internal const long DefaultBytes = 8 << 20;
    private const int MinTables = 8;
    private readonly BlockFile _file;
    private readonly int _clusterSize;
    private readonly int _capacity;
    private readonly Action _beforeEviction;
    private readonly Dictionary<long, Table> _tables = [];
    private readonly List<Table> _all = [];
    private long _clock;
    private int _hand;

    /// <param name="file">The image.</param>
    /// <param name="clusterSize">Bytes of a table.</param>
    /// <param name="budget">Bytes of tables to keep, about.</param>
    /// <param name="beforeEviction">Is to make all tables clean, in the order that a crash asks for.</param>
    internal Qcow2TableCache(BlockFile file, int clusterSize, long budget, Action beforeEviction)
    {
        _file = file;
        _clusterSize = clusterSize;
        _capacity = (int)Math.Max(MinTables, budget / clusterSize);
        _beforeEviction = beforeEviction;
    }

    /// <summary>Whether any table waits to be written.</summary>
    internal bool IsDirty { get; private set; }

    /// <summary>Whether the table at an offset is in memory.</summary>
    internal bool Has(long offset) => _tables.ContainsKey(offset);

    /// <summary>The table at an offset of the file. It is good until the next call.</summary>
    internal Table Get(long offset)
    {
        if (!_tables.TryGetValue(offset, out Table? table))
        {
            table = Take(offset);
            try
            {
                _file.Read(table.Bytes, offset);
            }
            catch
            {
                Forget(offset);
                throw;
            }
        }

        table.LastUse = ++_clock;
        return table;
    }

    /// <summary>A table that is to be at an offset, all zeroes, and that has to be written.</summary>
    internal Table MakeEmpty(long offset)
    {
        Table table = _tables.TryGetValue(offset, out Table? old) ? old : Take(offset);
        Array.Clear(table.Bytes);
        table.LastUse = ++_clock;
        MarkDirty(table);
        return table;
    }

    internal void MarkDirty(Table table)
    {
        table.IsDirty = true;
        IsDirty = true;
    }

    /// <summary>Drops a table whose cluster is free.</summary>
    internal void Forget(long offset)
    {
        if (_tables.Remove(offset, out Table? table))
        {
            table.IsDirty = false;
            table.Offset = -1;
            table.LastUse = 0;
        }
    }

    internal void Write()
    {
        if (!IsDirty)
        {
            return;
        }

        foreach (Table table in _all)
        {
            if (table.IsDirty)
            {
                _file.Write(table.Bytes, table.Offset);
                table.IsDirty = false;
            }
        }

        IsDirty = false;
    }

    private Table Take(long offset)
    {
        Table table;
        if (_all.Count < _capacity)
        {
            table = new Table { Bytes = new byte[_clusterSize] };
            _all.Add(table);
        }
        else
        {
            table = FindOldest();
            if (table.IsDirty)
            {
                _beforeEviction();
            }

            _tables.Remove(table.Offset);
        }

        table.Offset = offset;
        table.IsDirty = false;
        _tables[offset] = table;
        return table;
    }

    private Table FindOldest()
    {
        // A sample of the tables is good enough, and its cost does not grow with the cache.
        Table oldest = _all[_hand];
        for (int i = 0; i < 8; i++)
        {
            _hand = (_hand + 1) % _all.Count;
            oldest = _all[_hand].LastUse < oldest.LastUse ? _all[_hand] : oldest;
        }

        // The newest one may still be in use by who asks for another.
        return oldest;
    }

    internal sealed class Table
    {
        internal required byte[] Bytes { get; init; }

        internal long Offset { get; set; }

        internal bool IsDirty { get; set; }

        internal long LastUse { get; set; }
    }
}
