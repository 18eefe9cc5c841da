using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using Tutti.Guests.Seed;
using Tutti.Host;
using Tutti.Storage;
using Tutti.Storage.Files;

namespace Tutti.Guests.Server;

/// <summary>Makes an empty qcow2 image over a raw one.</summary>
/// <param name="path">The file to make; it does not exist.</param>
/// <param name="backing">Absolute path of the raw disk below it.</param>
/// <param name="size">Bytes, at least the raw disk's.</param>
public delegate void OverlayFactory(string path, string backing, long size);

/// <summary>Which disk a machine of an image is to have.</summary>
public sealed record MachineDiskOptions
{
    /// <summary>The machine's name, which its disk is kept under; null for the image's.</summary>
    public string? Name { get; init; }

    /// <summary>Whether what was on the disk is to be thrown away.</summary>
    public bool IsFresh { get; init; }

    /// <summary>Bytes of a new disk; null for the image's size. The guest grows its file system at its next start.</summary>
    public long? Size { get; init; }
}

/// <summary>
/// The disks of machines that keep their data: overlays over an image's disk, in $XDG_DATA_HOME/tutti/disks. An overlay needs the very disk that it was
/// made over. That one is kept here, too, under a second name (a hard link, so that it takes no more room), whatever becomes of the image in
/// the cache: pulling a newer image, or removing the cache, harms no machine. It goes when the last overlay over it does.
/// </summary>
/// <param name="dataFolder">Where they are kept; null for <see cref="DefaultFolder"/>.</param>
public sealed class MachineDisks(string? dataFolder = null)
{
    private const string Extension = ".qcow2";
    private readonly string _root = Path.GetFullPath(dataFolder ?? DefaultFolder);

    /// <summary>$XDG_DATA_HOME/tutti, or ~/.local/share/tutti where that is unset or not absolute (XDG Base Directory Specification).</summary>
    public static string DefaultFolder
    {
        get
        {
            string? root = Environment.GetEnvironmentVariable("XDG_DATA_HOME");
            if (!Path.IsPathFullyQualified(root ?? string.Empty))
            {
                root = Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".local", "share");
            }

            return Path.Combine(root!, "tutti");
        }
    }

    private string Disks => Path.Combine(_root, "disks");

    /// <summary>Where the disks of images are that machines' disks lie over. They hold what the images hold, and nothing of this host's.</summary>
    public string Bases => Path.Combine(_root, "bases");

    /// <summary>The disk of a machine: the one that it had, or a new one over the image's.</summary>
    /// <param name="image">With a disk.</param>
    /// <param name="options">Which machine.</param>
    /// <param name="createOverlay">Makes an overlay; null for <see cref="ImageFiles"/>.</param>
    /// <returns>Absolute path of a qcow2 image.</returns>
    /// <exception cref="ImageException">It cannot be had, or is in use when it is to be thrown away.</exception>
    public async Task<string> PrepareAsync(GuestImage image, MachineDiskOptions options, OverlayFactory? createOverlay = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(image);
        ArgumentNullException.ThrowIfNull(options);
        createOverlay ??= (file, backing, size) => ImageFiles.Create(file, ImageFormat.Qcow2, size, backing, ImageFormat.Raw);
        string path = FindPath(options.Name ?? image.Name);
        try
        {
            MakeFolders();
            OwnerOnly.MakeFolder(Bases);
            using CacheLock held = await CacheLock.TakeAsync(_root, () => { }, cancellationToken).ConfigureAwait(false);
            if (File.Exists(path) && !options.IsFresh)
            {
                CheckSize(path, options.Size);
                return path;
            }

            await CreateAsync(path, image, options.Size ?? image.DiskSize, createOverlay, cancellationToken).ConfigureAwait(false);
            RemoveUnusedBases();
            return path;
        }
        catch (DiskException error)
        {
            throw new ImageException(error.Message, error);
        }
        catch (IOException error) when (DiskSpace.IsFull(error))
        {
            throw new ImageException($"The disk that holds {_root} is full: make room, or set XDG_DATA_HOME to a folder on another disk.", error);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new ImageException($"The machines' disks in {_root} cannot be used: {error.Message.TrimEnd('.')}. Set XDG_DATA_HOME to a folder that you may write to.", error);
        }
    }

    /// <summary>Writes a machine's seed beside its disk, for nobody else to read, as it may hold a password.</summary>
    /// <returns>Absolute path of an ISO 9660 image.</returns>
    /// <exception cref="ImageException">It cannot be written.</exception>
    public string WriteSeed(CloudInitSeed seed)
    {
        ArgumentNullException.ThrowIfNull(seed);
        string path = Path.ChangeExtension(FindPath(seed.Machine), ".seed.iso");
        byte[] bytes = seed.ToImage();
        try
        {
            MakeFolders();
            string unfinished = path + ".new";
            File.Delete(unfinished);
            using (FileStream file = OwnerOnly.Write(unfinished, FileMode.CreateNew))
            {
                file.Write(bytes);
            }

            // A machine that runs with the old one keeps it.
            File.Move(unfinished, path, overwrite: true);
            return path;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new ImageException($"The seed {path} cannot be written: {error.Message.TrimEnd('.')}. Set XDG_DATA_HOME to a folder that you may write to.", error);
        }
    }

    /// <summary>Where a machine's disk is, or would be.</summary>
    /// <exception cref="ImageException">The name is none.</exception>
    public string FindPath(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return name.Length is > 0 and <= 64 && char.IsAsciiLetterOrDigit(name[0]) && name.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.')
            ? Path.Combine(Disks, name + Extension)
            : throw new ImageException($"--name '{name}' is no name for a machine: up to 64 letters, digits, dots, hyphens and underscores, a letter or digit first.");
    }

    /// <summary>For the owner alone, and so is what lies in them already.</summary>
    private void MakeFolders()
    {
        OwnerOnly.MakeFolder(_root);
        OwnerOnly.MakeFolder(Disks);
        OwnerOnly.CloseFiles(Disks);
    }

    private static void CheckSize(string path, long? size)
    {
        if (size is long wanted && ReadHeader(path) is (long has, _) && wanted != has)
        {
            throw new ImageException(string.Create(
                CultureInfo.InvariantCulture,
                $"This machine's disk is there already and has {has >> 20} MiB: 'tutti disk resize {path} {wanted >> 20}M' changes that, or start anew with --fresh."));
        }
    }

    private async Task CreateAsync(string path, GuestImage image, long size, OverlayFactory createOverlay, CancellationToken cancellationToken)
    {
        string disk = image.DiskPath ?? throw new ArgumentException("The image has no disk.", nameof(image));
        if (size < image.DiskSize)
        {
            throw new ImageException(string.Create(CultureInfo.InvariantCulture, $"--disk-size is less than the {image.DiskSize >> 20} MiB that the image '{image.Name}' has: give more."));
        }

        if (File.Exists(path))
        {
            // Locked while another machine uses it.
            using BlockFile old = BlockFile.Open(path, isReadOnly: false);
        }

        string place = await KeepAsync(image.Name, disk, cancellationToken).ConfigureAwait(false);
        string unfinished = path + ".new";
        File.Delete(unfinished);
        try
        {
            createOverlay(unfinished, place, size);
            File.Move(unfinished, path, overwrite: true);
        }
        finally
        {
            File.Delete(unfinished);
        }
    }

    /// <summary>Gives an image's disk its second name; copies it where that cannot be, its holes left out.</summary>
    private async Task<string> KeepAsync(string name, string disk, CancellationToken cancellationToken)
    {
        // Each build of an image has its own time.
        string place = Path.Combine(Bases, string.Create(CultureInfo.InvariantCulture, $"{name}-{new FileInfo(disk).LastWriteTimeUtc.Ticks:x}.img"));
        if (File.Exists(place))
        {
            return place;
        }

        string unfinished = place + ".new";
        File.Delete(unfinished);
        ToolResult result = await ExternalTool.RunAsync(
            "/bin/sh",
            ["-c", "ln -- \"$1\" \"$2\" 2> /dev/null || cp --sparse=always --reflink=auto --preserve=timestamps -- \"$1\" \"$2\"", "sh", disk, unfinished],
            Bases,
            _ => { },
            cancellationToken).ConfigureAwait(false);
        if (result.ExitCode != 0)
        {
            File.Delete(unfinished);
            throw new ImageException(DiskSpace.IsReportedIn(result.Errors)
                ? $"The disk that holds {_root} is full: make room, or set XDG_DATA_HOME to a folder on another disk."
                : $"The image's disk could not be copied to {Bases}: {result.Errors.Split('\n')[0]}.");
        }

        File.Move(unfinished, place);
        return place;
    }

    private void RemoveUnusedBases()
    {
        HashSet<string> used = [];
        foreach (string disk in Directory.EnumerateFiles(Disks, "*" + Extension))
        {
            if (ReadHeader(disk) is not (_, string backing))
            {
                // Who knows what it needs: nothing is removed.
                return;
            }

            used.Add(backing);
        }

        foreach (string file in Directory.EnumerateFiles(Bases, "*.img").Where(file => !used.Contains(file)))
        {
            File.Delete(file);
        }
    }

    /// <summary>A qcow2 image's length and what lies below it (empty for nothing); null for what is none.</summary>
    internal static (long Size, string Backing)? ReadHeader(string path)
    {
        byte[] header = new byte[32];
        using FileStream file = new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, bufferSize: 0);
        if (file.ReadAtLeast(header, header.Length, throwOnEndOfStream: false) < header.Length || !header.AsSpan().StartsWith("QFI"u8) || header[3] != 0xFB)
        {
            return null;
        }

        long at = BinaryPrimitives.ReadInt64BigEndian(header.AsSpan(8));
        int length = BinaryPrimitives.ReadInt32BigEndian(header.AsSpan(16));
        if (length is < 0 or > 1023 || at < 0 || at > file.Length - length)
        {
            return null;
        }

        byte[] name = new byte[length];
        file.Position = at;
        file.ReadExactly(name);
        return (BinaryPrimitives.ReadInt64BigEndian(header.AsSpan(24)), Encoding.UTF8.GetString(name));
    }
}
