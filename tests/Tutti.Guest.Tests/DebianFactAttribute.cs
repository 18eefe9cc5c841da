namespace Tutti.Guest.Tests;

/// <summary>A test that boots the image `debian`: skipped, with its reason, where neither the cache nor apt has it.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal class DebianFactAttribute : FactAttribute
{
    public DebianFactAttribute()
    {
        bool cached = new Guests.ImageCatalog().List().Any(image => image.Cached is not null);
        if (!cached && !HasTool("apt-get"))
        {
            Skip = "the image debian is not in the cache and apt-get, which could fetch it, is not installed";
        }
    }

    private static bool HasTool(string name) => (Environment.GetEnvironmentVariable("PATH") ?? "")
        .Split(':', StringSplitOptions.RemoveEmptyEntries)
        .Any(folder => File.Exists(Path.Combine(folder, name)));
}
