using System.Buffers.Binary;
using System.Globalization;
using Xunit.Abstractions;

namespace Tutti.Guest.Tests;

/// <summary>A whole Debian, used as its owner would: by ssh through a published port, with apt, and killed at a bad moment.</summary>
[Collection("guests")]
public sealed class ServerTests(ITestOutputHelper output) : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("tutti-server-").FullName;

    private string Overlay => Directory.GetFiles(Path.Combine(_folder, "tutti", "disks"), ServerSession.Name + "*.qcow2").Single();

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [ServerFact]
    public void A_server_is_reached_by_ssh_installs_packages_and_keeps_what_was_synced_when_it_is_killed()
    {
        using (ServerSession server = new(_folder, output, []))
        {
            Assert.Equal(ServerSession.Name, server.Run("hostname"));
            (int status, string text) = server.Try("sudo apt-get -q update && sudo apt-get -qy install hello && hello");
            Assert.True(status == 0, text);
            Assert.Contains("Hello, world!", text, StringComparison.Ordinal);

            // What openjdk does when it is set up: its manuals' folder must be there, though the image leaves manuals out.
            server.Run("sudo update-alternatives --install /usr/share/man/man1/proof.1.gz proof.1.gz /etc/hostname 1 && test -L /usr/share/man/man1/proof.1.gz");
            server.Run("head -c 20000000 /dev/urandom > kept && sync && sha256sum < kept > kept.sum && sync");

            // Disposed of: the process is killed, while it writes.
            server.Begin("cat /dev/urandom > more");
            Thread.Sleep(1500);
        }

        Assert.Contains(HostProgram.Run("qemu-img", "check", Overlay).Status, (int[])[0, 3]);
        using (ServerSession server = new(_folder, output, []))
        {
            Assert.Equal("-", server.Run("sha256sum < kept | diff - kept.sum && echo -"));
            Assert.Equal("Hello, world!", server.Run("hello"));

            // Its sshd may go before it has told how the command ended.
            _ = server.Try("sudo systemctl poweroff");
            Assert.Equal(0, server.Guest.WaitForExit());
        }

        Assert.Equal(0, HostProgram.Run("qemu-img", "check", Overlay).Status);
        CheckFileSystem();
    }

    private void CheckFileSystem()
    {
        string raw = Path.Combine(_folder, "disk.img");
        Assert.Equal(0, HostProgram.Run("qemu-img", "convert", "-O", "raw", Overlay, raw).Status);
        long offset;
        using (FileStream file = File.OpenRead(raw))
        {
            // UEFI Specification 5.3.3: the first partition entry lies in LBA 2, its first LBA at byte 32.
            file.Position = (2 * 512) + 32;
            byte[] lba = new byte[8];
            file.ReadExactly(lba);
            offset = BinaryPrimitives.ReadInt64LittleEndian(lba) * 512;
        }

        (int status, string text) = HostProgram.Run("/usr/sbin/e2fsck", "-fn", string.Create(CultureInfo.InvariantCulture, $"{raw}?offset={offset}"));
        Assert.True(status == 0, text);
    }
}
