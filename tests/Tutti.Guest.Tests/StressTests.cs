using System.Globalization;
using Tutti.Guests;

namespace Tutti.Guest.Tests;

/// <summary>Locks, futexes, forks, signals, shoot-downs, changing code and memory order on several processors of a real guest.</summary>
[Collection("guests")]
public class StressTests
{
    /// <summary>Seconds that the guest works, after its boot.</summary>
    private static readonly double s_seconds =
        double.TryParse(Environment.GetEnvironmentVariable("TUTTI_STRESS_SECONDS"), CultureInfo.InvariantCulture, out double seconds) ? seconds : 12;

    /// <summary>What differs from run to run of the stress: waits, places, values.</summary>
    private static readonly string s_seed = Environment.GetEnvironmentVariable("TUTTI_STRESS_SEED") ?? "1";

    /// <summary>Parts whose features the software engine has on every host.</summary>
    private static readonly string[] s_ofEveryHost = ["protection-keys", "protection-keys-fork", "far-addresses", "user-mode-instruction-prevention"];

    [StressTheory]
    [InlineData(2)]
    [InlineData(4)]
    public async Task Processors_that_share_memory_lose_nothing_and_compute_nothing_wrong(int processors)
    {
        GuestImage image = await new ImageCatalog().GetAsync(ImageCatalog.DefaultImage);
        string initrd = Path.Combine(Path.GetTempPath(), Path.GetRandomFileName());
        StressProgram.WriteInitrd(image.InitrdPath, initrd);
        try
        {
            using var guest = new GuestSession("--engine", "software", "--cpus", processors.ToString(CultureInfo.InvariantCulture), "--initrd", initrd);
            guest.ExpectShell();
            string printed = guest.Run(FormattableString.Invariant($"stress {s_seconds} {s_seed}"), TimeSpan.FromSeconds((s_seconds * 4) + 240));

            string[] lines = [.. printed.Split('\n').Select(line => line.Trim()).Where(line => line.StartsWith("PART", StringComparison.Ordinal))];
            string failed = string.Join('\n', lines.Where(line => line.Contains("FAILED", StringComparison.Ordinal)));
            Assert.True(failed.Length == 0, failed);
            Assert.All(lines, line => Assert.Matches("^PART [^ ]+ (ok [1-9][0-9]*|left out: .+)$", line));
            Assert.EndsWith($"STRESS of {lines.Length} parts ended, 0 failed", printed, StringComparison.Ordinal);
            Assert.DoesNotContain(lines, line => line.Contains("left out: no ", StringComparison.Ordinal) && s_ofEveryHost.Any(name => line.StartsWith($"PART {name} ", StringComparison.Ordinal)));
            Assert.InRange(lines.Count(line => line.Contains(" ok ", StringComparison.Ordinal)), 65, int.MaxValue);

            // A program that faults on purpose is no complaint; anything else is.
            Assert.DoesNotContain(GuestSession.Complaints(guest.Run("dmesg")), line => !line.Contains("stress[", StringComparison.Ordinal));
            guest.Send("poweroff\n");
            Assert.Equal(0, guest.WaitForExit());
        }
        finally
        {
            File.Delete(initrd);
        }
    }
}
