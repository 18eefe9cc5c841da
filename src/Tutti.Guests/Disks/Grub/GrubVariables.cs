using System.Text;

namespace Tutti.Guests.Disks.Grub;

/// <summary>GRUB's environment: variables, and which of them a submenu and another configuration file see, too.</summary>
internal sealed class GrubVariables
{
    private const int MaxVariables = 4096;

    /// <summary>GRUB exports its own, as normal/main.c and kern/main.c do.</summary>
    private static readonly string[] s_exported = ["root", "prefix", "grub_cpu", "grub_platform"];

    private readonly Dictionary<string, string> _values;
    private readonly HashSet<string> _exported;

    public GrubVariables()
        : this([], [.. s_exported])
    {
    }

    private GrubVariables(Dictionary<string, string> values, HashSet<string> exported) => (_values, _exported) = (values, exported);

    /// <summary>Empty for what is not set, as in GRUB. Features (feature_menuentry_id) are all there: what grub.cfg does without them is for old versions.</summary>
    public string this[string name]
    {
        get => _values.TryGetValue(name, out string? value) ? value : name.StartsWith("feature_", StringComparison.Ordinal) ? "y" : string.Empty;
        set
        {
            if (_values.Count < MaxVariables || _values.ContainsKey(name))
            {
                // GRUB takes brackets around a device off where it is the root.
                _values[name] = name == "root" && value is ['(', .., ')'] ? value[1..^1] : value;
            }
        }
    }

    public bool IsSet(string name) => _values.ContainsKey(name);

    public void Remove(string name) => _values.Remove(name);

    public void Export(string name)
    {
        if (_exported.Count < MaxVariables)
        {
            _exported.Add(name);
        }
    }

    /// <summary>What a submenu starts with.</summary>
    public GrubVariables Open() => new(_values.Where(pair => _exported.Contains(pair.Key)).ToDictionary(), [.. _exported]);

    /// <summary>The same, to be changed alone.</summary>
    public GrubVariables Copy() => new(new Dictionary<string, string>(_values), [.. _exported]);

    /// <summary>
    /// Takes the variables of a grubenv file: lines name=value, where "\" stands before what is meant as it is. next_entry is left out: it is for
    /// one start, after which GRUB deletes it, and nothing is written here.
    /// </summary>
    /// <param name="text">The file's.</param>
    /// <param name="names">Which; none for all.</param>
    public void Load(string text, IReadOnlySet<string> names)
    {
        StringBuilder line = new();
        for (int i = 0; i <= text.Length; i++)
        {
            if (i == text.Length || text[i] == '\n')
            {
                Take(line.ToString(), names);
                line.Clear();
            }
            else
            {
                i += text[i] == '\\' && i + 1 < text.Length ? 1 : 0;
                line.Append(text[i]);
            }
        }
    }

    private void Take(string line, IReadOnlySet<string> names)
    {
        int equals = line.IndexOf('=', StringComparison.Ordinal);
        if (equals <= 0 || line[0] == '#')
        {
            return;
        }

        string name = line[..equals];
        if (name != "next_entry" && (names.Count == 0 || names.Contains(name)))
        {
            this[name] = line[(equals + 1)..];
        }
    }
}
