using System.Diagnostics;

namespace Tutti.Guests.Tests.Disks;

/// <summary>Runs something with random numbers, each run from a seed that a failure names; longer with TUTTI_FUZZ_SECONDS.</summary>
internal static class Fuzz
{
    public static void Run(int least, Action<Random> once)
    {
        int seed = int.TryParse(Environment.GetEnvironmentVariable("TUTTI_FUZZ_SEED"), out int number) ? number : 1;
        TimeSpan time = TimeSpan.FromSeconds(int.TryParse(Environment.GetEnvironmentVariable("TUTTI_FUZZ_SECONDS"), out int seconds) ? seconds : 0);
        Stopwatch watch = Stopwatch.StartNew();
        for (int run = 0; run < least || watch.Elapsed < time; run++)
        {
            try
            {
                once(new Random(unchecked(seed + run)));
            }
            catch (Exception e)
            {
                throw new InvalidOperationException($"seed {unchecked(seed + run)}", e);
            }
        }
    }
}
