using System.Globalization;
using System.Runtime.InteropServices;

namespace Tutti.Bench;

/// <summary>
/// What a process keeps in the host's memory, each physical page once: a page of a file that is mapped at two addresses (code
/// that is written at one and run at the other, a library's header) is counted by the kernel's Rss for each of them. Pages that
/// other processes map too count in full, so that the figure does not depend on what else runs.
/// </summary>
/// <remarks>Sources: proc_pid_smaps(5); Linux, Documentation/admin-guide/mm/pagemap.rst.</remarks>
internal sealed class ResidentMemory
{
    private const ulong IsPresent = 1UL << 63;

    /// <summary>Of a file or of shared memory: only those can be mapped twice.</summary>
    private const ulong IsFile = 1UL << 61;

    private readonly HashSet<(string File, long Page)> _seen = [];
    private readonly FileStream _pages;
    private readonly Predicate<Mapping> _isLeftOut;

    private ResidentMemory(int process, Predicate<Mapping> isLeftOut)
    {
        _pages = new FileStream($"/proc/{process}/pagemap", FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
        _isLeftOut = isLeftOut;
    }

    /// <summary>One line of /proc/PID/maps.</summary>
    /// <param name="Start">First address.</param>
    /// <param name="Size">Bytes, a multiple of 4096.</param>
    /// <param name="Rights">Such as "rw-p".</param>
    /// <param name="Offset">Where in the file it begins, in bytes.</param>
    /// <param name="File">Device and inode; null for none.</param>
    internal sealed record Mapping(long Start, long Size, string Rights, long Offset, string? File)
    {
        /// <summary>Null for a line that describes no mapping.</summary>
        internal static Mapping? Parse(string line)
        {
            string[] words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (words.Length < 5 || words[0].EndsWith(':'))
            {
                return null;
            }

            string[] bounds = words[0].Split('-');
            long start = Convert.ToInt64(bounds[0], 16);
            string? file = words[4] == "0" ? null : $"{words[3]} {words[4]}";
            return new Mapping(start, Convert.ToInt64(bounds[1], 16) - start, words[1], Convert.ToInt64(words[2], 16), file);
        }
    }

    /// <summary>Resident bytes of a process in mappings that are left out, and in all others.</summary>
    internal static (long LeftOut, long Counted) Measure(int process, Predicate<Mapping> isLeftOut)
    {
        var memory = new ResidentMemory(process, isLeftOut);
        using (memory._pages)
        {
            return memory.Measure($"/proc/{process}/smaps");
        }
    }

    private (long LeftOut, long Counted) Measure(string path)
    {
        long leftOut = 0;
        long counted = 0;
        bool isLeftOut = false;
        foreach (string line in File.ReadLines(path))
        {
            // "7f1c40000000-7f1c60000000 rw-p ..." begins a mapping, "Rss:   1024 kB" is a line of its details.
            if (Mapping.Parse(line) is { } mapping)
            {
                isLeftOut = _isLeftOut(mapping);
                counted -= isLeftOut ? 0 : CountSeen(mapping);
            }
            else if (line.StartsWith("Rss:", StringComparison.Ordinal))
            {
                long bytes = long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) * 1024;
                leftOut += isLeftOut ? bytes : 0;
                counted += isLeftOut ? 0 : bytes;
            }
        }

        return (leftOut, counted);
    }

    /// <summary>Resident bytes of a mapping that an earlier one has held too.</summary>
    private long CountSeen(Mapping mapping)
    {
        if (mapping.File is null)
        {
            return 0;
        }

        long pageSize = Environment.SystemPageSize;
        var entries = new ulong[mapping.Size / pageSize];
        _pages.Position = mapping.Start / pageSize * sizeof(ulong);
        int count = _pages.ReadAtLeast(MemoryMarshal.AsBytes(entries.AsSpan()), entries.Length * sizeof(ulong), throwOnEndOfStream: false) / sizeof(ulong);
        long seen = 0;
        for (int i = 0; i < count; i++)
        {
            bool holds = (entries[i] & (IsPresent | IsFile)) == (IsPresent | IsFile);
            if (holds && !_seen.Add((mapping.File, (mapping.Offset / pageSize) + i)))
            {
                seen += pageSize;
            }
        }

        return seen;
    }
}
