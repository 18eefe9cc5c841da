using System.Text;

namespace Tutti.Guests.Disks.Grub;

/// <summary>The commands that decide what is loaded. Others succeed and do nothing: they load modules, draw, or wait.</summary>
internal sealed partial class GrubShell
{
    /// <summary>Files that a file may take in, and the file it takes in, and so on.</summary>
    private const int MaxSources = 8;

    /// <summary>Files that wildcards may stand for.</summary>
    private const int MaxFiles = 1000;

    /// <summary>Sets variables to what Tutti cannot know: then no one knows what the menu would be.</summary>
    private static readonly string[] s_beyond = ["gptprio.next", "gptprio", "regexp", "gptrepair", "cbmenu", "bootscan"];

    /// <summary>What a person at the keyboard would have to do, or a machine with firmware.</summary>
    private static readonly string[] s_failing = ["keystatus", "authenticate", "smbios", "rdmsr", "mokstatus", "is_sb_enabled", "getenv"];

    private int _sources;

    private void RunSimple(GrubSimple command)
    {
        if (command.Words.Length == 0)
        {
            return;
        }

        ReadOnlySpan<char> first = _script[command.Words[0]];
        if (IsAssignment(first))
        {
            Set(Expansion.Join(first));
            return;
        }

        if (first is "set" && command.Words.Length > 1)
        {
            // What is set stays one word, as does what stands in quotes.
            Set(Expansion.Join(_script[command.Words[1]]));
            return;
        }

        List<string> words = Expand(command.Words);
        if (words.Count > 0)
        {
            RunWords(words);
        }
    }

    private void RunWords(List<string> words)
    {
        string name = words[0];
        List<string> arguments = words[1..];
        if (_functions.TryGetValue(name, out (GrubScript Script, GrubCommand[] Body) function))
        {
            Call(function.Script, function.Body, arguments);
            return;
        }

        bool wasSuccess = _isSuccess;
        _isSuccess = true;
        switch (name)
        {
            case "false":
                _isSuccess = false;
                break;
            case "[" or "test":
                bool isClosed = name == "test" || (arguments.Count > 0 && arguments[^1] == "]");
                _isSuccess = isClosed && new GrubTest(name == "[" ? arguments[..^1] : arguments, FindFile).Evaluate();
                break;
            case "break" or "continue":
                _flow = name == "break" ? Flow.Break : Flow.Continue;
                break;
            case "return":
                _isSuccess = arguments.Count > 0 ? arguments[0] == "0" : wasSuccess;
                _flow = Flow.Return;
                break;
            case "exit" or "halt" or "reboot" or "normal_exit" or "fwsetup":
                _flow = Flow.End;
                break;
            case "set" or "export" or "unset":
                ChangeVariables(name, arguments);
                break;
            case "load_env":
                LoadEnvironment(arguments);
                break;
            case "search" or "search.fs_uuid" or "search.fs_label" or "search.file":
                Search(name, arguments);
                break;
            case "probe":
                Probe(arguments);
                break;
            case "source" or "." or "configfile" or "normal" or "extract_entries_source":
                Source(name, arguments);
                break;
            case "eval":
                string text = string.Join(' ', arguments);
                if (limits.TakeScript(text.Length))
                {
                    RunText(text, "eval");
                }

                break;
            case "blscfg":
                AddLoaderEntries();
                break;
            default:
                RunLoading(name, arguments);
                break;
        }
    }

    private void RunLoading(string name, List<string> arguments)
    {
        switch (name)
        {
            case "linux" or "linux16" or "linuxefi" or "chainloader" or "multiboot" or "multiboot2" or "kernel" when arguments.Find(word => !word.StartsWith("--", StringComparison.Ordinal)) is { } path:
                int at = arguments.IndexOf(path);
                Load.Command = name.StartsWith("linux", StringComparison.Ordinal) ? "linux" : name;
                Load.Kernel = devices.Locate(path, Variables["root"]);
                Load.Written = path;
                Load.Options = string.Join(' ', arguments[(at + 1)..].Select(Quote));
                Load.Initrds.Clear();
                break;
            case "initrd" or "initrd16" or "initrdefi":
                // All of a command are one RAM disk, which takes the place of one that is there.
                Load.Initrds.Clear();
                Load.Initrds.AddRange(arguments.Where(word => !word.StartsWith("--", StringComparison.Ordinal)).Take(BootEntry.MaxInitrds).Select(path => devices.Locate(path, Variables["root"])));
                break;
            default:
                _isSuccess = Array.IndexOf(s_failing, name) < 0;
                if (Array.IndexOf(s_beyond, name) >= 0)
                {
                    Fail($"its menu's script uses {name}, which Tutti does not know");
                }

                break;
        }
    }

    /// <summary>As GRUB writes a word into a kernel's command line: in quotes where it has blanks, a backslash before its own quotes and backslashes.</summary>
    private static string Quote(string word)
    {
        StringBuilder quoted = new(word.Length + 2);
        for (int i = 0; i < word.Length; i++)
        {
            bool isCode = word[i] == '\\' && GrubExpansion.IsCode(word.AsSpan(i + 1));
            quoted.Append(word[i] is '\\' or '\'' or '"' && !isCode ? "\\" : string.Empty).Append(word[i]);
        }

        return word.Contains(' ', StringComparison.Ordinal) ? $"\"{quoted}\"" : quoted.ToString();
    }

    private static bool IsAssignment(ReadOnlySpan<char> word)
    {
        int equals = word.IndexOf('=');
        return equals > 0 && !char.IsAsciiDigit(word[0]) && word[..equals].IndexOfAnyExcept("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") < 0;
    }

    private void Set(string text)
    {
        int equals = text.IndexOf('=', StringComparison.Ordinal);
        _isSuccess = true;
        if (equals > 0)
        {
            Variables[text[..equals]] = text[(equals + 1)..];
        }
    }

    private void ChangeVariables(string command, List<string> names)
    {
        foreach (string name in names)
        {
            int equals = name.IndexOf('=', StringComparison.Ordinal);
            if (equals > 0)
            {
                Set(name);
            }

            if (command == "export")
            {
                Variables.Export(equals > 0 ? name[..equals] : name);
            }
            else if (command == "unset")
            {
                Variables.Remove(name);
            }
        }
    }

    private VolumeFile Locate(string path) => devices.Locate(path, Variables["root"]);

    private (FileKind Kind, long Length)? FindFile(string path) =>
        Locate(path) is { Volume.Files: { } files } file && files.Find(file.Path) is { } kind
            ? (kind, kind == FileKind.File ? files.Measure(file.Path) ?? 0 : 0)
            : null;

    private void LoadEnvironment(List<string> arguments)
    {
        string path = Variables["prefix"] + "/grubenv";
        HashSet<string> names = [];
        for (int i = 0; i < arguments.Count; i++)
        {
            if (arguments[i] is "-f" or "--file" && i + 1 < arguments.Count)
            {
                path = arguments[++i];
            }
            else if (arguments[i].StartsWith('-'))
            {
                path = arguments[i].StartsWith("--file=", StringComparison.Ordinal) ? arguments[i][7..] : path;
            }
            else
            {
                names.Add(arguments[i]);
            }
        }

        VolumeFile file = Locate(path);
        if (file.Volume?.Files?.ReadText(file.Path) is { } text)
        {
            Variables.Load(text, names);
        }
        else
        {
            _isSuccess = false;
        }
    }

    private void Search(string command, List<string> arguments)
    {
        GrubSearchKind kind = command switch
        {
            "search.fs_uuid" => GrubSearchKind.Uuid,
            "search.fs_label" => GrubSearchKind.Label,
            _ => GrubSearchKind.File,
        };
        string? variable = command == "search" ? null : "root";
        string? behindSet = null;
        List<string> others = [];
        for (int i = 0; i < arguments.Count; i++)
        {
            string word = arguments[i];
            switch (word)
            {
                case "-u" or "--fs-uuid":
                    kind = GrubSearchKind.Uuid;
                    break;
                case "-l" or "--label" or "--fs-label":
                    kind = GrubSearchKind.Label;
                    break;
                case "-f" or "--file":
                    kind = GrubSearchKind.File;
                    break;
                case "-s" or "--set":
                    variable = "root";
                    behindSet = i + 1 < arguments.Count && !arguments[i + 1].StartsWith('-') ? arguments[++i] : behindSet;
                    break;
                default:
                    variable = word.StartsWith("--set=", StringComparison.Ordinal) ? word[6..] : variable;
                    if (!word.StartsWith('-'))
                    {
                        others.Add(word);
                    }

                    break;
            }
        }

        // What stands behind "--set" is the variable, unless nothing else is there to look for. The short forms are "WHAT VARIABLE".
        if (behindSet != null && others.Count == 0)
        {
            others.Add(behindSet);
        }
        else if (behindSet != null)
        {
            variable = behindSet;
        }
        else if (command != "search" && others.Count > 1)
        {
            variable = others[1];
        }

        DiskVolume? found = others.Count > 0 ? devices.Search(kind, others[0]) : null;
        _isSuccess = found != null;
        if (found != null && variable != null)
        {
            Variables[variable] = GrubDevices.Name(found);
        }
    }

    /// <summary>Asks what a device is called.</summary>
    private void Probe(List<string> arguments)
    {
        string? variable = null;
        string what = string.Empty;
        string device = string.Empty;
        for (int i = 0; i < arguments.Count; i++)
        {
            string word = arguments[i];
            if (word is "-s" or "--set" && i + 1 < arguments.Count)
            {
                variable = arguments[++i];
            }
            else if (word.StartsWith("--set=", StringComparison.Ordinal))
            {
                variable = word[6..];
            }
            else if (word.StartsWith('-'))
            {
                what = word;
            }
            else
            {
                device = word is ['(', .., ')'] ? word[1..^1] : word;
            }
        }

        DiskVolume? volume = devices.Find(device);
        _isSuccess = volume != null;
        if (volume == null || variable == null)
        {
            return;
        }

        string? value = what switch
        {
            "-u" or "--fs-uuid" when volume.Uuid.Length > 0 => volume.Uuid,
            "-l" or "--label" when volume.Files != null => volume.Label,
            "--part-uuid" => volume.Partition.Id,
            _ => null,
        };
        if (value == null)
        {
            Fail($"its menu's script asks for what Tutti does not know (probe {what} of {volume.Name})");
            return;
        }

        Variables[variable] = value;
    }

    /// <summary>The files of a path with wildcards in its last part, in their order; as it is where there are none.</summary>
    private IEnumerable<string> FindFiles(string path)
    {
        int slash = path.LastIndexOf('/');
        if (slash < 0 || path.AsSpan(slash).IndexOfAny('*', '?') < 0 || Locate(path[..slash]) is not { Volume.Files: { } files } folder)
        {
            return [path];
        }

        string pattern = path[(slash + 1)..];
        List<string> found = [.. files.List(folder.Path).Where(Matches).Order(StringComparer.Ordinal).Take(MaxFiles)];
        return found.Count > 0 ? found.Select(name => $"{path[..slash]}/{name}") : [path];

        bool Matches(string name)
        {
            limits.Check();
            return FilePattern.Matches(pattern, name, ignoreCase: false);
        }
    }

    private void Source(string command, List<string> arguments)
    {
        string path = arguments.Count > 0 ? FindFiles(arguments[0]).First() : Variables["prefix"] + "/grub.cfg";
        if (++_sources > MaxSources)
        {
            Fail("its menu's files take in one another without end");
            return;
        }

        VolumeFile file = Locate(path);
        if (file.Volume?.Files?.ReadText(file.Path) is not { } text)
        {
            _isSuccess = false;
            if (command is "configfile" or "normal" && file.Volume is not { Files: not null })
            {
                Fail($"its menu lies on {DescribePlace(path, file)}");
            }
        }
        else if (command is "configfile" or "normal")
        {
            // What it makes is the menu; what stands behind it is never reached.
            (GrubVariables outer, List<GrubMenuEntry> menu) = (Variables, Menu);
            Variables = Variables.Open();
            Menu = [];
            Configure(file);
            if (Menu.Count > 0)
            {
                _flow = Flow.End;
            }
            else
            {
                (Variables, Menu) = (outer, menu);
            }
        }
        else
        {
            RunText(text, file.Path);
        }

        _sources--;
    }

    /// <summary>Where a file lies that cannot be read, for people.</summary>
    internal string DescribePlace(string path, VolumeFile file) =>
        file.Volume is { } volume ? $"{volume.Name}, which Tutti cannot read"
        : path.StartsWith("()", StringComparison.Ordinal) ? "what was looked for and is no partition of this disk"
        : path.StartsWith('(') && path.IndexOf(')', StringComparison.Ordinal) is int end and > 0 ? $"{path[..(end + 1)]}, which is no partition of this disk"
        : $"({Variables["root"]}), which is no partition of this disk";

    /// <summary>Fedora's command that makes a menu entry of each file in loader/entries.</summary>
    private void AddLoaderEntries()
    {
        string root = Variables.IsSet("boot") ? Variables["boot"] : Variables["root"];
        string folder = Variables["blsdir"] is { Length: > 0 } named ? named : "/loader/entries";
        foreach (string path in (string[])[folder, "/boot" + folder])
        {
            VolumeFile place = devices.Locate(path, root);
            if (place.Volume is not { Files: not null } volume)
            {
                continue;
            }

            List<Loaders.LoaderEntry> entries = Loaders.LoaderEntry.ReadAll(volume, place.Path);
            foreach (Loaders.LoaderEntry entry in Loaders.LoaderEntry.InGrubsOrder(entries, devices.Volumes))
            {
                AddLoaderEntry(entry, volume);
            }

            if (entries.Count > 0)
            {
                return;
            }
        }
    }

    private void AddLoaderEntry(Loaders.LoaderEntry entry, DiskVolume volume)
    {
        if (entry.Linux is not { } linux)
        {
            return;
        }

        // As Fedora's GRUB: without options, those for all.
        if (limits.IsExhausted)
        {
            return;
        }

        string options = entry.HasOptions ? entry.Options : Variables["default_kernelopts"] is { Length: > 0 } all ? all : Variables["kernelopts"];
        string device = $"({GrubDevices.Name(volume)})";
        string text = $"linux {device}{linux} {options}\n" + (entry.Initrds.Count > 0 ? $"initrd {string.Join(' ', entry.Initrds.Select(path => path.StartsWith('$') ? path : device + path))}\n" : string.Empty);
        if (!limits.TakeScript(text.Length))
        {
            return;
        }

        if (GrubScript.Parse(text, out _) is { } script)
        {
            AddEntry(new GrubMenuEntry(entry.Title, entry.Id, script, script.Commands, [entry.Title], IsSubmenu: false));
        }
        else
        {
            Problem ??= $"the options of loader/entries/{entry.Id}.conf are beyond Tutti";
        }
    }
}
