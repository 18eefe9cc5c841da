namespace Tutti.Boot.Tests;

/// <summary>A test that needs ACPICA's compiler; skipped with that reason where it is not installed.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class IaslFactAttribute : FactAttribute
{
    public IaslFactAttribute()
    {
        if (Iasl is null)
        {
            Skip = "iasl is not installed (Debian package acpica-tools)";
        }
    }

    public static string? Iasl { get; } = (Environment.GetEnvironmentVariable("PATH") ?? string.Empty).Split(':')
        .Select(folder => Path.Combine(folder, "iasl")).FirstOrDefault(File.Exists);
}
