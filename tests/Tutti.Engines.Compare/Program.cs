using Tutti.Cpu;
using Tutti.Cpu.Interpreter;
using Tutti.Cpu.Kvm;

namespace Tutti.Engines.Compare;

/// <summary>The program: see <see cref="CompareOptions.Usage"/>.</summary>
internal static class Program
{
    private const int ExitUnknown = 1;
    private const int ExitBadWord = 2;
    private const int ExitSkipped = 77;

    public static int Main(string[] args)
    {
        CompareOptions? options = CompareOptions.TryParse(args, out string? problem);
        if (options == null)
        {
            Console.Error.WriteLine(problem);
            return ExitBadWord;
        }

        if (options.IsHelp)
        {
            Console.WriteLine(CompareOptions.Usage);
            return 0;
        }

        IEngine first = new KvmEngine();
        IEngine second = new SoftwareEngine();
        Comparison comparison;
        try
        {
            comparison = new Comparison(first, second, options, line => (options.IsJson ? Console.Error : Console.Out).WriteLine(line));
        }
        catch (PlatformNotSupportedException e)
        {
            Console.Error.WriteLine($"skipped: {e.Message}");
            return ExitSkipped;
        }

        comparison.Run();
        Console.WriteLine(options.IsJson ? Report.Json(comparison, first.Name, second.Name) : Report.Text(comparison, first.Name, second.Name));
        return comparison.UnknownCount == 0 ? 0 : ExitUnknown;
    }
}
