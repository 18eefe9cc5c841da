using System.Globalization;
using Tutti.Engines.Compare.Streams;

namespace Tutti.Engines.Compare;

/// <summary>The words of the command line.</summary>
internal sealed record CompareOptions
{
    public const string Usage = """
        Tutti.Engines.Compare [--streams N] [--seed S] [--mode ring3|ring0|protected|real|guests|all] [--seconds N] [--only G,G...] [--names] [--json]

        Runs the same guests on the kvm engine and on the software engine and compares registers, flags, memory and devices' logs.

          --streams N   random streams of each mode (2000), each run three times
          --seed S      seed of the random streams (1)
          --mode M      streams of one mode; guests: the named guests only; all: both (all)
          --seconds N   stop after about so many seconds
          --only G,...  of the named guests only these groups: real, protected, long, user, fault, paging, transfer, ports, mmio, ...
          --names       print the name of each guest before it runs, to see which one takes the machine down
          --json        one JSON object instead of a table

        Exit status: 0 no unknown difference, 1 unknown differences, 2 a word that is not understood, 77 no usable /dev/kvm.
        """;

    public int Streams { get; init; } = 2000;

    public ulong Seed { get; init; } = 1;

    /// <summary>Modes of which streams run.</summary>
    public IReadOnlyList<StreamMode> Modes { get; init; } = Enum.GetValues<StreamMode>();

    public bool RunsGuests { get; init; } = true;

    /// <summary>Whether the words name one mode: then it runs where it makes little sense, too.</summary>
    public bool IsModeNamed { get; init; }

    public TimeSpan? Limit { get; init; }

    public bool IsJson { get; init; }

    /// <summary>Groups of named guests that run; null for all.</summary>
    public IReadOnlyList<string>? Groups { get; init; }

    public bool PrintsNames { get; init; }

    public bool IsHelp { get; init; }

    /// <summary>Reads the words; where they are not understood, <paramref name="problem"/> says what is wrong and how to mend it.</summary>
    public static CompareOptions? TryParse(IReadOnlyList<string> words, out string? problem)
    {
        CompareOptions options = new();
        problem = null;
        for (int i = 0; i < words.Count; i++)
        {
            string word = words[i];
            if (word is "--json" or "--names" or "--help" or "-h")
            {
                options = word switch
                {
                    "--json" => options with { IsJson = true },
                    "--names" => options with { PrintsNames = true },
                    _ => options with { IsHelp = true },
                };
                continue;
            }

            if (word is not ("--streams" or "--seed" or "--mode" or "--seconds" or "--only"))
            {
                problem = $"'{word}' is not an option; --help lists them.";
                return null;
            }

            if (++i == words.Count)
            {
                problem = $"{word} needs a value; --help tells which.";
                return null;
            }

            CompareOptions? next = With(options, word, words[i]);
            if (next == null)
            {
                problem = word == "--mode" ? $"'{words[i]}' is not a mode: ring3, ring0, protected, real, guests or all."
                    : $"'{words[i]}' is not a number that {word} takes: a whole number, {(word == "--seed" ? "0" : "1")} or more.";
                return null;
            }

            options = next;
        }

        return options;
    }

    private static CompareOptions? With(CompareOptions options, string word, string value)
    {
        bool isNumber = uint.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out uint number);
        switch (word)
        {
            case "--streams" when isNumber && number is > 0 and <= int.MaxValue:
                return options with { Streams = (int)number };
            case "--seconds" when isNumber && number > 0:
                return options with { Limit = TimeSpan.FromSeconds(number) };
            case "--seed" when isNumber:
                return options with { Seed = number };
            case "--only":
                return options with { Groups = value.Split(',') };
            case "--mode" when value == "all":
                return options with { Modes = Enum.GetValues<StreamMode>(), RunsGuests = true };
            case "--mode" when value == "guests":
                return options with { Modes = [], RunsGuests = true };
            case "--mode" when value is "ring3" or "ring0" or "protected" or "real":
                return options with { Modes = [Enum.Parse<StreamMode>(value, ignoreCase: true)], RunsGuests = false, IsModeNamed = true };
            default:
                return null;
        }
    }
}
