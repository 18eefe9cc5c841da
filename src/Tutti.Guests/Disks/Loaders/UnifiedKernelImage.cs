using System.Text;

namespace Tutti.Guests.Disks.Loaders;

/// <summary>
/// A unified kernel image: a program of the firmware's that carries kernel, initial RAM disk and command line as sections. Source: UAPI.5, Unified
/// Kernel Image. Of one with several profiles it is the first, which its stub starts unless it is told another.
/// </summary>
internal sealed class UnifiedKernelImage
{
    /// <summary>Where its small sections lie: before kernel and RAM disk.</summary>
    private const int MaxHead = 1 << 20;
    private const int MaxCommandLine = 64 << 10;

    private readonly Dictionary<string, PeSection> _sections;

    private UnifiedKernelImage(Dictionary<string, PeSection> sections) => _sections = sections;

    public PeSection Kernel => _sections[".linux"];

    /// <summary>Processor microcode, which goes before the RAM disk, and the RAM disk; those that are there.</summary>
    public IEnumerable<PeSection> Initrds => ((string[])[".ucode", ".initrd"]).Where(_sections.ContainsKey).Select(name => _sections[name]).Where(section => section.Length > 0);

    /// <summary>The image's parts, or null where it has no kernel.</summary>
    /// <param name="file">Its bytes, or the first of them.</param>
    /// <param name="length">Of the file.</param>
    public static UnifiedKernelImage? TryRead(ReadOnlySpan<byte> file, long length)
    {
        Dictionary<string, PeSection> sections = [];
        int profiles = 0;
        foreach (PeSection section in PeSections.Read(file, length))
        {
            profiles += section.Name == ".profile" ? 1 : 0;
            if (profiles > 1)
            {
                break;
            }

            sections[section.Name] = section;
        }

        return sections.TryGetValue(".linux", out PeSection kernel) && kernel.Length > 0 ? new UnifiedKernelImage(sections) : null;
    }

    /// <summary>Room for an image's head, charged; one is enough for all that are looked at in turn.</summary>
    public static byte[] MakeHead(ReadBudget budget)
    {
        budget.Take(MaxHead);
        return new byte[MaxHead];
    }

    /// <summary>Reads what an image says of itself, without its kernel; null where it is none.</summary>
    /// <param name="files">Where it is.</param>
    /// <param name="path">As for <see cref="IFileSystem.Measure"/>.</param>
    /// <param name="head">Takes the file's first bytes.</param>
    /// <exception cref="ImageException">The file system is damaged.</exception>
    public static UnifiedKernelImage? TryReadHead(IFileSystem files, string path, byte[] head)
    {
        if (files.Measure(path) is not long length)
        {
            return null;
        }

        Span<byte> there = head.AsSpan(0, (int)Math.Min(length, head.Length));
        head.AsSpan(there.Length).Clear();
        return files.TryRead(path, there) ? TryRead(there, length) : null;
    }

    /// <summary>The text of a section; empty for none, or for one that lies behind what was read.</summary>
    /// <param name="name">".cmdline", ".osrel", ".uname".</param>
    /// <param name="file">The bytes that were read.</param>
    public string Text(string name, ReadOnlySpan<byte> file)
    {
        if (!_sections.TryGetValue(name, out PeSection section) || section.Length > MaxCommandLine || section.Offset > file.Length - section.Length)
        {
            return string.Empty;
        }

        return Encoding.UTF8.GetString(file.Slice(section.Offset, section.Length)).TrimEnd('\0', '\n', ' ');
    }

    /// <summary>A value of os-release(5).</summary>
    public static string OsRelease(string text, params ReadOnlySpan<string> names)
    {
        foreach (string name in names)
        {
            foreach (string line in text.Split('\n'))
            {
                if (line.StartsWith(name, StringComparison.Ordinal) && line.AsSpan(name.Length).StartsWith("="))
                {
                    return line[(name.Length + 1)..].Trim().Trim('"', '\'');
                }
            }
        }

        return string.Empty;
    }
}
