var counts = new SortedDictionary<string, int>();
foreach (string word in "a small project that counts the words of a small text".Split(' '))
{
    counts[word] = counts.GetValueOrDefault(word) + 1;
}

Console.WriteLine(string.Join(", ", counts.Select(pair => $"{pair.Key} {pair.Value}")));
