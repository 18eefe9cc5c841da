using System.Diagnostics;
using System.Globalization;
using Tutti.Network.Tests.Tap;

namespace Tutti.Network.Tests.Linux;

/// <summary>More connections than one process may have descriptors for both ends of: the peers are two small programs, one on the host and one in the guest.</summary>
[Collection("descriptors")]
public sealed class ManyConnectionsTests
{
    /// <summary>Takes so many connections, then a number on each, and answers with its opposite.</summary>
    private const string Server =
        """
        use strict; use IO::Socket::INET; $| = 1;
        my ($n) = @ARGV; my @all;
        my $l = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 4096, Proto => 'tcp') or die "listen: $!\n";
        print $l->sockport(), "\n";
        for (1 .. $n) { push @all, ($l->accept() or die "accept: $!\n"); }
        for my $s (@all) { sysread($s, my $b, 4) == 4 or die "read: $!\n"; syswrite($s, pack('l', -unpack('l', $b))); }
        for my $s (@all) { close $s; }
        """;

    /// <summary>The other end: all connections are open before the first answer is read, and each answer must be its connection's.</summary>
    private const string Client =
        """
        use strict; use IO::Socket::INET; use Time::HiRes 'time';
        my ($port, $n) = @ARGV; my @all; my $t = time;
        for my $i (1 .. $n) {
            my $s = IO::Socket::INET->new(PeerAddr => '10.0.2.2', PeerPort => $port, Proto => 'tcp') or die "connection $i: $!\n";
            syswrite($s, pack('l', $i)); push @all, $s;
        }
        my $o = time;
        my $i = 0;
        for my $s (@all) { $i++; sysread($s, my $b, 4) == 4 or die "answer $i: $!\n"; unpack('l', $b) == -$i or die "wrong answer $i\n"; }
        my $a = time;
        for my $s (@all) { sysread($s, my $b, 1) == 0 or die "no end\n"; close $s; }
        printf "opened in %.2f s, answered in %.2f s, closed in %.2f s\n", $o - $t, $a - $o, time - $a;
        """;

    [TapFact]
    public void Thousands_of_connections_are_open_at_once_and_each_has_its_own_bytes()
    {
        if (!File.Exists("/usr/bin/perl"))
        {
            Console.WriteLine("Not tried: perl is not installed.");
            return;
        }

        string count = Environment.GetEnvironmentVariable("TUTTI_TCP_CONNECTIONS") ?? "1000";
        int wanted = int.Parse(count, CultureInfo.InvariantCulture);
        using LinuxGuest guest = new(new NetworkSpec { IsHostAllowed = true, Ip6 = Ip6Mode.Off, Flows = wanted <= FlowLimit.CustomaryFlows ? null : wanted });
        using Process server = Command.Start("perl", "-e", Server, count);
        Task<string> errors = server.StandardError.ReadToEndAsync();
        string? port = server.StandardOutput.ReadLine();
        Assert.True(port != null, errors.IsCompleted ? errors.Result : "The server said no port.");
        int most = 0;
        using Timer watch = new(_ => most = Math.Max(most, guest.Network.Tcp.Counters.Connections), null, 0, 50);
        string answer = guest.Space.Run("perl", "-e", Client, port, count);
        Console.WriteLine($"{count} connections at once: {answer.Trim()}");
        Assert.True(server.WaitForExit(TimeSpan.FromSeconds(30)));
        Assert.Equal((0, string.Empty), (server.ExitCode, errors.Result));
        Assert.True(most >= wanted, $"At most {most} were open at once.");

        // Nothing of them is left: both directions have ended, and TIME_WAIT is the callers'.
        Assert.True(SpinWait.SpinUntil(() => guest.Network.Tcp.Counters.Connections == 0, TimeSpan.FromSeconds(10)), $"{guest.Network.Tcp.Counters.Connections} connections are left.");
    }
}
