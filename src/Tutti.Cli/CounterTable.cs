using System.Globalization;
using System.Text;
using Tutti.Cpu;

namespace Tutti.Cli;

/// <summary>What <c>--verbose</c> shows at the end.</summary>
internal static class CounterTable
{
    /// <summary>A heading for each group, then its rows; ends with a line break.</summary>
    internal static string Format(IReadOnlyList<EngineCounter> counters)
    {
        if (counters.Count == 0)
        {
            return "counters: this engine has none\n";
        }

        int nameWidth = counters.Max(counter => counter.Name.Length);
        int valueWidth = counters.Max(counter => Number(counter).Length);
        StringBuilder text = new();
        string? group = null;
        foreach (EngineCounter counter in counters)
        {
            if (counter.Group != group)
            {
                group = counter.Group;
                _ = text.Append(group).Append('\n');
            }

            string row = $"  {counter.Name.PadRight(nameWidth)}  {Number(counter).PadLeft(valueWidth)} {counter.Unit}";
            _ = text.Append(row.TrimEnd()).Append('\n');
        }

        return text.ToString();
    }

    private static string Number(EngineCounter counter) => counter.Value.ToString("N0", CultureInfo.InvariantCulture);
}
