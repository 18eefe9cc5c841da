using System.Net;
using Tutti.Host;

namespace Tutti.Network.Services;

/// <summary>The host's resolvers as /etc/resolv.conf names them (resolv.conf(5)), read again when asked after two seconds.</summary>
internal sealed class HostResolvers(string path = "/etc/resolv.conf")
{
    private const int MaxServers = 3;
    private const long Lifetime = 2_000_000_000;
    private long _readAt = long.MinValue / 2;
    private HostEndpoint[] _servers = [];

    /// <summary>At most three; 127.0.0.1 where the file names none, as the C library has it.</summary>
    public ReadOnlySpan<HostEndpoint> Servers
    {
        get
        {
            long now = HostTime.Nanoseconds;
            if (now - _readAt > Lifetime)
            {
                _readAt = now;
                _servers = Read();
            }

            return _servers;
        }
    }

    private HostEndpoint[] Read()
    {
        List<HostEndpoint> servers = [];
        try
        {
            foreach (string line in File.ReadLines(path))
            {
                string[] words = line.Split([' ', '\t'], StringSplitOptions.RemoveEmptyEntries);
                if (words.Length >= 2 && words[0] == "nameserver" && IPAddress.TryParse(words[1], out IPAddress? address) && servers.Count < MaxServers)
                {
                    servers.Add(HostEndpoint.From(address, ReachPolicy.DnsPort));
                }
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // None is as good as unreadable.
        }

        return servers.Count > 0 ? [.. servers] : [HostEndpoint.Loopback4(ReachPolicy.DnsPort)];
    }
}
