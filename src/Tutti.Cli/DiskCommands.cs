using System.CommandLine;
using System.Globalization;
using Tutti.Storage;

namespace Tutti.Cli;

/// <summary><c>tutti disk</c>: image files while no guest uses them.</summary>
internal static class DiskCommands
{
    /// <summary>The statuses of qemu-img check.</summary>
    private const int IsCorrupt = 2;
    private const int HasLeaks = 3;

    internal static Command CreateCommand()
    {
        Command disk = new("disk", "Disk images: make, look at, check, resize.");
        disk.Add(CreateCreate());
        disk.Add(CreateInfo());
        disk.Add(CreateCheck());
        disk.Add(CreateResize());
        return disk;
    }

    private static Command CreateCreate()
    {
        Argument<string> file = FileName();
        Argument<string?> size = new("SIZE") { HelpName = "SIZE", Description = "Its size, for example 20G; that of the backing file when not given.", Arity = ArgumentArity.ZeroOrOne };
        Option<string?> format = Format("--format", "F", $"{string.Join(" or ", ImageFormat.Names)}; {ImageFormat.Qcow2.Name} when not given.");
        Option<string?> backing = new("--backing") { HelpName = "FILE", Description = "Take what has not been written from this image, which must not change any more; from the new image's folder on where it is relative." };
        Option<string?> backingFormat = Format("--backing-format", "F", "The backing file's format; found out when not given.");
        Command create = new("create", "Make an image. It takes up space only as it is written.") { file, size, format, backing, backingFormat };
        create.SetAction(result => Create(
            result.GetValue(file)!,
            result.GetValue(size),
            CheckFormat("--format", result.GetValue(format)) ?? ImageFormat.Qcow2,
            result.GetValue(backing),
            CheckFormat("--backing-format", result.GetValue(backingFormat))));
        return create;
    }

    private static Command CreateInfo()
    {
        Argument<string> file = FileName();
        Option<string?> format = Format("--format", "F", "Its format; found out when not given.");
        Option<bool> json = new("--json") { Description = "Print JSON, with the names of 'qemu-img info'." };
        Command info = new("info", "Show what an image says of itself, also while it is in use.") { file, format, json };
        info.SetAction(result => Info(result.GetValue(file)!, CheckFormat("--format", result.GetValue(format)), Console.Out, result.GetValue(json)));
        return info;
    }

    private static Command CreateCheck()
    {
        Argument<string> file = FileName();
        Option<string?> format = Format("--format", "F", "Its format; found out when not given.");
        Option<bool> repair = new("--repair") { Description = "Mend what can be mended." };
        Option<bool> json = new("--json") { Description = "Print JSON, with the names of 'qemu-img check'." };
        Command check = new("check", "Look an image through: status 0 for a sound one, 2 for a damaged one, 3 for one that only wastes space.") { file, format, repair, json };
        check.SetAction(result => Check(
            result.GetValue(file)!, CheckFormat("--format", result.GetValue(format)), result.GetValue(repair), Console.Out, result.GetValue(json)));
        return check;
    }

    private static Command CreateResize()
    {
        Argument<string> file = FileName();
        Argument<string> size = new("SIZE") { HelpName = "[+|-]SIZE", Description = "The new size, or how much it is to grow or shrink." };
        Option<string?> format = Format("--format", "F", "Its format; found out when not given.");
        Option<bool> shrink = new("--shrink") { Description = "Allow a smaller size; what is behind it is lost." };
        Option<string?> backing = new("--backing") { HelpName = DiskOption.Allow, Description = "With this word its backing file may lie outside its folder." };
        Command resize = new("resize", "Change an image's size. Its partitions and file systems stay as they are.") { file, size, format, shrink, backing };
        resize.SetAction(result => Resize(
            result.GetValue(file)!, result.GetValue(size)!, CheckFormat("--format", result.GetValue(format)), result.GetValue(shrink), CheckBacking(result.GetValue(backing))));
        return resize;
    }

    private static int Create(string path, string? size, ImageFormat format, string? backing, ImageFormat? backingFormat)
    {
        if (backing == null && backingFormat != null)
        {
            throw new UserException("--backing-format says something of a backing file; name one with --backing");
        }

        if (backing == null && size == null)
        {
            throw new UserException($"say how large disk '{path}' is to be, for example 20G");
        }

        if (backing?.Length == 0)
        {
            throw new UserException("--backing names no file");
        }

        ImageFiles.Create(path, format, size == null ? null : CheckSize(size, size), backing, backingFormat);
        if (backing != null && !DiskOption.Backing.Allows(path, Path.Combine(Path.GetDirectoryName(Path.GetFullPath(path))!, backing)))
        {
            Notices.Write($"disk '{path}' stands on a file outside its folder: where you give it to a guest, say backing={DiskOption.Allow}");
        }

        return ExitStatus.Success;
    }

    private static int Info(string path, ImageFormat? format, TextWriter output, bool json)
    {
        ImageInfo info = ImageFiles.GetInfo(path, format);
        if (json)
        {
            output.WriteLine(DiskReports.ToJson(path, info));
        }
        else
        {
            DiskReports.Write(output, path, info);
        }

        return ExitStatus.Success;
    }

    private static int Check(string path, ImageFormat? format, bool repair, TextWriter output, bool json)
    {
        (string name, ImageCheck? check) = ImageFiles.Check(path, repair, format);
        if (check == null)
        {
            throw new UserException($"disk '{path}' is {name}: there is nothing in it to check");
        }

        if (json)
        {
            output.WriteLine(DiskReports.ToJson(path, name, check));
        }
        else
        {
            DiskReports.Write(output, check, repair);
        }

        return check switch
        {
            { CheckErrors: > 0 } => ExitStatus.InternalError,
            { Corruptions: > 0 } => IsCorrupt,
            { Leaks: > 0 } => HasLeaks,
            _ => ExitStatus.Success,
        };
    }

    private static int Resize(string path, string text, ImageFormat? format, bool mayShrink, BackingRule backing)
    {
        bool isChange = text.Length > 0 && text[0] is '+' or '-';
        long number = CheckSize(text, isChange ? text[1..] : text);
        ImageFiles.Resize(
            path,
            old =>
            {
                decimal wanted = isChange ? old + (text[0] == '+' ? (decimal)number : -(decimal)number) : number;
                if (wanted is < 512 or > long.MaxValue)
                {
                    throw new UserException($"disk '{path}' has {old.ToString(CultureInfo.InvariantCulture)} bytes; '{text}' gives no size that is possible");
                }

                return wanted >= old || mayShrink
                    ? (long)wanted
                    : throw new UserException($"disk '{path}' would shrink from {Quantity.FormatSize(old)} to {Quantity.FormatSize((long)wanted)} and lose what is behind it; add --shrink if you want that");
            },
            format,
            backing);
        return ExitStatus.Success;
    }

    private static long CheckSize(string text, string number) =>
        Quantity.TryParseSize(number, out long bytes) && bytes > 0
            ? bytes
            : throw new UserException($"'{text}' is no size above 0; write for example 20G");

    private static BackingRule CheckBacking(string? word) => word switch
    {
        null => DiskOption.Backing,
        DiskOption.Allow => BackingRule.Anywhere,
        _ => throw new UserException($"--backing takes {DiskOption.Allow} and nothing else"),
    };

    private static ImageFormat? CheckFormat(string option, string? name) => name == null
        ? null
        : ImageFormat.Find(name) ?? throw new UserException($"{option}: no format '{name}'; formats: {string.Join(", ", ImageFormat.Names)}");

    private static Argument<string> FileName() => new("FILE") { HelpName = "FILE", Description = "The image file." };

    private static Option<string?> Format(string name, string value, string description)
    {
        Option<string?> format = new(name) { HelpName = value, Description = description };
        format.CompletionSources.Add(_ => ImageFormat.Names);
        return format;
    }
}
