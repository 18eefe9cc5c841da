using System.Globalization;

namespace Tutti.Host;

/// <summary>How much memory the host has for this process.</summary>
/// <param name="Total">Bytes of RAM, or the limit of the process's control groups where that is lower.</param>
/// <param name="Available">Bytes that the kernel thinks can be had without swapping, never above <see cref="Total"/>.</param>
public readonly record struct HostMemory(long Total, long Available)
{
    /// <summary>Asks the kernel; sources: proc(5), cgroups(7). What can't be read counts as no limit.</summary>
    /// <param name="proc">Where procfs is.</param>
    /// <param name="cgroup">Where the control groups are.</param>
    public static HostMemory Read(string proc = "/proc", string cgroup = "/sys/fs/cgroup")
    {
        long total = long.MaxValue;
        long available = long.MaxValue;
        foreach (string line in ReadLines(Path.Combine(proc, "meminfo")))
        {
            string[] words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (words.Length >= 2 && long.TryParse(words[1], NumberStyles.None, CultureInfo.InvariantCulture, out long kib))
            {
                switch (words[0])
                {
                    case "MemTotal:":
                        total = kib << 10;
                        break;
                    case "MemAvailable:":
                        available = kib << 10;
                        break;
                }
            }
        }

        total = Math.Min(total, ControlGroupLimit(proc, cgroup));
        return new HostMemory(total, Math.Min(available, total));
    }

    /// <summary>The lowest limit on the way from the process's groups to the root, of version 2 and version 1.</summary>
    private static long ControlGroupLimit(string proc, string cgroup)
    {
        long limit = long.MaxValue;
        foreach (string line in ReadLines(Path.Combine(proc, "self", "cgroup")))
        {
            string[] fields = line.Split(':', 3);
            if (fields.Length < 3)
            {
                continue;
            }

            bool isVersion2 = fields[0] == "0" && fields[1].Length == 0;
            if (!isVersion2 && !fields[1].Split(',').Contains("memory"))
            {
                continue;
            }

            string root = isVersion2 ? cgroup : Path.Combine(cgroup, "memory");
            string file = isVersion2 ? "memory.max" : "memory.limit_in_bytes";
            string group = fields[2].Trim('/');
            while (true)
            {
                string? text = ReadLines(Path.Combine(root, group, file)).FirstOrDefault();
                if (long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out long bytes))
                {
                    limit = Math.Min(limit, bytes);
                }

                if (group.Length == 0)
                {
                    break;
                }

                group = Path.GetDirectoryName(group) ?? string.Empty;
            }
        }

        return limit;
    }

    private static string[] ReadLines(string path)
    {
        try
        {
            // Many hosts have no such group; a process's first exception takes the runtime milliseconds.
            return File.Exists(path) ? File.ReadAllLines(path) : [];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }
}
