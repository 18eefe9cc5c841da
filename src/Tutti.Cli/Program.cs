return await Tutti.Cli.CommandLine.RunAsync(args);
