using System.IO.Enumeration;

namespace Tutti.Guests.Disks;

/// <summary>Names with wildcards: "*" for any letters, "?" for one.</summary>
internal static class FilePattern
{
    /// <summary>No file system has longer names. What a pattern costs grows with its length for each letter of a name.</summary>
    private const int MaxLength = 255;

    /// <summary>Whether a name is one of those that a pattern stands for.</summary>
    public static bool Matches(string pattern, string name, bool ignoreCase) =>
        pattern.Length <= MaxLength && FileSystemName.MatchesSimpleExpression(pattern, name, ignoreCase);
}
