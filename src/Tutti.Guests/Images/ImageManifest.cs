using System.Security.Cryptography;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace Tutti.Guests;

/// <summary>One file of a cache entry as it was when the entry was made.</summary>
/// <param name="Name">File name in the entry's folder.</param>
/// <param name="Size">Length in bytes.</param>
/// <param name="Modified">Time of the last change, UTC ticks.</param>
/// <param name="Sha256">Lower-case hexadecimal.</param>
internal sealed record ManifestFile(string Name, long Size, long Modified, string Sha256)
{
    public static ManifestFile Measure(string path)
    {
        FileInfo info = new(path);
        return new ManifestFile(info.Name, info.Length, info.LastWriteTimeUtc.Ticks, Hash(path));
    }

    /// <summary>Whether the file in a folder is still this one. Reads it whole only when asked to, or when its time has changed.</summary>
    public bool IsIntact(string folder, bool hash)
    {
        FileInfo info = new(Path.Combine(folder, Name));
        return info.Exists && info.Length == Size
            && ((!hash && info.LastWriteTimeUtc.Ticks == Modified) || Hash(info.FullName) == Sha256);
    }

    /// <summary>Whether length and time of the file in a folder are still these.</summary>
    public bool IsUntouched(string folder)
    {
        FileInfo info = new(Path.Combine(folder, Name));
        return info.Exists && info.Length == Size && info.LastWriteTimeUtc.Ticks == Modified;
    }

    private static string Hash(string path)
    {
        using FileStream stream = File.OpenRead(path);
        return Convert.ToHexStringLower(SHA256.HashData(stream));
    }
}

/// <summary>What a cache entry holds; lies in it as manifest.json.</summary>
internal sealed record ImageManifest
{
    public const string FileName = "manifest.json";

    /// <summary>Version of the kernel package.</summary>
    public required string Version { get; init; }

    /// <summary>SHA-256 of what Tutti itself put into the RAM disk: another means that it is to be made anew.</summary>
    public required string Userland { get; init; }

    public required ManifestFile Kernel { get; init; }

    public required ManifestFile Initrd { get; init; }

    public required ManifestFile BusyBox { get; init; }

    /// <summary>The drivers that the RAM disk lacks.</summary>
    public required ManifestFile Modules { get; init; }

    /// <summary><see cref="ModuleArchive.Revision"/> of those.</summary>
    public required string ModulesRevision { get; init; }

    /// <summary>The manifest of an entry; null where it is missing or cannot be understood, and the entry is to be made anew.</summary>
    public static ImageManifest? TryRead(string folder)
    {
        try
        {
            // By hand: every run of an image reads this, and the serializer takes a tenth of the time to the guest's first instruction.
            using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, FileName)));
            return new ImageManifest
            {
                Version = ReadText(document.RootElement, "version"),
                Userland = ReadText(document.RootElement, "userland"),
                Kernel = ReadFile(document.RootElement, "kernel"),
                Initrd = ReadFile(document.RootElement, "initrd"),
                BusyBox = ReadFile(document.RootElement, "busyBox"),
                Modules = ReadFile(document.RootElement, "modules"),
                ModulesRevision = ReadText(document.RootElement, "modulesRevision"),
            };
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or JsonException or FormatException)
        {
            return null;
        }
    }

    public void Write(string folder)
    {
        using FileStream stream = new(Path.Combine(folder, FileName), FileMode.Create, FileAccess.Write);
        JsonSerializer.Serialize(stream, this, ManifestJson.Default.ImageManifest);
    }

    private static ManifestFile ReadFile(JsonElement parent, string key)
    {
        JsonElement file = Find(parent, key, JsonValueKind.Object);
        string name = ReadText(file, "name");
        return name.Length > 0 && Path.GetFileName(name) == name
            ? new ManifestFile(
                name,
                Find(file, "size", JsonValueKind.Number).GetInt64(),
                Find(file, "modified", JsonValueKind.Number).GetInt64(),
                ReadText(file, "sha256"))
            : throw new JsonException($"'{name}' is no file of the entry's folder");
    }

    private static string ReadText(JsonElement parent, string key) => Find(parent, key, JsonValueKind.String).GetString()!;

    /// <exception cref="JsonException">The element has none, or none of that kind.</exception>
    private static JsonElement Find(JsonElement parent, string key, JsonValueKind kind) =>
        parent.ValueKind == JsonValueKind.Object && parent.TryGetProperty(key, out JsonElement value) && value.ValueKind == kind
            ? value
            : throw new JsonException($"no {kind} '{key}'");
}

[JsonSourceGenerationOptions(WriteIndented = true, PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(ImageManifest))]
internal sealed partial class ManifestJson : JsonSerializerContext;
