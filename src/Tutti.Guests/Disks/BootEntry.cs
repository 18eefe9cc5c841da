namespace Tutti.Guests.Disks;

/// <summary>What a boot loader would start.</summary>
/// <param name="Kernel">Path on the boot file system.</param>
/// <param name="Initrds">Paths there, in the order of loading.</param>
/// <param name="Options">The kernel's command line, less words that only the boot loader could have filled in.</param>
internal sealed record BootEntry(string Kernel, IReadOnlyList<string> Initrds, string Options)
{
    private const int MaxInitrds = 16;

    /// <summary>The default entry of a grub.cfg that names one by number, else its first; null where no entry at the top says which kernel it loads.</summary>
    public static BootEntry? FromGrub(string text)
    {
        List<BootEntry?> entries = [];
        int chosen = 0;
        int depth = 0;
        string[]? kernel = null;
        List<string> initrds = [];
        foreach (string line in text.Split('\n').Select(line => line.Trim()))
        {
            string[] words = Words(line);
            if (words.Length == 0 || words[0].StartsWith('#'))
            {
                continue;
            }

            bool opens = words[0] is "menuentry" or "submenu" && line.EndsWith('{');
            if (opens && depth == 0)
            {
                kernel = null;
                initrds = [];
                entries.Add(null);
            }

            if (depth == 1 && words[0] is "linux" or "linux16" or "linuxefi")
            {
                kernel ??= words;
            }
            else if (depth == 1 && words[0] is "initrd" or "initrd16" or "initrdefi")
            {
                initrds.AddRange(words[1..]);
            }
            else if (depth == 0 && words is ["set", string setting] && setting.StartsWith("default=", StringComparison.Ordinal)
                && int.TryParse(setting[8..].Trim('"', '\''), out int number) && number >= 0)
            {
                chosen = number;
            }

            // Functions and submenus have braces, too; only what is directly in an entry of the top counts.
            depth += opens || line.EndsWith('{') ? 1 : line == "}" ? -1 : 0;
            depth = Math.Max(depth, 0);
            if (line == "}" && depth == 0 && kernel is { Length: > 1 } && entries.Count > 0)
            {
                entries[^1] = Make(kernel[1], initrds, kernel[2..]);
                kernel = null;
            }
        }

        return (chosen < entries.Count ? entries[chosen] : null) ?? entries.FirstOrDefault(entry => entry != null);
    }

    /// <summary>An entry of the Boot Loader Specification (type 1); null where it names no Linux kernel.</summary>
    public static BootEntry? FromLoaderEntry(string text)
    {
        string? kernel = null;
        List<string> initrds = [];
        List<string> options = [];
        foreach (string line in text.Split('\n'))
        {
            string[] words = line.Split([' ', '\t', '\r'], StringSplitOptions.RemoveEmptyEntries);
            switch (words.FirstOrDefault())
            {
                case "linux" when words.Length > 1:
                    kernel = words[1];
                    break;
                case "initrd":
                    initrds.AddRange(words[1..]);
                    break;
                case "options":
                    options.AddRange(words[1..]);
                    break;
            }
        }

        return kernel == null ? null : Make(kernel, initrds, options);
    }

    private static BootEntry Make(string kernel, IEnumerable<string> initrds, IEnumerable<string> options) => new(
        StripDevice(kernel),
        [.. initrds.Where(path => !path.Contains('$', StringComparison.Ordinal)).Select(StripDevice).Take(MaxInitrds)],
        string.Join(' ', options.Where(word => !word.Contains('$', StringComparison.Ordinal))));

    /// <summary>GRUB may write a device before a path: (hd0,gpt1)/vmlinuz, or ($root)/vmlinuz.</summary>
    private static string StripDevice(string path) => path.StartsWith('(') && path.IndexOf(')', StringComparison.Ordinal) is int end and > 0 ? path[(end + 1)..] : path;

    /// <summary>Words as GRUB's shell makes them; quotes hold blanks together.</summary>
    private static string[] Words(string line)
    {
        List<string> words = [];
        System.Text.StringBuilder word = new();
        char quote = '\0';
        bool isWord = false;
        foreach (char letter in line)
        {
            if (quote != '\0' ? letter == quote : letter is '"' or '\'')
            {
                quote = quote == '\0' ? letter : '\0';
                isWord = true;
            }
            else if (quote == '\0' && letter is ' ' or '\t')
            {
                Take();
            }
            else
            {
                word.Append(letter);
                isWord = true;
            }
        }

        Take();
        return [.. words];

        void Take()
        {
            if (isWord)
            {
                words.Add(word.ToString());
                word.Clear();
                isWord = false;
            }
        }
    }
}
