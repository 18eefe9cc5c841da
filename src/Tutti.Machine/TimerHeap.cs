namespace Tutti.Machine;

/// <summary>What a <see cref="TimerHeap"/> holds; knows its place there.</summary>
internal class TimerEntry(Action onExpired)
{
    internal Action OnExpired { get; } = onExpired;

    internal long Deadline { get; set; }

    /// <summary>Index in the heap, -1 when not in it.</summary>
    internal int Index { get; set; } = -1;
}

/// <summary>A binary heap of deadlines whose entries can be moved and taken out; allocates only while it grows.</summary>
internal sealed class TimerHeap
{
    private TimerEntry[] _entries = new TimerEntry[16];

    internal int Count { get; private set; }

    internal TimerEntry? Earliest => Count > 0 ? _entries[0] : null;

    /// <summary>Puts an entry in, or moves it, to where its deadline belongs.</summary>
    internal void Set(TimerEntry entry, long deadline)
    {
        entry.Deadline = deadline;
        if (entry.Index < 0)
        {
            if (Count == _entries.Length)
            {
                Array.Resize(ref _entries, Count * 2);
            }

            Place(entry, Count++);
        }

        Settle(entry);
    }

    /// <summary>Takes an entry out, if it is in.</summary>
    internal void Remove(TimerEntry entry)
    {
        int index = entry.Index;
        if (index < 0)
        {
            return;
        }

        entry.Index = -1;
        TimerEntry last = _entries[--Count];
        _entries[Count] = null!;
        if (last != entry)
        {
            Place(last, index);
            Settle(last);
        }
    }

    internal void Clear()
    {
        while (Count > 0)
        {
            Remove(_entries[Count - 1]);
        }
    }

    private void Place(TimerEntry entry, int index)
    {
        _entries[index] = entry;
        entry.Index = index;
    }

    private void Settle(TimerEntry entry)
    {
        while (entry.Index > 0)
        {
            TimerEntry parent = _entries[(entry.Index - 1) / 2];
            if (parent.Deadline <= entry.Deadline)
            {
                break;
            }

            Swap(entry, parent);
        }

        while (true)
        {
            int child = (2 * entry.Index) + 1;
            if (child >= Count)
            {
                return;
            }

            if (child + 1 < Count && _entries[child + 1].Deadline < _entries[child].Deadline)
            {
                child++;
            }

            if (_entries[child].Deadline >= entry.Deadline)
            {
                return;
            }

            Swap(entry, _entries[child]);
        }
    }

    private void Swap(TimerEntry a, TimerEntry b)
    {
        int index = a.Index;
        Place(a, b.Index);
        Place(b, index);
    }
}
