using Tutti.Guests;
using Tutti.Host;

namespace Tutti.Cli;

/// <summary><c>tutti image</c>: what lies in the cache.</summary>
internal static class ImageCommands
{
    internal static int List(ImageCatalog catalog, TextWriter output, bool json)
    {
        IReadOnlyList<ImageListing> images = catalog.List();
        if (json)
        {
            output.WriteLine(ToJson(images));
            return ExitStatus.Success;
        }

        int width = Math.Max(8, images.Max(i => i.Name.Length) + 2);
        int versionWidth = Math.Max(12, images.Max(i => (i.Cached?.Version ?? string.Empty).Length) + 2);
        output.WriteLine($"{"NAME".PadRight(width)}{"VERSION".PadRight(versionWidth)}{"SIZE",-12}DESCRIPTION");
        foreach (ImageListing image in images)
        {
            string version = image.Cached?.Version ?? "not pulled";
            string size = image.Cached == null ? "-" : Quantity.FormatSize(image.Cached.Size);
            output.WriteLine($"{image.Name.PadRight(width)}{version.PadRight(versionWidth)}{size,-12}{image.Description}");
        }

        return ExitStatus.Success;
    }

    internal static async Task<int> PullAsync(ImageCatalog catalog, string name, TextWriter output)
    {
        using CancellationTokenSource cancel = new();
        int? forced = null;
        using TerminationSignals signals = new(signal =>
        {
            forced = TerminationSignals.ExitStatus(signal);
            cancel.Cancel();
        });
        try
        {
            GuestImage image = await PullProgress.RunAsync(progress => catalog.PullAsync(name, progress, cancel.Token));
            output.WriteLine($"{image.Name} {image.Version} ({Quantity.FormatSize(image.Size)})");
            return ExitStatus.Success;
        }
        catch (OperationCanceledException) when (forced != null)
        {
            return forced.Value;
        }
        catch (ImageException e)
        {
            throw new UserException(e.Message);
        }
    }

    internal static int Remove(ImageCatalog catalog, string name)
    {
        try
        {
            return catalog.Remove(name)
                ? ExitStatus.Success
                : throw new UserException($"image '{name}' is not in the cache; 'tutti image list' shows what is");
        }
        catch (ImageException e)
        {
            throw new UserException(e.Message);
        }
    }

    private static string ToJson(IReadOnlyList<ImageListing> images) => JsonText.Format(json =>
    {
        json.WriteStartArray();
        foreach (ImageListing image in images)
        {
            json.WriteStartObject();
            json.WriteString("name", image.Name);
            json.WriteString("description", image.Description);
            json.WriteBoolean("cached", image.Cached != null);
            if (image.Cached is { } cached)
            {
                json.WriteString("version", cached.Version);
                json.WriteString("kernel", cached.KernelPath);
                json.WriteString("initrd", cached.InitrdPath);
                if (cached.ModulesPath != null)
                {
                    json.WriteString("modules", cached.ModulesPath);
                }

                if (cached.DiskPath != null)
                {
                    json.WriteString("disk", cached.DiskPath);
                }

                json.WriteString("commandLine", cached.CommandLine);
                json.WriteNumber("size", cached.Size);
            }

            json.WriteEndObject();
        }

        json.WriteEndArray();
    });
}
