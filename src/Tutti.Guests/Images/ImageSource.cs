namespace Tutti.Guests;

/// <summary>One image of the catalogue: how it is made, and what its entry in the cache holds.</summary>
internal abstract class ImageSource
{
    public abstract string Name { get; }

    public abstract string Description { get; }

    /// <summary>The image of an entry if it is whole and this Tutti's.</summary>
    /// <param name="folder">The entry's.</param>
    /// <param name="hash">Whether all bytes are read.</param>
    /// <exception cref="IOException">It cannot be read.</exception>
    public abstract GuestImage? Open(string folder, bool hash);

    /// <summary>Makes an entry of an older one without fetching anything; false where that cannot be.</summary>
    public abstract bool TryRebuild(string oldEntry, string entry);

    /// <summary>Fetches what is needed and makes the entry in an existing, empty folder.</summary>
    /// <param name="entry">The entry's folder.</param>
    /// <param name="work">Another on the same disk, which is removed afterwards.</param>
    /// <param name="searchPath">Where programs are looked for, in the form of PATH.</param>
    /// <param name="report">Takes the stage, and how far the whole is, 0 to 1.</param>
    public abstract Task MakeAsync(string entry, string work, string searchPath, Action<string, double> report, CancellationToken cancellationToken);
}

/// <summary>The small image.</summary>
internal sealed class DebianSource : ImageSource
{
    public override string Name => DebianImage.Name;

    public override string Description => DebianImage.Description;

    public override GuestImage? Open(string folder, bool hash) =>
        ImageManifest.TryRead(folder) is ImageManifest manifest && manifest.Userland == DebianImage.Userland && manifest.ModulesRevision == ModuleArchive.Revision
            && manifest.Kernel.IsIntact(folder, hash) && manifest.Initrd.IsIntact(folder, hash) && manifest.Modules.IsIntact(folder, hash)
            ? Describe(folder, manifest)
            : null;

    public override bool TryRebuild(string oldEntry, string entry)
    {
        if (ImageManifest.TryRead(oldEntry) is not ImageManifest manifest || manifest.ModulesRevision != ModuleArchive.Revision
            || !manifest.Kernel.IsIntact(oldEntry, hash: true) || !manifest.BusyBox.IsIntact(oldEntry, hash: true) || !manifest.Modules.IsIntact(oldEntry, hash: true))
        {
            return false;
        }

        DebianImage.Rebuild(oldEntry, manifest, entry);
        return true;
    }

    public override Task MakeAsync(string entry, string work, string searchPath, Action<string, double> report, CancellationToken cancellationToken)
    {
        DiskSpace.Check(work, DiskSpace.NeededForPull);
        return DebianImage.FetchAsync(entry, new AptSession(work, searchPath), report, cancellationToken);
    }

    private static GuestImage Describe(string folder, ImageManifest manifest) => new()
    {
        Name = DebianImage.Name,
        Description = DebianImage.Description,
        Version = manifest.Version,
        KernelPath = Path.Combine(folder, manifest.Kernel.Name),
        InitrdPath = Path.Combine(folder, manifest.Initrd.Name),
        ModulesPath = Path.Combine(folder, manifest.Modules.Name),
        CommandLine = DebianImage.CommandLine,
        Size = manifest.Kernel.Size + manifest.Initrd.Size + manifest.BusyBox.Size + manifest.Modules.Size,
    };
}
