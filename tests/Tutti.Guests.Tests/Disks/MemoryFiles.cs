using System.Text;
using Tutti.Guests.Disks;

namespace Tutti.Guests.Tests.Disks;

/// <summary>A file system that a test writes down.</summary>
internal sealed class MemoryFiles : IFileSystem
{
    private readonly SortedDictionary<string, byte[]> _files = new(StringComparer.Ordinal);

    public ReadBudget Budget { get; } = new(64 << 20);

    public string Uuid { get; init; } = string.Empty;

    public string Label { get; init; } = string.Empty;

    public string this[string path]
    {
        set => _files[path] = Encoding.UTF8.GetBytes(value);
    }

    /// <summary>A disk with these, as partitions one after the other.</summary>
    public static List<DiskVolume> Disk(params MemoryFiles[] parts) =>
        [.. parts.Select((files, i) => new DiskVolume(new DiskPartition(i + 1, i << 20, 1 << 20, null), files, files.Uuid, files.Label, string.Empty))];

    public IReadOnlyList<string> List(string path)
    {
        string folder = path.TrimEnd('/') + "/";
        return [.. _files.Keys.Where(name => name.StartsWith(folder, StringComparison.Ordinal)).Select(name => name[folder.Length..].Split('/')[0]).Distinct()];
    }

    public FileKind? Find(string path) => _files.ContainsKey(path) ? FileKind.File : List(path).Count > 0 ? FileKind.Folder : null;

    public long? Measure(string path) => _files.TryGetValue(path, out byte[]? bytes) ? bytes.Length : null;

    public bool TryRead(string path, Span<byte> into)
    {
        if (!_files.TryGetValue(path, out byte[]? bytes))
        {
            return false;
        }

        bytes.AsSpan(0, into.Length).CopyTo(into);
        return true;
    }
}
