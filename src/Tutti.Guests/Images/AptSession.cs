using System.Formats.Tar;
using System.Globalization;

namespace Tutti.Guests;

/// <summary>
/// Fetches packages for one architecture with the host's apt, sources and trusted keys, and with state folders of its own, so that
/// neither root nor an earlier "apt-get update" is needed and nothing of the host's changes. apt checks signatures and
/// hashes. Options: apt.conf(5), apt-get(8).
/// </summary>
internal sealed class AptSession
{
    private readonly string _folder;
    private readonly string _aptGet;
    private readonly string _aptCache;
    private readonly string _dpkgDeb;
    private string _updateErrors = string.Empty;

    /// <param name="folder">An existing, empty folder; it may be deleted when the session is no longer used.</param>
    /// <param name="searchPath">Where apt's programs are looked for, in the form of PATH.</param>
    /// <param name="architecture">Debian's name of it.</param>
    /// <exception cref="ImageException">The host has no apt.</exception>
    public AptSession(string folder, string searchPath, string architecture = "amd64")
    {
        _folder = folder;
        SearchPath = searchPath;
        _aptGet = Require("apt-get", searchPath);
        _aptCache = Require("apt-cache", searchPath);
        _dpkgDeb = Require("dpkg-deb", searchPath);
        foreach (string name in (string[])["lists/partial", "cache/archives/partial", "download", "log"])
        {
            Directory.CreateDirectory(Path.Combine(folder, name));
        }

        File.WriteAllBytes(Path.Combine(folder, "status"), []);
        File.WriteAllText(ConfigurationFile, Configuration(folder, architecture));
    }

    /// <summary>Where programs are looked for, in the form of PATH.</summary>
    public string SearchPath { get; }

    private string ConfigurationFile => Path.Combine(_folder, "apt.conf");

    /// <summary>Fetches the package lists. A source that cannot be reached is no error yet: another may have what is asked for.</summary>
    /// <param name="onFraction">Told how far it is, 0 to 1.</param>
    public async Task UpdateAsync(Action<double> onFraction, CancellationToken cancellationToken)
    {
        ToolResult result = await RunAsync(_aptGet, ["update"], onFraction, cancellationToken).ConfigureAwait(false);
        _updateErrors = result.Errors;
        if (DiskSpace.IsReportedIn(_updateErrors))
        {
            throw new ImageException(DiskSpace.Message);
        }
    }

    /// <summary>The fields of the newest version of a package: Version, Depends, …</summary>
    /// <exception cref="ImageException">No source has it.</exception>
    public async Task<IReadOnlyDictionary<string, string>> ShowAsync(string package, CancellationToken cancellationToken)
    {
        ToolResult result = await RunAsync(_aptCache, ["show", "--no-all-versions", package], null, cancellationToken).ConfigureAwait(false);
        Dictionary<string, string> fields = [];
        foreach (string line in result.Output.Split('\n').TakeWhile(line => line.Length > 0))
        {
            int colon = line.IndexOf(':', StringComparison.Ordinal);
            if (colon > 0 && line[0] != ' ')
            {
                fields[line[..colon]] = line[(colon + 1)..].Trim();
            }
        }

        if (result.ExitCode != 0 || !fields.ContainsKey("Version"))
        {
            throw _updateErrors.Length > 0
                ? Failure("apt-get could not fetch the package lists", _updateErrors)
                : new ImageException($"The package {package} is in none of this host's apt sources (are they Debian's?): give a kernel with --kernel and an initial RAM disk with --initrd.");
        }

        return fields;
    }

    /// <summary>
    /// The sources of a suite and its updates that say they are a distribution's, as lines of a sources.list(5). The package lists must have been
    /// fetched: they say whose they are.
    /// </summary>
    public async Task<IReadOnlyList<string>> ListSourcesAsync(string origin, string suite, string keyring, CancellationToken cancellationToken)
    {
        const string Format = "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)";
        ToolResult result = await RunAsync(_aptGet, ["indextargets", "--format", Format, "Created-By: Packages"], null, cancellationToken).ConfigureAwait(false);
        return [.. result.Output.Split('\n')
            .Select(line => line.Split('|'))
            .Where(fields => fields.Length == 4 && fields[0] == origin && (fields[2] == suite || fields[2].StartsWith(suite + "-", StringComparison.Ordinal) && !fields[2].EndsWith("-backports", StringComparison.Ordinal)))
            .Select(fields => $"deb [signed-by={keyring}] {fields[1]} {fields[2]} {fields[3]}")
            .Distinct()];
    }

    /// <summary>Fetches packages; returns the path of each one's file, in the order asked.</summary>
    public async Task<IReadOnlyList<string>> DownloadAsync(IReadOnlyList<string> packages, Action<double> onFraction, CancellationToken cancellationToken)
    {
        ToolResult result = await RunAsync(_aptGet, ["download", .. packages], onFraction, cancellationToken).ConfigureAwait(false);
        if (result.ExitCode != 0)
        {
            // A package list that could not be fetched looks here like a package that does not exist.
            throw Failure("apt-get could not fetch the packages", _updateErrors.Length > 0 ? _updateErrors + result.Errors : result.Errors);
        }

        string[] files = Directory.GetFiles(Path.Combine(_folder, "download"), "*.deb");
        return [.. packages.Select(package => Array.Find(files, file => Path.GetFileName(file).StartsWith(package + "_", StringComparison.Ordinal))
            ?? throw new ImageException($"apt-get reported success and left no file of the package {package}."))];
    }

    /// <summary>Copies the first regular file whose path in a package fits out of it.</summary>
    /// <param name="package">Path of the .deb file.</param>
    /// <param name="matches">Asked with paths that start with neither a slash nor a dot.</param>
    /// <param name="target">The file to make.</param>
    public async Task ExtractAsync(string package, Predicate<string> matches, string target, CancellationToken cancellationToken)
    {
        bool found = false;
        (string? damage, string errors) = await ReadPackageAsync(package, path => matches(path) ? target : null, () => found = true, cancellationToken).ConfigureAwait(false);
        if (!found)
        {
            throw Unusable(package, errors.Length > 0 ? errors : damage ?? "it holds no such file");
        }
    }

    /// <summary>Copies regular files out of a package.</summary>
    /// <param name="package">Path of the .deb file.</param>
    /// <param name="target">Gives the file to make for a path, which starts with neither a slash nor a dot; null for none.</param>
    public async Task ExtractAllAsync(string package, Func<string, string?> target, CancellationToken cancellationToken)
    {
        (string? damage, string errors) = await ReadPackageAsync(package, target, () => false, cancellationToken).ConfigureAwait(false);
        if (damage is not null || errors.Length > 0)
        {
            throw Unusable(package, errors.Length > 0 ? errors : damage!);
        }
    }

    private static ImageException Unusable(string package, string reason) => Failure($"The package {Path.GetFileName(package)} could not be unpacked", reason);

    /// <summary>Reads a package to its end, or until <paramref name="isEnough"/> says so after a file.</summary>
    private async Task<(string? Damage, string Errors)> ReadPackageAsync(string package, Func<string, string?> target, Func<bool> isEnough, CancellationToken cancellationToken)
    {
        string? damage = null;
        bool isWhole = false;
        ToolResult result = await ExternalTool.ReadOutputAsync(_dpkgDeb, ["--fsys-tarfile", package], _folder, ReadAsync, cancellationToken).ConfigureAwait(false);

        // One that was stopped early says so; that is no error.
        return (damage, isWhole ? string.Empty : result.ExitCode != 0 || damage is not null ? result.Errors : string.Empty);

        async Task ReadAsync(Stream stream)
        {
            try
            {
                await using TarReader tar = new(stream);
                while (await tar.GetNextEntryAsync(copyData: false, cancellationToken).ConfigureAwait(false) is TarEntry entry)
                {
                    if (entry.EntryType is TarEntryType.RegularFile or TarEntryType.V7RegularFile && target(entry.Name.TrimStart('.', '/')) is string file)
                    {
                        await using (FileStream output = new(file, FileMode.CreateNew, FileAccess.Write))
                        {
                            await (entry.DataStream ?? Stream.Null).CopyToAsync(output, cancellationToken).ConfigureAwait(false);
                        }

                        if (isEnough())
                        {
                            isWhole = true;
                            return;
                        }
                    }
                }

                // Padding, which its writer wants to be rid of.
                await stream.CopyToAsync(Stream.Null, cancellationToken).ConfigureAwait(false);
            }
            catch (Exception error) when (error is InvalidDataException or EndOfStreamException or FormatException)
            {
                damage = error.Message;
            }
        }
    }

    private static string Require(string name, string searchPath) => ExternalTool.Find(name, searchPath) ?? throw new ImageException(
        $"Fetching this image needs {name}, which this host does not have (Debian and Ubuntu do): give a kernel with --kernel and an initial RAM disk with --initrd{HostKernel.Hint()}.");

    /// <summary>Hooks of the host's are cleared, as they refresh the host's own caches.</summary>
    private static string Configuration(string folder, string architecture) => $$"""
        #clear APT::Update::Pre-Invoke;
        #clear APT::Update::Post-Invoke;
        #clear APT::Update::Post-Invoke-Success;
        #clear DPkg::Post-Invoke;
        #clear APT::Architectures;
        APT::Architecture "{{architecture}}";
        APT::Architectures { "{{architecture}}"; };
        APT::Sandbox::User "";
        Acquire::Languages "none";
        Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
        Dir::State {{Quote(folder)}};
        Dir::State::lists {{Quote(Path.Combine(folder, "lists"))}};
        Dir::State::status {{Quote(Path.Combine(folder, "status"))}};
        Dir::Cache {{Quote(Path.Combine(folder, "cache"))}};
        Dir::Log {{Quote(Path.Combine(folder, "log"))}};

        """;

    private static string Quote(string path) => path.Contains('"', StringComparison.Ordinal)
        ? throw new ImageException($"The cache folder's path {path} contains a quotation mark, which apt cannot take: set XDG_CACHE_HOME to another.")
        : $"\"{path}\"";

    /// <summary>One line from what apt wrote: the first error, else the first line that says something.</summary>
    private static ImageException Failure(string what, string errors)
    {
        string[] lines = errors.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        if (DiskSpace.IsReportedIn(errors))
        {
            return new ImageException(DiskSpace.Message);
        }

        string reason = lines.FirstOrDefault(line => line.StartsWith("W: Failed to fetch", StringComparison.Ordinal)) ?? lines.FirstOrDefault(line => line.StartsWith("E:", StringComparison.Ordinal)) ?? lines.FirstOrDefault() ?? "it gave no reason";
        reason = reason.StartsWith("E:", StringComparison.Ordinal) || reason.StartsWith("W:", StringComparison.Ordinal) ? reason[2..].Trim() : reason;
        return new ImageException($"{what}: {reason.TrimEnd('.')}.");
    }

    private Task<ToolResult> RunAsync(string tool, string[] arguments, Action<double>? onFraction, CancellationToken cancellationToken)
    {
        string[] all = onFraction is null
            ? ["-c", ConfigurationFile, .. arguments]
            : ["-c", ConfigurationFile, "-q", "-o", "APT::Status-Fd=1", .. arguments];
        return ExternalTool.RunAsync(tool, all, Path.Combine(_folder, "download"), onFraction is null ? null : Report, cancellationToken);

        // "dlstatus:<number>:<percent>:<text>", apt's README.progress-reporting.
        void Report(string line)
        {
            string[] fields = line.Split(':');
            if (fields.Length >= 3 && fields[0] == "dlstatus" && double.TryParse(fields[2], CultureInfo.InvariantCulture, out double percent))
            {
                onFraction(Math.Clamp(percent / 100, 0, 1));
            }
        }
    }
}
