// Before anything else: the time of --timeout counts from here.
_ = Tutti.Cli.RunDeadline.ProcessStart;
return await Tutti.Cli.CommandLine.RunAsync(args);
