using Tutti.Boot;

namespace Tutti.Guests.Tests;

public class RealPullTests
{
    [DebianFact]
    public async Task The_debian_image_can_be_pulled_and_is_a_bootable_kernel()
    {
        string cache = Directory.CreateTempSubdirectory("tutti-pull").FullName;
        try
        {
            GuestImage image = await new ImageCatalog(cache).GetAsync("debian").WaitAsync(TimeSpan.FromMinutes(5));
            byte[] kernel = await File.ReadAllBytesAsync(image.KernelPath);
            Assert.Equal(KernelFormat.BzImage, KernelFormatDetector.Detect(kernel));
            Assert.True(BzImage.Parse(kernel).CommandLineSize >= image.CommandLine.Length);
            Assert.True(new FileInfo(image.InitrdPath).Length > 1 << 20);
            string modules = System.Text.Encoding.Latin1.GetString(await File.ReadAllBytesAsync(image.ModulesPath!));
            Assert.Contains("virtio_pci.ko:", modules, StringComparison.Ordinal);
            Assert.Contains("alias virtio:d00000001v* virtio_net\n", modules, StringComparison.Ordinal);
            if (Environment.GetEnvironmentVariable("TUTTI_KEEP_IMAGE") is { Length: > 0 } keep)
            {
                File.Copy(image.KernelPath, Path.Combine(keep, "vmlinuz"), overwrite: true);
                File.WriteAllBytes(Path.Combine(keep, "initrd.img"), [.. await File.ReadAllBytesAsync(image.InitrdPath), .. await File.ReadAllBytesAsync(image.ModulesPath!)]);
            }
        }
        finally
        {
            Directory.Delete(cache, recursive: true);
        }
    }

    [AttributeUsage(AttributeTargets.Method)]
    private sealed class DebianFactAttribute : FactAttribute
    {
        public DebianFactAttribute()
        {
            if (!File.Exists("/usr/bin/apt-get") || !File.Exists("/usr/bin/dpkg-deb") || !File.Exists("/etc/debian_version") || !File.ReadAllText("/etc/os-release").Contains("ID=debian", StringComparison.Ordinal))
            {
                Skip = "the host is not Debian, so its apt has no Debian kernel";
            }
            else if (Environment.GetEnvironmentVariable("TUTTI_OFFLINE") == "1")
            {
                Skip = "TUTTI_OFFLINE=1: no network";
            }
        }
    }
}
