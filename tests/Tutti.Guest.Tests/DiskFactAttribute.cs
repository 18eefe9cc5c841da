namespace Tutti.Guest.Tests;

/// <summary>A test of a guest with a file system on a disk: skipped, with its reason, where the image or mke2fs is missing.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class DiskFactAttribute : DebianFactAttribute
{
    public DiskFactAttribute()
    {
        if (!File.Exists("/usr/sbin/mke2fs") && !File.Exists("/sbin/mke2fs"))
        {
            Skip ??= "there is no mke2fs here (Debian: package e2fsprogs)";
        }
    }
}
