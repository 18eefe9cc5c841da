using Tutti.Network.Dns;

namespace Tutti.Network.Tests;

/// <summary>What is read of resolv.conf.</summary>
public sealed class HostResolversTests
{
    [Theory]
    [InlineData("", "127.0.0.1:53", 2, 2, false)]
    [InlineData("nameserver 192.0.2.1\n", "192.0.2.1:53", 2, 2, false)]
    [InlineData("# nameserver 192.0.2.9\n;x\nnameserver\t2001:db8::1 # c\nnameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n", "[2001:db8::1]:53 192.0.2.1:53 192.0.2.2:53", 2, 2, false)]
    [InlineData("nameserver fe80::1%1\n", "[fe80::1%1]:53", 2, 2, false)]
    [InlineData("nameserver fe80::1%lo\n", "[fe80::1%1]:53", 2, 2, false)]
    [InlineData("options ndots:2 timeout:7 attempts:4 rotate\n", "127.0.0.1:53", 7, 4, true)]
    [InlineData("options timeout:99 attempts:99\noptions timeout:x\n", "127.0.0.1:53", 30, 5, false)]
    [InlineData("options timeout:0 attempts:0 rotated\n", "127.0.0.1:53", 1, 1, false)]
    public void Servers_and_options_are_read(string text, string servers, int timeout, int attempts, bool rotates)
    {
        string file = Path.GetTempFileName();
        try
        {
            File.WriteAllText(file, text);
            ResolverSettings settings = new HostResolvers(file).Settings;
            Assert.Equal(servers, string.Join(' ', settings.Servers.Select(server => server.ToString())));
            Assert.Equal((timeout * 1_000_000_000L, attempts, rotates), (settings.TimeoutNanoseconds, settings.Attempts, settings.Rotates));
        }
        finally
        {
            File.Delete(file);
        }
    }
}
