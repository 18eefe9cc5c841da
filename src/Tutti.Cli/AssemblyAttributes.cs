using System.Runtime.CompilerServices;

[assembly: InternalsVisibleTo("Tutti.Cli.Tests")]
