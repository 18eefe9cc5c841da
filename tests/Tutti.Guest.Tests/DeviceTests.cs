using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Tutti.Guest.Tests;

/// <summary>Disks and the network of a real guest in the software engine.</summary>
[Collection("guests")]
public sealed class DeviceTests : IDisposable
{
    private const string WaitForAddress = "for i in $(seq 1 100); do ip -4 addr show eth0 | grep -q 10.0.2.15 && break; sleep 0.2; done; ip -4 addr show eth0";
    private readonly string _folder = Directory.CreateTempSubdirectory("tutti-devices-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [DiskFact]
    public void What_a_guest_has_synced_is_there_after_its_machine_was_killed()
    {
        string disk = MakeFileSystem();
        string image = Path.Combine(_folder, "over.qcow2");
        Assert.Equal(0, HostProgram.Run("dotnet", "exec", Path.Combine(AppContext.BaseDirectory, "tutti.dll"), "disk", "create", image, "--backing", disk, "--backing-format", "raw").Status);
        string written;
        using (GuestSession guest = new("--disk", image, "--net", "none"))
        {
            guest.ExpectShell();
            Assert.Equal("32768", guest.Run("cat /sys/block/vda/size"));
            written = guest.Run("mount /dev/vda /mnt && dd if=/dev/urandom of=/mnt/f bs=64k count=80 2>/dev/null && sync && md5sum < /mnt/f");
            Assert.Matches("[0-9a-f]{32}", written);
            Assert.Empty(GuestSession.Complaints(guest.Run("dmesg")));

            // Disposed of: the process is killed.
        }

        using (GuestSession guest = new("--disk", image, "--net", "none"))
        {
            guest.ExpectShell();
            Assert.Equal(written[^35..], guest.Run("mount /dev/vda /mnt && md5sum < /mnt/f")[^35..]);
            guest.Run("umount /mnt");
            guest.Send("poweroff\n");
            Assert.Equal(0, guest.WaitForExit());
        }

        Assert.Equal(0, HostProgram.Run("dotnet", "exec", Path.Combine(AppContext.BaseDirectory, "tutti.dll"), "disk", "check", image).Status);
    }

    [DiskFact]
    public void A_raw_disk_has_a_clean_file_system_afterwards_and_several_queues_serve_it()
    {
        string disk = MakeFileSystem();
        using (GuestSession guest = new("--cpus", "2", "--disk", disk + ",format=raw,queues=2,serial=T-1", "--net", "none"))
        {
            guest.ExpectShell();
            Assert.Equal("T-1", guest.Run("cat /sys/block/vda/serial; echo"));
            Assert.Equal("2", guest.Run("ls /sys/block/vda/mq | wc -l"));
            Assert.Equal(
                "same",
                guest.Run("mount /dev/vda /mnt; for i in 1 2 3 4; do (dd if=/dev/urandom of=/mnt/$i bs=16k count=40; cp /mnt/$i /tmp/$i) 2>/dev/null & done; wait; umount /mnt; mount /dev/vda /mnt; for i in 1 2 3 4; do cmp /mnt/$i /tmp/$i || echo differs; done; umount /mnt; echo same").Split('\n')[^1]);
            Assert.Empty(GuestSession.Complaints(guest.Run("dmesg")));
            guest.Send("poweroff\n");
            Assert.Equal(0, guest.WaitForExit());
        }

        Assert.Equal(0, HostProgram.Run("e2fsck", "-fn", disk).Status);
    }

    [DebianFact]
    public void The_network_gives_an_address_and_bytes_of_the_hosts_both_ways()
    {
        byte[] content = new byte[3 << 20];
        new Random(5).NextBytes(content);
        using Server server = new(content);
        int published = HostProgram.FreePort();
        using GuestSession guest = new("--net", "user,host=allow", "--publish", $"{published}:80");
        guest.ExpectShell();
        Assert.Contains("10.0.2.15/24", guest.Run(WaitForAddress), StringComparison.Ordinal);
        Assert.Contains("3 packets received", guest.Run("ping -c 3 10.0.2.2"), StringComparison.Ordinal);
        Assert.Contains("nameserver 10.0.2.3", guest.Run("cat /etc/resolv.conf"), StringComparison.Ordinal);
        string url = $"http://10.0.2.2:{server.Port}/";
        Assert.Contains(Digest(content), guest.Run($"wget -q -O /tmp/f {url} && md5sum < /tmp/f"), StringComparison.Ordinal);

        guest.Run("httpd -p 80 -h /tmp");
        using HttpClient client = new() { Timeout = TimeSpan.FromMinutes(1) };
        Assert.Equal(content, client.GetByteArrayAsync($"http://127.0.0.1:{published}/f").GetAwaiter().GetResult());
        Assert.Empty(GuestSession.Complaints(guest.Run("dmesg")));
        guest.Send("poweroff\n");
        Assert.Equal(0, guest.WaitForExit());
    }

    [DebianFact]
    public void The_hosts_services_are_out_of_reach_unless_allowed()
    {
        using Server server = new([1, 2, 3]);
        using GuestSession guest = new();
        guest.ExpectShell();
        Assert.Contains("10.0.2.15/24", guest.Run(WaitForAddress), StringComparison.Ordinal);
        string answer = guest.Run($"wget -q -O - http://10.0.2.2:{server.Port}/ || echo refused");
        Assert.EndsWith("refused", answer, StringComparison.Ordinal);
        Assert.Equal(0, server.Served);
        Assert.Equal("virtio_rng.0", guest.Run("cat /sys/class/misc/hw_random/rng_current").Split('\n')[^1]);
        guest.Send("poweroff\n");
        Assert.Equal(0, guest.WaitForExit());
    }

    [DebianFact]
    public void The_terminal_can_be_the_virtio_console()
    {
        using GuestSession guest = new("--console", "virtio");
        guest.ExpectShell();
        Assert.EndsWith("/dev/hvc0", guest.Run("tty"), StringComparison.Ordinal);
        Assert.EndsWith("20000", guest.Run("seq 20000"), StringComparison.Ordinal);
        Assert.Empty(GuestSession.Complaints(guest.Run("dmesg")));
        guest.Send("echo c > /proc/sysrq-trigger\n");
        guest.Expect("Kernel panic");
        Assert.Equal(3, guest.WaitForExit());
    }

    /// <summary>Linux's driver throws away what comes while it sets its port up, and nobody has the console open for a while after that.</summary>
    [DebianFact]
    public void Input_from_before_the_shell_waits_for_it_at_the_virtio_console() => TypeAhead("virtio");

    [DebianFact]
    public void Input_from_before_the_shell_waits_for_it_at_the_serial_console() => TypeAhead("serial");

    private static void TypeAhead(string console)
    {
        string bytes = new([.. Enumerable.Range(0, 20_000).Select(i => (char)('a' + (i % 26)))]);
        using GuestSession guest = new("--console", console, "--net", "none");
        guest.Send($"stty raw -echo; echo rea''dy; head -c {bytes.Length} | md5sum; stty sane\n");
        guest.Expect("ready");
        guest.Send(bytes);
        guest.Expect(Digest(Encoding.ASCII.GetBytes(bytes)));
        guest.Send("poweroff\n");
        guest.EndInput();
        Assert.Equal(0, guest.WaitForExit());
    }

    [DebianFact]
    public void A_virtio_console_that_was_never_used_gives_way_to_what_the_serial_port_got()
    {
        using GuestSession guest = new("--console", "virtio", "--net", "none", "--append", "rdinit=/none init=/none");
        guest.Expect("Kernel panic");
        Assert.Equal(3, guest.WaitForExit());
    }

    private string MakeFileSystem()
    {
        string disk = Path.Combine(_folder, "disk.img");
        using (FileStream file = new(disk, FileMode.CreateNew))
        {
            file.SetLength(16 << 20);
        }

        Assert.Equal(0, HostProgram.Run("mke2fs", "-q", "-t", "ext4", "-F", disk).Status);
        return disk;
    }

#pragma warning disable CA5351 // The guest has md5sum everywhere; nothing is protected by it.
    private static string Digest(byte[] bytes) => Convert.ToHexStringLower(System.Security.Cryptography.MD5.HashData(bytes));
#pragma warning restore CA5351

    /// <summary>Answers every request with the same bytes.</summary>
    private sealed class Server : IDisposable
    {
        private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
        private int _served;

        internal Server(byte[] content)
        {
            _listener.Start();
            Port = ((IPEndPoint)_listener.LocalEndpoint).Port;
            _ = Task.Run(() => ServeAsync(content));
        }

        internal int Port { get; }

        internal int Served => Volatile.Read(ref _served);

        public void Dispose() => _listener.Dispose();

        private async Task ServeAsync(byte[] content)
        {
            byte[] head = Encoding.ASCII.GetBytes(string.Create(
                CultureInfo.InvariantCulture, $"HTTP/1.0 200 OK\r\nContent-Length: {content.Length}\r\nConnection: close\r\n\r\n"));
            byte[] request = new byte[4096];
            try
            {
                while (true)
                {
                    using TcpClient client = await _listener.AcceptTcpClientAsync();
                    Interlocked.Increment(ref _served);
                    NetworkStream stream = client.GetStream();
                    _ = await stream.ReadAsync(request);
                    await stream.WriteAsync(head);
                    await stream.WriteAsync(content);
                }
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException or IOException)
            {
                // The test is over.
            }
        }
    }
}
