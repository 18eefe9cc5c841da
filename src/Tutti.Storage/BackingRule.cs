using Tutti.Host;

namespace Tutti.Storage;

/// <summary>
/// Which files an image may name as what it stands on. The name is the image's, and the image perhaps a stranger's: what it names, its guest
/// reads. So without the user's word only files in the folder of the image that the user named count, for the whole chain below it; it is asked where a name leads,
/// not how it is written. Names that begin with a dot, as keys and passwords have them, lie in no image's folder.
/// </summary>
public sealed class BackingRule
{
    private BackingRule(bool isAnywhere, IReadOnlyList<string> folders) => (IsAnywhere, Folders) = (isAnywhere, folders);

    /// <summary>Files in the image's own folder.</summary>
    public static BackingRule OwnFolder { get; } = new(isAnywhere: false, []);

    /// <summary>Any file that the user may read: the user trusts whoever made the image.</summary>
    public static BackingRule Anywhere { get; } = new(isAnywhere: true, []);

    /// <summary>Whether every file will do.</summary>
    public bool IsAnywhere { get; }

    /// <summary>Folders whose files will do beside the image's own: they hold nothing that a guest may not read.</summary>
    public IReadOnlyList<string> Folders { get; }

    /// <summary>The same with one more folder.</summary>
    public BackingRule And(string folder) => IsAnywhere ? this : new BackingRule(isAnywhere: false, [.. Folders, folder]);

    /// <summary>Whether a file may lie below an image. One that is not there may: nothing is read of it.</summary>
    /// <param name="image">The image that the user named.</param>
    /// <param name="file">The file, as it would be opened.</param>
    public bool Allows(string image, string file)
    {
        ArgumentNullException.ThrowIfNull(image);
        if (IsAnywhere)
        {
            return true;
        }

        // The kernel's answer: in a path as link/../file it goes another way than the text. A path with a NUL is another one for it, and leads nowhere.
        return HostFile.FindRealPath(file) is not { } real
            ? !file.Contains('\0', StringComparison.Ordinal) && !Path.Exists(file)
            : Holds(image[..(image.LastIndexOf('/') + 1)] + ".", real) || Folders.Any(folder => Holds(folder, real));
    }

    private static bool Holds(string folder, string real)
    {
        if (HostFile.FindRealPath(folder) is not { } start)
        {
            return false;
        }

        start = start.EndsWith('/') ? start : start + '/';
        return real.StartsWith(start, StringComparison.Ordinal) && !real.AsSpan(start.Length - 1).Contains("/.", StringComparison.Ordinal);
    }
}
