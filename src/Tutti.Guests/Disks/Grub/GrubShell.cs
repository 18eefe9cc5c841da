using System.Globalization;

namespace Tutti.Guests.Disks.Grub;

/// <summary>
/// Carries out a grub.cfg as far as it decides what is loaded. Nothing is written, shown or waited for. Whatever the script says, it ends: steps,
/// nesting, characters and entries are limited.
/// </summary>
/// <param name="devices">The disk's volumes.</param>
/// <param name="limits">What it may take.</param>
internal sealed partial class GrubShell(GrubDevices devices, GrubLimits limits)
{
    private const int MaxDepth = 60;
    private const int MaxEntries = 1000;
    private const int MaxFunctions = 1000;

    private readonly Dictionary<string, (GrubScript Script, GrubCommand[] Body)> _functions = [];
    private IReadOnlyList<string> _arguments = [];
    private GrubExpansion? _expansion;
    private GrubScript _script = GrubScript.Parse(string.Empty, out _)!;
    private int _depth;
    private bool _isSuccess = true;
    private Flow _flow;

    private enum Flow
    {
        Next,
        Break,
        Continue,
        Return,
        End,
    }

    public GrubVariables Variables { get; private set; } = new();

    /// <summary>Entries of the menu that the commands so far have made.</summary>
    public List<GrubMenuEntry> Menu { get; private set; } = [];

    /// <summary>What the entry that is carried out loads.</summary>
    public GrubLoad Load { get; private set; } = new();

    /// <summary>Why what came out can't be trusted; null if it can.</summary>
    public string? Problem { get; private set; }

    private GrubExpansion Expansion => _expansion ??= new GrubExpansion(FindVariable, limits);

    /// <summary>Carries out a configuration file.</summary>
    /// <param name="file">Where it is.</param>
    public void Configure(VolumeFile file)
    {
        if (file.Volume?.Files?.ReadText(file.Path) is not { } text)
        {
            _isSuccess = false;
            return;
        }

        int slash = file.Path.LastIndexOf('/');
        string device = GrubDevices.Name(file.Volume);
        Variables["config_file"] = $"({device}){file.Path}";
        Variables["config_directory"] = $"({device}){file.Path[..Math.Max(slash, 0)]}";
        RunText(text, file.Path);
    }

    /// <summary>Chooses an entry: carries it out, after which <see cref="Load"/> or, for a submenu, <see cref="Menu"/> tells more.</summary>
    public void Choose(GrubMenuEntry entry)
    {
        Load = new();
        if (entry.IsSubmenu)
        {
            Variables = Variables.Open();
            Menu = [];
        }

        Variables["chosen"] = entry.Title;
        _flow = Flow.Next;
        Call(entry.Script, entry.Body, entry.Arguments);
    }

    /// <summary>A shell in the same state, to try an entry in.</summary>
    public GrubShell Fork()
    {
        GrubShell other = new(devices, limits) { Variables = Variables.Copy(), Menu = [.. Menu], Problem = Problem };
        foreach (KeyValuePair<string, (GrubScript, GrubCommand[])> function in _functions)
        {
            other._functions[function.Key] = function.Value;
        }

        return other;
    }

    private void RunText(string text, string name)
    {
        if (GrubScript.Parse(text, out string? error) is { } script)
        {
            Call(script, script.Commands, _arguments);
        }
        else
        {
            Fail($"{name} is beyond Tutti ({error})");
        }
    }

    private void Call(GrubScript script, GrubCommand[] body, IReadOnlyList<string> arguments)
    {
        (GrubScript outerScript, IReadOnlyList<string> outerArguments) = (_script, _arguments);
        (_script, _arguments) = (script, arguments);
        Run(body);
        (_script, _arguments) = (outerScript, outerArguments);
        if (_flow is Flow.Return)
        {
            _flow = Flow.Next;
        }
    }

    private void Fail(string problem)
    {
        Problem ??= problem;
        _isSuccess = false;
        _flow = Flow.End;
    }

    private void Run(GrubCommand[] commands)
    {
        if (++_depth > MaxDepth)
        {
            Fail("its menu's script calls itself too deep");
        }

        foreach (GrubCommand command in commands)
        {
            if (_flow != Flow.Next)
            {
                break;
            }

            Run(command);
        }

        _depth--;
    }

    private void Run(GrubCommand command)
    {
        limits.TakeStep();
        if (limits.IsExhausted)
        {
            Fail("its menu's script has no end in sight");
            return;
        }

        switch (command)
        {
            case GrubSimple simple:
                RunSimple(simple);
                break;
            case GrubNot not:
                Run(not.Command);
                _isSuccess = !_isSuccess;
                break;
            case GrubIf choice:
                RunIf(choice);
                break;
            case GrubLoop loop:
                RunLoop(() =>
                {
                    Run(loop.Condition);
                    return _isSuccess != loop.IsUntil;
                }, loop.Body);
                break;
            case GrubFor each:
                Queue<string> values = new(Expand(each.Values).SelectMany(FindFiles));
                string name = _script[each.Name].ToString();
                RunLoop(() =>
                {
                    bool isOne = values.TryDequeue(out string? value);
                    Variables[name] = value ?? Variables[name];
                    return isOne;
                }, each.Body);
                break;
            case GrubFunction function when _functions.Count < MaxFunctions:
                _functions[_script[function.Name].ToString()] = (_script, function.Body);
                break;
            case GrubMenuCommand entry:
                AddEntry(entry);
                break;
        }

        // The last command's words may have been cut off.
        if (limits.IsExhausted)
        {
            Fail("its menu's script has no end in sight");
        }
    }

    private void RunIf(GrubIf choice)
    {
        foreach ((GrubCommand[] condition, GrubCommand[] body) in choice.Branches)
        {
            Run(condition);
            if (_flow != Flow.Next)
            {
                return;
            }

            if (_isSuccess)
            {
                Run(body);
                return;
            }
        }

        _isSuccess = true;
        Run(choice.Otherwise);
    }

    private void RunLoop(Func<bool> begins, GrubCommand[] body)
    {
        while (_flow == Flow.Next && !limits.IsExhausted && begins() && _flow == Flow.Next)
        {
            limits.TakeStep();
            Run(body);
            if (_flow == Flow.Continue)
            {
                _flow = Flow.Next;
            }
        }

        if (_flow is Flow.Break or Flow.Continue)
        {
            _flow = Flow.Next;
        }

        if (limits.IsExhausted)
        {
            Fail("its menu's script has no end in sight");
        }
    }

    private void AddEntry(GrubMenuCommand command)
    {
        string title = string.Empty;
        string id = string.Empty;
        List<string> words = Expand(command.Words);
        List<string> arguments = [];
        for (int i = 0; i < words.Count; i++)
        {
            string word = words[i];
            if (word is "--id" or "--class" or "--users" or "--hotkey" or "--source" && i + 1 < words.Count)
            {
                i++;
                id = word == "--id" ? words[i] : id;
            }
            else if (word.StartsWith("--id=", StringComparison.Ordinal))
            {
                id = word[5..];
            }
            else if (!word.StartsWith("--", StringComparison.Ordinal))
            {
                arguments.Add(word);
            }
        }

        title = arguments.Count > 0 ? arguments[0] : title;
        AddEntry(new GrubMenuEntry(title, id, _script, command.Body, arguments, command.IsSubmenu));
    }

    private void AddEntry(GrubMenuEntry entry)
    {
        if (Menu.Count < MaxEntries)
        {
            Menu.Add(entry);
        }
    }

    private List<string> Expand(IEnumerable<GrubWord> words)
    {
        List<string> expanded = [];
        foreach (GrubWord word in words)
        {
            Expansion.Split(_script[word], expanded);
        }

        return expanded;
    }

    private string FindVariable(string name)
    {
        if (name is "@" or "*")
        {
            return string.Join(' ', _arguments);
        }

        return name == "#" ? _arguments.Count.ToString(CultureInfo.InvariantCulture)
            : name == "?" ? _isSuccess ? "0" : "1"
            : int.TryParse(name, NumberStyles.None, CultureInfo.InvariantCulture, out int number) ? number > 0 && number <= _arguments.Count ? _arguments[number - 1] : string.Empty
            : Variables[name];
    }
}
