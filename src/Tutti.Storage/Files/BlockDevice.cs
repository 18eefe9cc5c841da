using System.Globalization;
using Tutti.Host;

namespace Tutti.Storage.Files;

/// <summary>What the kernel says of its block devices. Source: sysfs-block.</summary>
internal static class BlockDevice
{
    /// <summary>Bytes that a device discards at once, a power of two; 0 where it can't.</summary>
    internal static int FindDiscardGranularity(HostFile device)
    {
        HostFileStatus status = device.GetStatus();
        string folder = string.Create(CultureInfo.InvariantCulture, $"/sys/dev/block/{status.DeviceMajor}:{status.DeviceMinor}");
        // A partition has no queue of its own.
        string queue = Directory.Exists($"{folder}/queue") ? $"{folder}/queue" : $"{folder}/../queue";
        long most = ReadNumber($"{queue}/discard_max_bytes");
        long granularity = ReadNumber($"{queue}/discard_granularity");
        return most <= 0 || granularity <= 0 ? 0 : (int)Math.Clamp((long)System.Numerics.BitOperations.RoundUpToPowerOf2((ulong)granularity), 512, 1 << 30);
    }

    private static long ReadNumber(string file)
    {
        try
        {
            return long.TryParse(File.ReadAllText(file).AsSpan().Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out long number) ? number : 0;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return 0;
        }
    }
}
