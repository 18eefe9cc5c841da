using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using Tutti.Guests;
using Tutti.Host;
using Tutti.X86;

namespace Tutti.Cli;

/// <summary>The command line: names, help, and what runs for which words.</summary>
internal static class CommandLine
{
    /// <summary>Parses, runs, and turns every kind of failure into its message and status.</summary>
    internal static async Task<int> RunAsync(string[] args)
    {
        try
        {
            ParseResult result = Parse(args, new ImageCatalog());
            if (result.Errors.Count > 0 && result.Action is ParseErrorAction)
            {
                throw new UserException($"{Explain(result)} See 'tutti {HelpOf(result)}--help'.");
            }

            return await result.InvokeAsync(new InvocationConfiguration
            {
                EnableDefaultExceptionHandler = false,
                // Each command that can wait handles the signals itself.
                ProcessTerminationTimeout = null,
            });
        }
        catch (UserException e)
        {
            Notices.Write(e.Message);
            return ExitStatus.UserError;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or PlatformNotSupportedException)
        {
            Notices.Write(e.Message);
            return ExitStatus.UserError;
        }
        catch (Exception e)
        {
            // The last frame of the program: what is not foreseen becomes a message and a status.
            Notices.Write($"internal error: {e.GetType().Name}: {e.Message}");
            Notices.WriteText(e.StackTrace + "\n");
            return ExitStatus.InternalError;
        }
    }

    /// <summary>A run that says no more than what to run needs none of the other commands and no help texts, and starts sooner.</summary>
    private static ParseResult Parse(string[] args, ImageCatalog catalog)
    {
        ParserConfiguration configuration = new() { ResponseFileTokenReplacer = null };
        if (args is ["run", ..] && !Array.Exists(args, word => word.StartsWith("-h", StringComparison.Ordinal) || word.StartsWith("--h", StringComparison.Ordinal)))
        {
            // With its own name before its words: the parser passes over that, and would also pass over an image of that name.
            ParseResult run = RunCommandLine.Create(catalog).Parse(args, configuration);
            if (run.Errors.Count == 0)
            {
                return run;
            }
        }

        return Create(catalog).Parse(args, configuration);
    }

    internal static RootCommand Create(ImageCatalog catalog)
    {
        RootCommand root = new("Tutti runs virtual machines: at hardware speed where the host has KVM, else in software. It needs no root.");
        root.Add(RunCommandLine.Create(catalog));
        root.Add(CreateImage(catalog));
        root.Add(DiskCommands.CreateCommand());
        root.Add(CreateDoctor());
        root.Add(CreateVersion());
        root.Add(CreateCompletion());
        // The parser's own help option also goes by names of another system.
        HelpOption help = new("--help", "-h");
        help.Action = new HelpWithMore((HelpAction)help.Action!);
        root.Options.Remove(root.Options.First(option => option is HelpOption));
        root.Add(help);

        root.SetAction(static int (_) => throw new UserException("name a command: run, image, disk, doctor, version or completion. See 'tutti --help'."));
        return root;
    }

    private static Command CreateImage(ImageCatalog catalog)
    {
        Command image = new("image", "Guest images and their cache.");
        Option<bool> json = new("--json") { Description = "Print JSON." };
        Command list = new("list", "Show all images.") { json };
        list.SetAction(result => ImageCommands.List(catalog, Console.Out, result.GetValue(json)));
        image.Add(list);

        Argument<string> pullName = ImageName(catalog);
        Command pull = new("pull", "Fetch the newest version of an image.") { pullName };
        pull.SetAction((result, _) => ImageCommands.PullAsync(catalog, result.GetValue(pullName)!, Console.Out));
        image.Add(pull);

        Argument<string> removeName = ImageName(catalog);
        Command remove = new("rm", "Remove an image from the cache.") { removeName };
        remove.SetAction(result => ImageCommands.Remove(catalog, result.GetValue(removeName)!));
        image.Add(remove);
        return image;
    }

    private static Command CreateDoctor()
    {
        Option<bool> json = new("--json") { Description = "Print JSON." };
        Command doctor = new("doctor", "Show what this host can run guests with, how fast, and how to mend what it can't.") { json };
        doctor.SetAction(result => DoctorCommand.Run(Console.Out, result.GetValue(json)));
        return doctor;
    }

    private static Command CreateVersion()
    {
        Option<bool> json = new("--json") { Description = "Print JSON." };
        Command version = new("version", "Show the version.") { json };
        version.SetAction(result => VersionCommand.Run(Console.Out, result.GetValue(json)));
        return version;
    }

    private static Command CreateCompletion()
    {
        Argument<string> shell = new("SHELL") { HelpName = "SHELL", Description = string.Join(", ", CompletionScript.Shells) };
        shell.CompletionSources.Add(_ => CompletionScript.Shells);
        Command completion = new("completion", "Print a completion script for a shell.") { shell };
        completion.SetAction(result => Console.Out.WriteLine(CompletionScript.For(result.GetValue(shell)!)));
        return completion;
    }

    private static Argument<string> ImageName(ImageCatalog catalog)
    {
        Argument<string> name = new("IMAGE") { HelpName = "IMAGE", Description = "The image's name." };
        name.CompletionSources.Add(_ => ImageCatalog.Names);
        return name;
    }

    /// <summary>An option that may be given several times, with one value each.</summary>
    internal static Option<string[]> Texts(string name, string value, string description) =>
        new(name) { HelpName = value, Description = description, AllowMultipleArgumentsPerToken = false };

    internal static Option<string?> Text(string name, string value, string description) =>
        new(name) { HelpName = value, Description = description };

    /// <summary>The parser takes an unknown option for an argument when there is room for one, and then blames what follows.</summary>
    private static string Explain(ParseResult result) => result.CommandResult.Command.Arguments
        .SelectMany(argument => result.GetResult(argument)?.Tokens ?? [])
        .FirstOrDefault(token => token.Value.StartsWith('-')) is { } option
            ? $"unknown option '{option.Value}'."
            : result.Errors[0].Message;

    private static string HelpOf(ParseResult result) =>
        result.CommandResult.Command is RootCommand ? string.Empty : result.CommandResult.Command.Name + " ";

    private sealed class HelpWithMore(HelpAction inner) : SynchronousCommandLineAction
    {
        public override int Invoke(ParseResult parseResult)
        {
            int status = inner.Invoke(parseResult);
            TextWriter output = parseResult.InvocationConfiguration.Output;
            bool isRun = parseResult.CommandResult.Command.Name == "run";
            if (isRun)
            {
                output.WriteLine($"{RunCommandLine.Help}\n\n{DiskOption.Help}\n");
            }

            if (parseResult.CommandResult.Command.Name == "doctor")
            {
                output.WriteLine(DoctorCommand.Help + "\n");
            }

            if (isRun || parseResult.CommandResult.Command is RootCommand)
            {
                output.WriteLine(ExitStatus.Help);
            }

            return status;
        }
    }
}
