namespace Tutti.Machine.Tests;

public sealed class TimerHeapTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void EarliestIsTheLeastOfARandomHistory(int seed)
    {
        Random random = new(seed);
        TimerHeap heap = new();
        TimerEntry[] entries = [.. Enumerable.Range(0, 100).Select(_ => new TimerEntry(() => { }))];
        HashSet<TimerEntry> model = [];
        for (int step = 0; step < 20_000; step++)
        {
            TimerEntry entry = entries[random.Next(entries.Length)];
            if (random.Next(3) == 0)
            {
                heap.Remove(entry);
                model.Remove(entry);
            }
            else
            {
                heap.Set(entry, random.Next(50));
                model.Add(entry);
            }

            Assert.Equal(model.Count, heap.Count);
            Assert.Equal(model.Count == 0 ? null : model.Min(e => e.Deadline), heap.Earliest?.Deadline);
        }

        heap.Clear();
        Assert.Null(heap.Earliest);
        Assert.All(entries, e => Assert.Equal(-1, e.Index));
    }
}
