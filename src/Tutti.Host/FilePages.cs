using System.Globalization;

namespace Tutti.Host;

/// <summary>
/// The process's mappings of files (programs, libraries, assemblies) that are only read. Their resident pages are the kernel's cache of
/// the files: taken out of the process, they stay there, for others that map them too, as long as the host has room, and come back
/// with the next access, several at a time.
/// </summary>
/// <remarks>Sources: proc_pid_smaps(5), madvise(2).</remarks>
public sealed class FilePages
{
    private readonly HashSet<(nint Start, nint Length, string File)> _mappings;

    private FilePages(HashSet<(nint Start, nint Length, string File)> mappings) => _mappings = mappings;

    /// <summary>Mappings found.</summary>
    public int Count => _mappings.Count;

    /// <summary>
    /// The mappings of now that cannot be written and of which no page is the process's own copy. A loader may be about to write one of
    /// them, so a single look is not enough for <see cref="Release"/>: see <see cref="Both"/>.
    /// </summary>
    /// <param name="smaps">Where the kernel lists the mappings.</param>
    public static FilePages Find(string smaps = "/proc/self/smaps")
    {
        FilePages found = new([]);
        try
        {
            found.Add(File.ReadLines(smaps));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Hosts that do not tell lose no more than this.
        }

        return found;
    }

    /// <summary>Those that are in an earlier look too: what a loader was about to write then is its own copy now.</summary>
    public FilePages Both(FilePages earlier)
    {
        ArgumentNullException.ThrowIfNull(earlier);
        _mappings.IntersectWith(earlier._mappings);
        return this;
    }

    /// <summary>Takes the pages out of the process; nothing where the kernel refuses.</summary>
    public void Release()
    {
        foreach ((nint start, nint length, _) in _mappings)
        {
            _ = LibC.madvise(start, (nuint)length, LibC.MADV_DONTNEED);
        }
    }

    private void Add(IEnumerable<string> lines)
    {
        (nint Start, nint Length, string File)? mapping = null;
        foreach (string line in lines)
        {
            if (line.StartsWith("Anonymous:", StringComparison.Ordinal))
            {
                if (mapping is { } clean && IsZero(line))
                {
                    _mappings.Add(clean);
                }
            }
            else if (line.Length > 0 && !char.IsAsciiLetterUpper(line[0]))
            {
                // Details begin with a capital letter, mappings with their address.
                mapping = Parse(line);
            }
        }
    }

    /// <summary>A line like "7f1c40000000-7f1c40021000 r-xp 00001000 fe:00 1234    /usr/lib/x.so"; null for what is not to be released.</summary>
    private static (nint Start, nint Length, string File)? Parse(string line)
    {
        string[] words = line.Split(' ', 6, StringSplitOptions.RemoveEmptyEntries);
        bool isFile = words.Length == 6 && words[5].StartsWith('/') && !words[5].StartsWith("/memfd:", StringComparison.Ordinal);
        int dash = words[0].IndexOf('-');
        if (!isFile || dash < 0 || words[1].Contains('w'))
        {
            return null;
        }

        nint start = nint.Parse(words[0].AsSpan(0, dash), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
        nint end = nint.Parse(words[0].AsSpan(dash + 1), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
        return (start, end - start, words[5]);
    }

    private static bool IsZero(string line) => line.Split(' ', StringSplitOptions.RemoveEmptyEntries) is [_, "0", ..];
}
