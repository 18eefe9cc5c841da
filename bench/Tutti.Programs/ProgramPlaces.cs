using Tutti.Compare;

namespace Tutti.Programs;

/// <summary>Where programs are measured, in the order of the table's columns.</summary>
internal static class ProgramPlaces
{
    private static readonly (string Name, Place Place)[] s_all = [("native", Place.Native), ("tutti", Place.Tutti), ("qemu", Place.Qemu)];

    /// <param name="names">Names between commas; null for all.</param>
    /// <param name="hasAgainst">Whether another build of Tutti is measured, too.</param>
    /// <exception cref="CompareException">A name is unknown.</exception>
    internal static IReadOnlyList<Place> Choose(string? names, bool hasAgainst)
    {
        string[] words = names?.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries) ?? [.. s_all.Select(place => place.Name)];
        string? unknown = words.FirstOrDefault(word => s_all.All(place => place.Name != word));
        return unknown is null && words.Length > 0
            ? [.. s_all.Where(place => words.Contains(place.Name)).Select(place => place.Place), .. hasAgainst ? (Place[])[Place.Against] : []]
            : throw new CompareException($"--places '{unknown ?? names}' is none of {string.Join(", ", s_all.Select(place => place.Name))}");
    }
}
