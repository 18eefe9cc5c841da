using System.Buffers.Binary;
using System.Diagnostics;
using System.Globalization;
using Xunit.Abstractions;

namespace Tutti.Guest.Tests;

/// <summary>A whole Debian, used as its owner would: by ssh through a published port, with apt, and killed at a bad moment.</summary>
[Collection("guests")]
public sealed class ServerTests(ITestOutputHelper output) : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(8);
    private readonly string _folder = Directory.CreateTempSubdirectory("tutti-server-").FullName;

    private string Key => Path.Combine(_folder, "key");

    private string Overlay => Directory.GetFiles(Path.Combine(_folder, "tutti", "disks"), "proof*.qcow2").Single();

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [ServerFact]
    public void A_server_is_reached_by_ssh_installs_packages_and_keeps_what_was_synced_when_it_is_killed()
    {
        Assert.Equal(0, HostProgram.Run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", Key).Status);
        int port = HostProgram.FreePort();
        using (GuestSession guest = Begin(port))
        {
            Assert.Equal("proof", Ssh(port, "hostname"));
            (int status, string text) = RunBySsh(Ssh(port), "sudo apt-get -q update && sudo apt-get -qy install hello && hello");
            Assert.True(status == 0, text);
            Assert.Contains("Hello, world!", text, StringComparison.Ordinal);
            Ssh(port, "head -c 20000000 /dev/urandom > kept && sync && sha256sum < kept > kept.sum && sync");

            // Disposed of: the process is killed, while it writes.
            Process.Start(new ProcessStartInfo("ssh", [.. Ssh(port)[1..], "cat /dev/urandom > more"]) { RedirectStandardError = true })!.Dispose();
            Thread.Sleep(1500);
        }

        Assert.Contains(HostProgram.Run("qemu-img", "check", Overlay).Status, (int[])[0, 3]);
        using (GuestSession guest = Begin(port))
        {
            Assert.Equal("-", Ssh(port, "sha256sum < kept | diff - kept.sum && echo -"));
            Assert.Equal("Hello, world!", Ssh(port, "hello"));
            // The connection may end before the command does.
            RunBySsh(Ssh(port), "sudo systemctl poweroff");
            Assert.Equal(0, guest.WaitForExit());
        }

        Assert.Equal(0, HostProgram.Run("qemu-img", "check", Overlay).Status);
        CheckFileSystem();
    }

    private GuestSession Begin(int port)
    {
        var watch = Stopwatch.StartNew();
        GuestSession guest = new(
            _folder,
            [
                "debian-server", "--engine", "software", "--memory", "1G", "--name", "proof", "--hostname", "proof",
                "--ssh-key", Key + ".pub", "--publish", string.Create(CultureInfo.InvariantCulture, $"{port}:22"),
            ]);
        guest.Expect("login:");
        output.WriteLine($"a login after {watch.Elapsed.TotalSeconds:F1} s");
        while (RunBySsh(Ssh(port), "true") is { Status: not 0 } answer)
        {
            Assert.True(watch.Elapsed < Patience, $"ssh: {answer.Text}\n{guest.Output}");
            Thread.Sleep(500);
        }

        output.WriteLine($"ssh after {watch.Elapsed.TotalSeconds:F1} s");
        return guest;
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

    private string[] Ssh(int port) =>
    [
        "ssh", "-q", "-i", Key, "-p", port.ToString(CultureInfo.InvariantCulture), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
        "-o", "ConnectTimeout=10", "-o", "BatchMode=yes", "debian@127.0.0.1",
    ];

    private string Ssh(int port, string command)
    {
        (int status, string text) = RunBySsh(Ssh(port), command);
        Assert.True(status == 0, $"{command}: {text}");
        return text.Trim();
    }

    private static (int Status, string Text) RunBySsh(string[] ssh, string command) => HostProgram.Run(ssh[0], [.. ssh[1..], command]);
}
