using System.Globalization;
using Tutti.Guests.Server;
using Tutti.Storage;

namespace Tutti.Cli;

/// <summary>The words of <c>--disk</c>.</summary>
internal static class DiskOption
{
    internal const string Form = "FILE[,ro][,overlay][,format=F][,...]";
    internal const string Allow = "allow";
    private const int MaxSerial = 20;
    private const int MaxQueues = 16;

    internal static readonly string Help =
        $"""
        --disk takes a file or block device, and behind commas what is said of it (a comma in its name is written twice):
          ro                     the guest can only read it; others may, too
          overlay                the guest's writes go to a throwaway image; the file is only read
          format=raw|qcow2       its format; found out when not given
          backing={Allow}          a qcow2 image may stand on any file that you may read, not only on those in its own folder
          serial=TEXT            serial number that the guest sees, at most {MaxSerial} characters
          queues=N               request queues, 1 to {MaxQueues}
          bps=SIZE, iops=N       bytes and requests a second at most; bps-rd, bps-wr, iops-rd and iops-wr for one direction
          bps-burst=SIZE, iops-burst=N   what may pass at once after a pause; a tenth of a second's worth when not given
        """;

    /// <summary>What an image may stand on without further words: files in its folder, and the disks that our machines' lie over.</summary>
    internal static BackingRule Backing => BackingRule.OwnFolder.And(new MachineDisks().Bases);

    private static readonly string[] Words =
        ["ro", "overlay", "format=", "backing=", "serial=", "queues=", "bps=", "bps-rd=", "bps-wr=", "bps-burst=", "iops=", "iops-rd=", "iops-wr=", "iops-burst="];

    /// <summary>Parses one <c>--disk</c>; the file is not looked at yet.</summary>
    /// <exception cref="UserException">A word is wrong.</exception>
    internal static DiskOptions Parse(string text)
    {
        List<string> words = Split(text);
        if (words[0].Length == 0)
        {
            throw new UserException($"--disk '{text}' names no file; write {Form}");
        }

        DiskOptions options = new() { Path = words[0], Backing = Backing };
        HashSet<string> seen = [];
        foreach (string word in words.Skip(1))
        {
            int equals = word.IndexOf('=', StringComparison.Ordinal);
            string name = equals < 0 ? word : word[..(equals + 1)];
            if (!Words.Contains(name))
            {
                string hint = Words.Contains(name + '=') ? $"'{name}' needs a value: {name}=..." : $"'{word}' is no word of it; it takes {string.Join(", ", Words)}";
                throw new UserException($"--disk '{text}': {hint}");
            }

            if (!seen.Add(name))
            {
                throw new UserException($"--disk '{text}': '{name.TrimEnd('=')}' is there twice; say it once");
            }

            options = Apply(text, options, name, equals < 0 ? string.Empty : word[(equals + 1)..]);
        }

        return options.IsReadOnly && options.IsOverlay
            ? throw new UserException($"--disk '{text}': give either ro or overlay; an overlay is for a guest that writes")
            : options;
    }

    private static DiskOptions Apply(string text, DiskOptions options, string name, string value) => name switch
    {
        "ro" => options with { IsReadOnly = true },
        "overlay" => options with { IsOverlay = true },
        "format=" => options with
        {
            Format = ImageFormat.Find(value) ?? throw new UserException($"--disk '{text}': no format '{value}'; formats: {string.Join(", ", ImageFormat.Names)}"),
        },
        "backing=" => options with
        {
            Backing = value == Allow ? BackingRule.Anywhere : throw new UserException($"--disk '{text}': backing takes {Allow} and nothing else"),
        },
        "serial=" => options with { Serial = CheckSerial(text, value) },
        "queues=" => options with { QueueCount = (int)CheckNumber(text, "queues", value, MaxQueues) },
        "bps=" => options with { Limits = options.Limits with { BytesPerSecond = CheckSize(text, "bps", value) } },
        "bps-rd=" => options with { Limits = options.Limits with { ReadBytesPerSecond = CheckSize(text, "bps-rd", value) } },
        "bps-wr=" => options with { Limits = options.Limits with { WriteBytesPerSecond = CheckSize(text, "bps-wr", value) } },
        "bps-burst=" => options with { Limits = options.Limits with { BytesBurst = CheckSize(text, "bps-burst", value) } },
        "iops=" => options with { Limits = options.Limits with { OperationsPerSecond = CheckNumber(text, "iops", value, int.MaxValue) } },
        "iops-rd=" => options with { Limits = options.Limits with { ReadOperationsPerSecond = CheckNumber(text, "iops-rd", value, int.MaxValue) } },
        "iops-wr=" => options with { Limits = options.Limits with { WriteOperationsPerSecond = CheckNumber(text, "iops-wr", value, int.MaxValue) } },
        _ => options with { Limits = options.Limits with { OperationsBurst = CheckNumber(text, "iops-burst", value, int.MaxValue) } },
    };

    /// <summary>At single commas; two in a row are one of a name.</summary>
    private static List<string> Split(string text)
    {
        List<string> words = [];
        int start = 0;
        for (int i = 0; i <= text.Length; i++)
        {
            if (i < text.Length && text[i] != ',')
            {
                continue;
            }

            if (i + 1 < text.Length && text[i + 1] == ',')
            {
                i++;
                continue;
            }

            words.Add(text[start..i].Replace(",,", ",", StringComparison.Ordinal));
            start = i + 1;
        }

        return words;
    }

    private static string CheckSerial(string text, string value) =>
        value.Length is >= 1 and <= MaxSerial && value.All(c => c is > ' ' and < '\x7F')
            ? value
            : throw new UserException($"--disk '{text}': a serial number is 1 to {MaxSerial} printable ASCII characters without blanks");

    private static long CheckNumber(string text, string name, string value, int most) =>
        int.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number >= 1 && number <= most
            ? number
            : throw new UserException($"--disk '{text}': {name} '{value}' is no number from 1 to {most}");

    private static long CheckSize(string text, string name, string value) =>
        Quantity.TryParseSize(value, out long bytes) && bytes > 0
            ? bytes
            : throw new UserException($"--disk '{text}': {name} '{value}' is no size above 0; write for example 100M");
}
