namespace Tutti.Virtio.Tests;

/// <summary>How long fuzz tests run and where they start: TUTTI_FUZZ_SECONDS and TUTTI_FUZZ_SEED.</summary>
internal static class FuzzSettings
{
    public static int Seed { get; } = Setting("TUTTI_FUZZ_SEED", 1);

    public static TimeSpan Time { get; } = TimeSpan.FromSeconds(Setting("TUTTI_FUZZ_SECONDS", 0));

    private static int Setting(string name, int otherwise) =>
        int.TryParse(Environment.GetEnvironmentVariable(name), out int value) ? value : otherwise;
}
