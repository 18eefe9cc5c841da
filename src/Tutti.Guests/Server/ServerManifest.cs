using System.Text.Json;
using System.Text.Json.Serialization;

namespace Tutti.Guests.Server;

/// <summary>What the cache entry of an image on a disk holds; lies in it as manifest.json.</summary>
internal sealed record ServerManifest
{
    public required string Version { get; init; }

    public required string Revision { get; init; }

    public required string CommandLine { get; init; }

    /// <summary>Bytes that the entry takes.</summary>
    public required long Occupied { get; init; }

    /// <summary>Not hashed: reading ten gigabytes of holes at a check takes longer than it is worth; its length and time tell of a change.</summary>
    public required ManifestFile Disk { get; init; }

    public required ManifestFile Kernel { get; init; }

    public required ManifestFile Initrd { get; init; }

    /// <summary>The manifest of an entry; null where it is missing or cannot be understood.</summary>
    public static ServerManifest? TryRead(string folder)
    {
        try
        {
            ServerManifest? manifest = JsonSerializer.Deserialize(File.ReadAllBytes(Path.Combine(folder, ImageManifest.FileName)), ServerManifestJson.Default.ServerManifest);
            return manifest is { Version: not null, CommandLine: not null } && IsHere(manifest.Disk) && IsHere(manifest.Kernel) && IsHere(manifest.Initrd) ? manifest : null;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or JsonException)
        {
            return null;
        }

        static bool IsHere(ManifestFile? file) => file is { Name.Length: > 0, Sha256: not null } && Path.GetFileName(file.Name) == file.Name;
    }

    public void Write(string folder)
    {
        using FileStream stream = new(Path.Combine(folder, ImageManifest.FileName), FileMode.Create, FileAccess.Write);
        JsonSerializer.Serialize(stream, this, ServerManifestJson.Default.ServerManifest);
    }
}

[JsonSourceGenerationOptions(WriteIndented = true, PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(ServerManifest))]
internal sealed partial class ServerManifestJson : JsonSerializerContext;
