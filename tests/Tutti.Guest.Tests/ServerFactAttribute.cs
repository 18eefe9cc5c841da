namespace Tutti.Guest.Tests;

/// <summary>A test of the image debian-server: skipped, with its reason, where the image was not built or a program that judges it is missing.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class ServerFactAttribute : FactAttribute
{
    private static readonly string[] Programs = ["/usr/bin/ssh", "/usr/bin/ssh-keygen", "/usr/bin/qemu-img", "/usr/sbin/e2fsck"];

    public ServerFactAttribute()
    {
        // Building it takes minutes and the distribution's packages: `tutti image pull debian-server` first.
        bool isBuilt = new Guests.ImageCatalog().List().Any(image => image.Name == "debian-server" && image.Cached is not null);
        string[] missing = [.. Programs.Where(program => !File.Exists(program))];
        Skip = !isBuilt ? "the image debian-server was not built on this machine (tutti image pull debian-server)"
            : missing.Length > 0 ? $"not installed: {string.Join(' ', missing)}"
            : null;
    }
}
