using Tutti.Network.Capture;

namespace Tutti.Network.Tests;

public class PacketCaptureTests
{
    [Fact]
    public void A_new_capture_is_for_its_owner_alone_and_one_that_is_there_stays_as_it_is()
    {
        string folder = Directory.CreateTempSubdirectory("tutti-capture-").FullName;
        string path = Path.Combine(folder, "packets.pcap");
        new PacketCapture(path).Dispose();
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(path));
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead);
        new PacketCapture(path).Dispose();
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead, File.GetUnixFileMode(path));
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public void Two_networks_do_not_write_one_file()
    {
        string path = Path.GetTempFileName();
        using (PacketCapture first = new(path))
        {
            first.Write(new byte[60]);
            NetworkException e = Assert.Throws<NetworkException>(() => new PacketCapture(path));
            Assert.Contains("one for each network", e.Message, StringComparison.Ordinal);
        }

        Assert.Equal(24 + 16 + 60, new FileInfo(path).Length);
        File.Delete(path);
    }
}
