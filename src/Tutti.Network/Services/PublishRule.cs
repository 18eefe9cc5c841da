using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Tutti.Host;

namespace Tutti.Network;

/// <summary>A port of the host's that leads to one of the guest's.</summary>
/// <param name="IsUdp">UDP, or TCP.</param>
/// <param name="Host">Where the host listens; the unspecified address for all.</param>
/// <param name="GuestPort">1 to 65535.</param>
public readonly record struct PublishRule(bool IsUdp, HostEndpoint Host, ushort GuestPort)
{
    private const int MaxRange = 1024;

    /// <summary>Reads <c>[address:]hostPort:guestPort[/tcp|/udp]</c>, IPv6 addresses in brackets; ports may be ranges such as 8000-8010 of equal length.</summary>
    /// <remarks>Without an address the host listens at 127.0.0.1 only: a guest's service is not the neighbours' unless asked for.</remarks>
    /// <exception cref="NetworkException">The text is none such.</exception>
    public static IReadOnlyList<PublishRule> Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        string rest = text;
        bool isUdp = false;
        int slash = rest.LastIndexOf('/');
        if (slash >= 0)
        {
            string protocol = rest[(slash + 1)..];
            isUdp = protocol == "udp";
            if (!isUdp && protocol != "tcp")
            {
                throw Wrong(text, $"'{protocol}' is no protocol; use tcp or udp");
            }

            rest = rest[..slash];
        }

        int last = rest.LastIndexOf(':');
        if (last < 0)
        {
            throw Wrong(text, "the guest's port is missing");
        }

        (int guestFirst, int guestLast) = Ports(text, rest[(last + 1)..]);
        rest = rest[..last];
        int middle = rest.LastIndexOf(':');
        (int hostFirst, int hostLast) = Ports(text, rest[(middle + 1)..]);
        IPAddress address = middle < 0 ? IPAddress.Loopback : Address(text, rest[..middle]);
        if (hostLast - hostFirst != guestLast - guestFirst)
        {
            throw Wrong(text, "the ranges differ in length");
        }

        PublishRule[] rules = new PublishRule[hostLast - hostFirst + 1];
        for (int i = 0; i < rules.Length; i++)
        {
            rules[i] = new PublishRule(isUdp, HostEndpoint.From(address, (ushort)(hostFirst + i)), (ushort)(guestFirst + i));
        }

        return rules;
    }

    /// <summary>The line for a port that can't be had.</summary>
    internal NetworkException Unavailable(int errno) => new(errno switch
    {
        Errno.EADDRINUSE => $"Can't publish {Host}{Suffix}: the port is taken. Stop what listens there, or choose another port.",
        Errno.EACCES or Errno.EPERM => $"Can't publish {Host}{Suffix}: ports below 1024 need privileges. Choose a port from 1024 on.",
        Errno.EADDRNOTAVAIL => $"Can't publish {Host}{Suffix}: the host has no such address. Name one of the host's, or 0.0.0.0 for all.",
        _ => $"Can't publish {Host}{Suffix}: {Errno.Describe(errno)}.",
    });

    /// <summary>The line for a port at an IPv6 address where the guest is offered no IPv6.</summary>
    internal NetworkException WithoutGuest() => new(
        $"Can't publish {Host}{Suffix}: it leads to the guest's IPv6 address, and the guest has none. Publish at an IPv4 address, or give it one: --net user,ipv6=on.");

    private string Suffix => IsUdp ? "/udp" : "/tcp";

    private static IPAddress Address(string text, string address)
    {
        bool isBracketed = address.StartsWith('[') && address.EndsWith(']');
        string inner = isBracketed ? address[1..^1] : address;
        AddressFamily family = isBracketed ? AddressFamily.InterNetworkV6 : AddressFamily.InterNetwork;
        if (!IPAddress.TryParse(inner, out IPAddress? parsed) || parsed.AddressFamily != family || (!isBracketed && inner.Count(c => c == '.') != 3))
        {
            throw Wrong(text, $"'{address}' is no IP address (IPv6 in brackets)");
        }

        return parsed;
    }

    private static (int First, int Last) Ports(string text, string ports)
    {
        string[] ends = ports.Split('-');
        if (ends.Length > 2 || !TryPort(ends[0], out int first) || !TryPort(ends[^1], out int last) || last < first || last - first >= MaxRange)
        {
            throw Wrong(text, $"'{ports}' is no port from 1 to 65535, nor a range of at most {MaxRange}");
        }

        return (first, last);
    }

    private static bool TryPort(string text, out int port) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out port) && port is > 0 and < 65536;

    private static NetworkException Wrong(string text, string why) =>
        new($"--publish {text}: {why}. The form is [ADDRESS:]HOSTPORT:GUESTPORT[/tcp|/udp], such as 8080:80 or [::1]:5353:53/udp.");
}
