using System.Globalization;
using System.Net;
using Tutti.Host;

namespace Tutti.Network.Dns;

/// <summary>What /etc/resolv.conf says (resolv.conf(5)).</summary>
/// <param name="Servers">At most three, in its order; 127.0.0.1 where it names none, as the C library has it.</param>
/// <param name="TimeoutNanoseconds">How long one server's answer is waited for.</param>
/// <param name="Attempts">How often each server is asked.</param>
/// <param name="Rotates">Whether questions begin with another server each.</param>
internal sealed record ResolverSettings(HostEndpoint[] Servers, long TimeoutNanoseconds, int Attempts, bool Rotates);

/// <summary>The host's resolvers, read again when asked after two seconds.</summary>
internal sealed class HostResolvers(string path = "/etc/resolv.conf")
{
    private const int MaxServers = 3;
    private const int MaxTimeout = 30;
    private const int MaxAttempts = 5;
    private const int DefaultAttempts = 2;
    private const long Second = 1_000_000_000;

    /// <summary>
    /// The C library's is 5. The guest's own patience is two times that for the one server that it knows, which all of the host's must be asked in.
    /// </summary>
    private const int DefaultTimeout = 2;

    private const long Lifetime = 2 * Second;
    private long _readAt = long.MinValue / 2;
    private ResolverSettings _settings = Read([]);

    public ResolverSettings Settings
    {
        get
        {
            long now = HostTime.Nanoseconds;
            if (now - _readAt > Lifetime)
            {
                _readAt = now;
                _settings = ReadFile(path);
            }

            return _settings;
        }
    }

    private static ResolverSettings ReadFile(string path)
    {
        try
        {
            return Read(File.ReadLines(path));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // None is as good as unreadable.
            return Read([]);
        }
    }

    private static ResolverSettings Read(IEnumerable<string> lines)
    {
        List<HostEndpoint> servers = [];
        (int timeout, int attempts, bool rotates) = (DefaultTimeout, DefaultAttempts, false);
        foreach (string line in lines)
        {
            string[] words = line.Split([' ', '\t'], StringSplitOptions.RemoveEmptyEntries);
            if (words.Length < 2)
            {
                continue;
            }

            if (words[0] == "nameserver" && servers.Count < MaxServers && IPAddress.TryParse(words[1], out IPAddress? address))
            {
                servers.Add(HostEndpoint.From(address, ReachPolicy.DnsPort));
            }
            else if (words[0] == "options")
            {
                foreach (string option in words.AsSpan(1))
                {
                    timeout = TryOption(option, "timeout:", MaxTimeout) ?? timeout;
                    attempts = TryOption(option, "attempts:", MaxAttempts) ?? attempts;
                    rotates |= option == "rotate";
                }
            }
        }

        return new ResolverSettings(servers.Count > 0 ? [.. servers] : [HostEndpoint.Loopback4(ReachPolicy.DnsPort)], timeout * Second, attempts, rotates);
    }

    private static int? TryOption(string option, string name, int most) =>
        option.StartsWith(name, StringComparison.Ordinal) && int.TryParse(option.AsSpan(name.Length), NumberStyles.None, CultureInfo.InvariantCulture, out int value)
            ? Math.Clamp(value, 1, most)
            : null;
}
