namespace Tutti.Guests;

/// <summary>The kernels that the host itself can boot, for hints: guests may use them too.</summary>
public static class HostKernel
{
    /// <summary>The newest readable /boot/vmlinuz*, or null. Many hosts let only root read them.</summary>
    /// <param name="folder">Where to look.</param>
    public static string? Find(string folder = "/boot")
    {
        try
        {
            return Directory.EnumerateFiles(folder, "vmlinuz*").Where(IsReadable).OrderDescending(StringComparer.Ordinal).FirstOrDefault();
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>The end of a sentence that names the host's kernel; empty where there is none.</summary>
    internal static string Hint() => Find() is string path ? $" (this host's own kernel is {path})" : string.Empty;

    private static bool IsReadable(string path)
    {
        try
        {
            using FileStream file = File.OpenRead(path);
            return true;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }
}
