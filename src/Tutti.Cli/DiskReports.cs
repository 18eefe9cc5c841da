using System.Globalization;
using Tutti.Storage;

namespace Tutti.Cli;

/// <summary>What <c>tutti disk info</c> and <c>tutti disk check</c> print; the JSON has qemu-img's names.</summary>
internal static class DiskReports
{
    internal static string ToJson(string path, ImageInfo info) => JsonText.Format(json =>
    {
        json.WriteStartObject();
        if (info.VirtualSize is long virtualSize)
        {
            json.WriteNumber("virtual-size", virtualSize);
        }

        json.WriteString("filename", path);
        if (info.ClusterSize is int clusterSize)
        {
            json.WriteNumber("cluster-size", clusterSize);
        }

        json.WriteString("format", info.Format);
        json.WriteNumber("actual-size", info.ActualSize);
        if (info.Qcow2 is { } details)
        {
            json.WriteStartObject("format-specific");
            json.WriteString("type", info.Format);
            json.WriteStartObject("data");
            json.WriteString("compat", details.Compat);
            json.WriteString("compression-type", details.CompressionType);
            if (details.Compat != "0.10")
            {
                json.WriteBoolean("lazy-refcounts", details.LazyRefcounts);
                json.WriteNumber("refcount-bits", details.RefcountBits);
                json.WriteBoolean("corrupt", details.IsCorrupt);
                json.WriteBoolean("extended-l2", details.HasExtendedL2);
            }
            else
            {
                json.WriteNumber("refcount-bits", details.RefcountBits);
            }

            json.WriteEndObject();
            json.WriteEndObject();
        }

        if (info.BackingFile != null)
        {
            json.WriteString("backing-filename", info.BackingFile);
            json.WriteString("full-backing-filename", info.FullBackingFile);
            if (info.BackingFormat != null)
            {
                json.WriteString("backing-filename-format", info.BackingFormat);
            }
        }

        json.WriteBoolean("dirty-flag", info.IsDirty);
        json.WriteEndObject();
    });

    internal static string ToJson(string path, string format, ImageCheck check) => JsonText.Format(json =>
    {
        json.WriteStartObject();
        json.WriteNumber("image-end-offset", check.EndOffset);
        json.WriteNumber("total-clusters", check.TotalClusters);
        json.WriteNumber("check-errors", check.CheckErrors);
        Optional("allocated-clusters", check.AllocatedClusters);
        Optional("fragmented-clusters", check.FragmentedClusters);
        Optional("compressed-clusters", check.CompressedClusters);
        Optional("leaks", check.Leaks);
        Optional("leaks-fixed", check.LeaksFixed);
        Optional("corruptions", check.Corruptions);
        Optional("corruptions-fixed", check.CorruptionsFixed);
        json.WriteString("filename", path);
        json.WriteString("format", format);
        json.WriteEndObject();

        // As qemu-img does: what is not there is not said.
        void Optional(string name, long value)
        {
            if (value != 0)
            {
                json.WriteNumber(name, value);
            }
        }
    });

    internal static void Write(TextWriter output, string path, ImageInfo info)
    {
        Line("image", path);
        Line("format", info.Format);
        if (info.VirtualSize is long size)
        {
            Line("virtual size", $"{Quantity.FormatSize(size)} ({size.ToString(CultureInfo.InvariantCulture)} bytes)");
        }

        Line("disk size", Quantity.FormatSize(info.ActualSize));
        if (info.Obstacle != null)
        {
            Line("note", info.Obstacle);
        }

        if (info.ClusterSize is int clusterSize)
        {
            Line("cluster size", Quantity.FormatSize(clusterSize));
        }

        if (info.BackingFile != null)
        {
            string actual = info.FullBackingFile == info.BackingFile ? string.Empty : $" (here {info.FullBackingFile})";
            string note = DiskOption.Backing.Allows(path, info.FullBackingFile!) ? string.Empty : $"; outside the image's folder: needs backing={DiskOption.Allow}";
            Line("backing file", $"{info.BackingFile}{actual}{note}");
            Line("backing format", info.BackingFormat ?? "not said");
        }

        if (info.Qcow2 is { } details)
        {
            Line("version", details.Compat == "0.10" ? "2 (compat 0.10)" : "3 (compat 1.1)");
            Line("compression", details.CompressionType);
            Line("refcounts", $"{details.RefcountBits} bits{(details.LazyRefcounts ? ", lazy" : string.Empty)}");
            Line("state", details.IsCorrupt ? "marked as corrupt" : info.IsDirty ? "not closed properly; mended when next opened for writing, or by 'tutti disk check --repair'" : "clean");
        }

        // Some of this the image says, and some its file's name: none of it may talk to the terminal.
        void Line(string name, string value) => output.WriteLine($"{name + ':',-16}{PrintableText.Of(value)}");
    }

    internal static void Write(TextWriter output, ImageCheck check, bool isRepaired)
    {
        foreach (string message in check.Messages)
        {
            output.WriteLine(message);
        }

        if (check.LeaksFixed + check.CorruptionsFixed > 0)
        {
            output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"mended: {check.LeaksFixed} leaked clusters, {check.CorruptionsFixed} errors"));
        }

        output.WriteLine(check switch
        {
            { CheckErrors: > 0 } => string.Create(CultureInfo.InvariantCulture, $"{check.CheckErrors} parts could not be looked at"),
            { Corruptions: > 0 } when isRepaired => string.Create(CultureInfo.InvariantCulture, $"{check.Corruptions} errors, {check.Leaks} leaked clusters that can't be mended here: copy what matters, then try 'qemu-img check -r all'"),
            { Corruptions: > 0 } => string.Create(CultureInfo.InvariantCulture, $"{check.Corruptions} errors, {check.Leaks} leaked clusters: data may be damaged; copy what matters, then use --repair"),
            { Leaks: > 0 } => string.Create(CultureInfo.InvariantCulture, $"{check.Leaks} leaked clusters: space is wasted, no data is harmed; --repair gives it back"),
            _ => "no errors",
        });
        if (check.TotalClusters > 0)
        {
            output.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"{check.AllocatedClusters} of {check.TotalClusters} clusters in use, {check.FragmentedClusters} fragmented, {check.CompressedClusters} compressed"));
        }
    }
}
