using Tutti.Guests;
using Tutti.Guests.Seed;
using Tutti.Guests.Server;
using Tutti.Storage;

namespace Tutti.Cli;

/// <summary>The words of <c>tutti run</c> that are about a machine with a disk of its own, as the user wrote them.</summary>
internal sealed record MachineArguments
{
    internal string? Name { get; init; }

    internal bool IsFresh { get; init; }

    internal string? DiskSize { get; init; }

    internal string? HostName { get; init; }

    internal string? User { get; init; }

    internal IReadOnlyList<string> SshKeys { get; init; } = [];

    internal string? UserData { get; init; }

    /// <summary>The first of the options that go with an image on a disk only.</summary>
    internal string? FirstOfDisk => Name != null ? "--name" : IsFresh ? "--fresh" : DiskSize != null ? "--disk-size" : null;

    /// <summary>The first of the options that cloud-init in the guest carries out.</summary>
    internal string? FirstOfSeed =>
        HostName != null ? "--hostname" : User != null ? "--user" : SshKeys.Count > 0 ? "--ssh-key" : UserData != null ? "--user-data" : null;
}

/// <summary>Which machine's disk a run is about, and what its guest is told at its first start.</summary>
internal sealed class MachineChoice
{
    /// <summary>Images whose disks are kept for each machine.</summary>
    private static readonly string[] ServerImages = ["debian-server"];

    private readonly MachineDisks _disks = new();
    private readonly MachineDiskOptions _disk = new();
    private readonly CloudInitSeed? _seed;

    internal MachineChoice()
    {
    }

    private MachineChoice(MachineDiskOptions disk, CloudInitSeed? seed) => (_disk, _seed) = (disk, seed);

    /// <param name="words">The options.</param>
    /// <param name="image">The image that is run; null for none.</param>
    /// <param name="disk">The disk that is booted from instead; null for none.</param>
    /// <exception cref="UserException">One of them is wrong, or goes with something else.</exception>
    internal static MachineChoice Check(MachineArguments words, string? image, string? disk)
    {
        bool isServer = image != null && ServerImages.Contains(image);
        if (!isServer && words.FirstOfDisk is { } option)
        {
            throw new UserException($"{option} goes with an image that has a disk ({string.Join(", ", ServerImages)}); other disks are given with --disk");
        }

        if (!isServer && disk == null && words.FirstOfSeed is { } seedOption)
        {
            throw new UserException($"{seedOption} goes with a disk that cloud-init is on, as the image {ServerImages[0]} has it");
        }

        long? size = null;
        if (words.DiskSize != null)
        {
            size = Quantity.TryParseSize(words.DiskSize, out long bytes) && bytes > 0
                ? (bytes + 511) / 512 * 512
                : throw new UserException($"--disk-size '{words.DiskSize}' is no size; write for example 20G");
        }

        try
        {
            MachineDiskOptions options = new() { Name = words.Name, IsFresh = words.IsFresh, Size = size };
            if (words.Name != null)
            {
                _ = new MachineDisks().FindPath(words.Name);
            }

            return new MachineChoice(options, (words.Name ?? image ?? disk) is { } machine ? CheckSeed(words, MachineName(machine), isServer) : null);
        }
        catch (ImageException e)
        {
            throw new UserException(e.Message);
        }
    }

    /// <summary>The machine's disk, made first where it is new.</summary>
    /// <exception cref="ImageException">It cannot be had.</exception>
    internal Task<string> PrepareDiskAsync(GuestImage image, CancellationToken cancellationToken) =>
        _disks.PrepareAsync(
            image, _disk, static (path, backing, size) => _ = ImageFiles.Create(path, ImageFormat.Qcow2, size, backing, ImageFormat.Raw), cancellationToken);

    /// <summary>Writes the seed; its path, or null where there is nothing to say.</summary>
    /// <exception cref="ImageException">It cannot be written.</exception>
    internal string? WriteSeed() => _seed == null ? null : _disks.WriteSeed(_seed);

    private static CloudInitSeed? CheckSeed(MachineArguments words, string machine, bool isServer)
    {
        CloudInitSeed seed = new()
        {
            Machine = machine,
            HostName = words.HostName,
            User = words.User,
            SshKeys = [.. words.SshKeys.SelectMany(CloudInitSeed.ReadSshKeys)],
            UserData = words.UserData == null ? default(ReadOnlyMemory<byte>?) : ReadUserData(words.UserData),
            IsServerImage = isServer,
        };
        seed.Validate();
        return seed.IsEmpty ? null : seed;
    }

    private static byte[] ReadUserData(string path)
    {
        using InputFile file = InputFile.Open("--user-data", path, 16 << 20);
        byte[] bytes = new byte[file.Length];
        file.ReadTo(bytes);
        return bytes;
    }

    /// <summary>A seed's place is named after the machine, or the disk's file.</summary>
    private static string MachineName(string path)
    {
        string name = new([.. Path.GetFileNameWithoutExtension(path.Split(',')[0]).Select(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.' ? c : '-').Take(60)]);
        return name.Length > 0 && char.IsAsciiLetterOrDigit(name[0]) ? name : "disk-" + name;
    }
}
