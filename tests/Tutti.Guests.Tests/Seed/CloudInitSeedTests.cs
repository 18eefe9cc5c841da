using System.Text;
using Tutti.Guests.Seed;
using Tutti.Guests.Tests.Disks;

namespace Tutti.Guests.Tests.Seed;

public class CloudInitSeedTests
{
    private const string Key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK a@b";

    [Fact]
    public void The_user_s_file_goes_in_as_it_is_and_options_become_vendor_data()
    {
        byte[] file = Encoding.UTF8.GetBytes("#!/bin/sh\necho ü \"'\n");
        string image = Encoding.UTF8.GetString(new CloudInitSeed { Machine = "m", HostName = "web", User = "ann", SshKeys = [Key], Password = "a\"b", UserData = file, IsServerImage = true }.ToImage());
        Assert.Contains("\0#!/bin/sh\necho ü \"'\n\0", image, StringComparison.Ordinal);
        Assert.Contains("\0#cloud-config\n{\n", image, StringComparison.Ordinal);
        Assert.Contains("\"local-hostname\": \"web\"", image, StringComparison.Ordinal);
        Assert.Contains("\"name\": \"ann\"", image, StringComparison.Ordinal);
        Assert.Contains("\"plain_text_passwd\": \"a\\u0022b\"", image, StringComparison.Ordinal);
        Assert.Contains(Key, image, StringComparison.Ordinal);
        Assert.Contains("\"content\": \"TUTTI_LOGIN=\\n\"", image, StringComparison.Ordinal);
    }

    [Fact]
    public void The_console_logs_the_seed_s_user_in_unless_there_is_a_password()
    {
        Assert.Contains("--autologin ann", Encoding.UTF8.GetString(new CloudInitSeed { Machine = "m", User = "ann", IsServerImage = true }.ToImage()), StringComparison.Ordinal);
        Assert.Contains("--autologin debian", Encoding.UTF8.GetString(new CloudInitSeed { Machine = "m", HostName = "x", IsServerImage = true }.ToImage()), StringComparison.Ordinal);
        Assert.DoesNotContain("/etc/tutti", Encoding.UTF8.GetString(new CloudInitSeed { Machine = "m", User = "ann" }.ToImage()), StringComparison.Ordinal);
    }

    [Fact]
    public void The_instance_stays_while_nothing_changes_and_is_another_when_anything_does()
    {
        CloudInitSeed seed = new() { Machine = "m", HostName = "a" };
        Assert.Equal(seed.ToImage(), (seed with { }).ToImage());
        string[] instances = [.. new[] { seed, seed with { Machine = "n" }, seed with { HostName = "b" }, seed with { UserData = "x"u8.ToArray() }, seed with { Password = "p" }, seed with { SshKeys = [Key] } }.Select(Instance)];
        Assert.Equal(instances.Length, instances.Distinct().Count());
        Assert.False(seed.IsEmpty);
        Assert.True(new CloudInitSeed { Machine = "m" }.IsEmpty);

        static string Instance(CloudInitSeed seed)
        {
            string text = Encoding.UTF8.GetString(seed.ToImage());
            return text.Substring(text.IndexOf("tutti-", StringComparison.Ordinal), 22);
        }
    }

    [Fact]
    public void A_seed_is_kept_for_a_guest_to_try_when_asked_for()
    {
        byte[] image = new CloudInitSeed { Machine = "m", HostName = "web", User = "ann", SshKeys = [Key], UserData = "#cloud-config\nruncmd: [[touch, /root/done]]\n"u8.ToArray(), IsServerImage = true }.ToImage();
        Assert.Equal(0, image.Length % 2048);
        if (Environment.GetEnvironmentVariable("TUTTI_KEEP_IMAGE") is { Length: > 0 } folder)
        {
            File.WriteAllBytes(Path.Combine(folder, "seed.iso"), image);
        }
    }

    [Theory]
    [InlineData("-x", null, "--hostname")]
    [InlineData("a_b", null, "--hostname")]
    [InlineData("", null, "--hostname")]
    [InlineData(null, "Ann", "--user")]
    [InlineData(null, "root", "sudo")]
    [InlineData(null, "a:b", "--user")]
    public void Names_that_cannot_be_are_refused(string? host, string? user, string expected) =>
        Assert.Contains(expected, Assert.Throws<ImageException>(() => new CloudInitSeed { Machine = "m", HostName = host, User = user }.ToImage()).Message, StringComparison.Ordinal);

    [Fact]
    public void Keys_are_taken_as_text_or_from_a_file_and_private_ones_are_not()
    {
        string file = Path.GetTempFileName();
        try
        {
            Assert.Equal([Key], CloudInitSeed.ReadSshKeys(Key + "\n"));
            File.WriteAllText(file, $"# mine\n{Key}\n\necdsa-sha2-nistp256 AAAAE2 x\n");
            Assert.Equal([Key, "ecdsa-sha2-nistp256 AAAAE2 x"], CloudInitSeed.ReadSshKeys(file));
            File.WriteAllText(file, "-----BEGIN OPENSSH PRIVATE KEY-----\n");
            Assert.Contains("private key", Assert.Throws<ImageException>(() => CloudInitSeed.ReadSshKeys(file)).Message, StringComparison.Ordinal);
            File.WriteAllText(file, "hello\n");
            Assert.Contains("no public key", Assert.Throws<ImageException>(() => CloudInitSeed.ReadSshKeys(file)).Message, StringComparison.Ordinal);
            Assert.Contains("neither", Assert.Throws<ImageException>(() => CloudInitSeed.ReadSshKeys("/nowhere")).Message, StringComparison.Ordinal);
        }
        finally
        {
            File.Delete(file);
        }
    }

    [IsoInfoFact]
    public void Another_s_reader_finds_each_file_under_its_name_by_Rock_Ridge_and_by_Joliet()
    {
        byte[] large = new byte[5000];
        Array.Fill(large, (byte)'x');
        string image = Path.GetTempFileName();
        File.WriteAllBytes(image, IsoWriter.Write("cidata", [("user-data", large), ("meta-data", "m"u8.ToArray()), ("a-name-with-more-letters.than-eight", [])]));
        try
        {
            Assert.Contains("Volume id: cidata", ExtImage.Run("isoinfo", ["-d", "-i", image]), StringComparison.Ordinal);
            foreach (string names in (string[])["-R", "-J"])
            {
                string[] list = [.. ExtImage.Run("isoinfo", [names, "-f", "-i", image]).Split('\n', StringSplitOptions.RemoveEmptyEntries).Order(StringComparer.Ordinal)];
                Assert.Equal(["/a-name-with-more-letters.than-eight", "/meta-data", "/user-data"], list);
                Assert.Equal(Encoding.ASCII.GetString(large), ExtImage.Run("isoinfo", [names, "-x", "/user-data", "-i", image]));
                Assert.Equal("m", ExtImage.Run("isoinfo", [names, "-x", "/meta-data", "-i", image]));
            }
        }
        finally
        {
            File.Delete(image);
        }
    }

    [MountFact]
    public void The_kernel_mounts_the_image_and_finds_each_file_under_its_name_by_Rock_Ridge_and_by_Joliet()
    {
        string folder = Directory.CreateTempSubdirectory("tutti-iso").FullName;
        string image = Path.Combine(folder, "seed.iso");
        byte[] large = new byte[5000];
        new Random(1).NextBytes(large);
        File.WriteAllBytes(image, IsoWriter.Write("cidata", [("user-data", large), ("meta-data", "m"u8.ToArray()), ("a-name-with-more-letters.than-eight", [])]));
        try
        {
            Assert.Equal("cidata", ExtImage.Run("blkid", ["-p", "-s", "LABEL", "-o", "value", image]).Trim());
            foreach (string options in (string[])["ro,loop", "ro,loop,norock"])
            {
                string point = Directory.CreateDirectory(Path.Combine(folder, "mnt")).FullName;
                ExtImage.Run("mount", ["-t", "iso9660", "-o", options, image, point]);
                try
                {
                    Assert.Equal(["a-name-with-more-letters.than-eight", "meta-data", "user-data"], Directory.EnumerateFiles(point).Select(Path.GetFileName).Order(StringComparer.Ordinal));
                    Assert.Equal(large, File.ReadAllBytes(Path.Combine(point, "user-data")));
                    Assert.Equal("m", File.ReadAllText(Path.Combine(point, "meta-data")));
                }
                finally
                {
                    ExtImage.Run("umount", [point]);
                }
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [AttributeUsage(AttributeTargets.Method)]
    private sealed class IsoInfoFactAttribute : FactAttribute
    {
        public IsoInfoFactAttribute() => Skip = File.Exists("/usr/bin/isoinfo") ? null : "isoinfo is not installed (Debian: genisoimage)";
    }

    [AttributeUsage(AttributeTargets.Method)]
    private sealed class MountFactAttribute : FactAttribute
    {
        public MountFactAttribute()
        {
            if (!Environment.IsPrivilegedProcess || !File.Exists("/dev/loop-control") || !File.ReadAllText("/proc/filesystems").Contains("iso9660", StringComparison.Ordinal))
            {
                Skip = "mounting an image needs root, loop devices and a kernel with iso9660";
            }
        }
    }
}
