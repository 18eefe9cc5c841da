using System.Globalization;
using System.Net;
using System.Net.NetworkInformation;
using System.Net.Sockets;
using System.Buffers.Binary;
using Tutti.Host;

namespace Tutti.Network;

/// <summary>What the guest's card is plugged into.</summary>
public enum NetworkKind
{
    /// <summary>Nothing; there is no card.</summary>
    None,

    /// <summary>A network of its own behind this host's, which needs no privileges.</summary>
    User,

    /// <summary>A TAP device of the host's.</summary>
    Tap,
}

/// <summary>Whether the guest is offered IPv6.</summary>
public enum Ip6Mode
{
    /// <summary>When the host has a route to the internet's.</summary>
    Auto,
    On,
    Off,
}

/// <summary>A network as asked for: <c>--net</c>'s text, read.</summary>
public sealed record NetworkSpec
{
    private const string Form = "The forms are none, user[,host=allow][,metadata=allow][,ipv6=on|off|auto][,net=10.0.2.0/24][,mtu=N][,flows=N][,buffers=SIZE][,pcap=FILE][,bps=N][,pps=N][,mac=MAC] and tap=NAME[,pcap=FILE][,bps=N][,pps=N][,mac=MAC]";
    private const string TapPrefix = "tap=";

    public NetworkKind Kind { get; init; } = NetworkKind.User;

    /// <summary>The TAP device's name, for <see cref="NetworkKind.Tap"/>.</summary>
    public string TapName { get; init; } = string.Empty;

    /// <summary>Whether the guest may reach the host's own services, at the gateway's address.</summary>
    public bool IsHostAllowed { get; init; }

    /// <summary>Whether the guest may reach link-local addresses and clouds' metadata services, which hand out the host's credentials.</summary>
    public bool IsMetadataAllowed { get; init; }

    public Ip6Mode Ip6 { get; init; } = Ip6Mode.Auto;

    /// <summary>The IPv4 network, host bits zero.</summary>
    public uint Subnet { get; init; } = NetworkAddresses.CustomarySubnet;

    /// <summary>8 to 28.</summary>
    public int PrefixLength { get; init; } = NetworkAddresses.CustomaryPrefixLength;

    /// <summary>Largest IP packet that is not segmented, 1280 to 65520 bytes.</summary>
    public int Mtu { get; init; } = 1500;

    /// <summary>Most TCP connections at a time, 16 to 65536, and four times the most UDP flows; null for <see cref="FlowLimit.CustomaryFlows"/>, or fewer where the process may not have so many descriptors.</summary>
    public int? Flows { get; init; }

    /// <summary>Most bytes from the guest that wait for the host's sockets, 1 MiB to 16 GiB.</summary>
    public long BufferBytes { get; init; } = 64 << 20;

    /// <summary>Where packets are written to; null for nowhere.</summary>
    public string? CaptureFile { get; init; }

    /// <summary>Bits per second each way; 0 for no limit.</summary>
    public long BitsPerSecond { get; init; }

    /// <summary>Packets per second each way; 0 for no limit.</summary>
    public long PacketsPerSecond { get; init; }

    /// <summary>The card's address, 48 bits; null for one that is made up.</summary>
    public ulong? Mac { get; init; }

    /// <summary>The host name that DHCP tells the guest; empty for none.</summary>
    public string HostName { get; init; } = string.Empty;

    /// <summary>What leads from the host to the guest.</summary>
    public IReadOnlyList<PublishRule> Published { get; init; } = [];

    /// <summary>Reads the text.</summary>
    /// <exception cref="NetworkException">It is none.</exception>
    public static NetworkSpec Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        string[] parts = text.Split(',');
        NetworkSpec spec = parts[0] switch
        {
            "none" => new NetworkSpec { Kind = NetworkKind.None },
            "user" => new NetworkSpec(),
            string tap when tap.StartsWith(TapPrefix, StringComparison.Ordinal) => new NetworkSpec { Kind = NetworkKind.Tap, TapName = CheckTapName(text, tap[TapPrefix.Length..]) },
            "tap" => throw new NetworkException($"--net {text}: the TAP device's name is missing; write tap=NAME."),
            _ => throw new NetworkException($"--net {text}: '{parts[0]}' is no kind of network. {Form}."),
        };
        if (spec.Kind == NetworkKind.None && parts.Length > 1)
        {
            throw new NetworkException($"--net {text}: none takes no options. {Form}.");
        }

        foreach (string part in parts.AsSpan(1))
        {
            int equals = part.IndexOf('=');
            if (equals <= 0)
            {
                throw new NetworkException($"--net {text}: '{part}' is no option. {Form}.");
            }

            spec = spec.With(text, part[..equals], part[(equals + 1)..]);
        }

        return spec;
    }

    private NetworkSpec With(string text, string name, string value) => name switch
    {
        "host" or "metadata" or "ipv6" or "net" or "mtu" or "flows" or "buffers" when Kind == NetworkKind.Tap => throw new NetworkException($"--net {text}: {name} goes with user; at a TAP device the host's own network has its settings."),
        "host" when value is "allow" or "deny" => this with { IsHostAllowed = value == "allow" },
        "metadata" when value is "allow" or "deny" => this with { IsMetadataAllowed = value == "allow" },
        "ipv6" when Enum.TryParse(value, true, out Ip6Mode mode) && value is "on" or "off" or "auto" => this with { Ip6 = mode },
        "net" when TryNetwork(value, out uint subnet, out int length) => this with { Subnet = subnet, PrefixLength = length },
        "mtu" when TryNumber(value, out long mtu) && mtu is >= 1280 and <= 65520 => this with { Mtu = (int)mtu },
        "flows" when TryNumber(value, out long flows) && flows is >= FlowLimit.LeastFlows and <= FlowLimit.MostFlows => this with { Flows = (int)flows },
        "buffers" when TryNumber(value, out long bytes, 1024) && bytes is >= 1 << 20 and <= 16L << 30 => this with { BufferBytes = bytes },
        "pcap" when value.Length > 0 => this with { CaptureFile = value },
        "bps" when TryNumber(value, out long bits) && bits >= 8000 => this with { BitsPerSecond = bits },
        "pps" when TryNumber(value, out long packets) && packets > 0 => this with { PacketsPerSecond = packets },
        "mac" when TryMac(value, out ulong mac) => this with { Mac = mac },
        "host" or "metadata" => throw Wrong(text, name, value, "allow or deny"),
        "ipv6" => throw Wrong(text, name, value, "on, off or auto"),
        "net" => throw Wrong(text, name, value, "an IPv4 network of 8 to 28 bits, such as 10.0.2.0/24"),
        "mtu" => throw Wrong(text, name, value, "1280 to 65520"),
        "flows" => throw Wrong(text, name, value, "16 to 65536, the most TCP connections at a time"),
        "buffers" => throw Wrong(text, name, value, "1M to 16G, the most bytes that wait for the host's sockets"),
        "pcap" => throw Wrong(text, name, value, "a file's name"),
        "bps" => throw Wrong(text, name, value, "bits per second, from 8000 on, such as 10M"),
        "pps" => throw Wrong(text, name, value, "packets per second"),
        "mac" => throw Wrong(text, name, value, "an address of one card, such as 52:54:00:12:34:56"),
        _ => throw new NetworkException($"--net {text}: '{name}' is no option. {Form}."),
    };

    private static NetworkException Wrong(string text, string name, string value, string what) =>
        new($"--net {text}: {name}='{value}' must be {what}.");

    private static string CheckTapName(string text, string name) =>
        name.Length is > 0 and <= HostTap.MaxNameLength && name is not ("." or "..") && !name.Any(c => c is <= ' ' or > '~' or '/' or ':' or '%')
            ? name
            : throw new NetworkException($"--net {text}: '{name}' is no name of a network device: 1 to {HostTap.MaxNameLength} characters, no spaces, and none of / : %.");

    private static bool TryNumber(string text, out long number, long thousand = 1000)
    {
        long unit = text.Length == 0 ? 1 : text[^1] switch { 'k' or 'K' => thousand, 'M' => thousand * thousand, 'G' => thousand * thousand * thousand, _ => 1 };
        bool isNumber = long.TryParse(unit == 1 ? text : text[..^1], NumberStyles.None, CultureInfo.InvariantCulture, out number) && number < 1_000_000_000_000;
        number *= unit;
        return isNumber;
    }

    private static bool TryMac(string text, out ulong mac)
    {
        mac = 0;
        if (text.Length != 17 || !PhysicalAddress.TryParse(text, out PhysicalAddress? address) || address.GetAddressBytes() is not { Length: 6 } bytes)
        {
            return false;
        }

        mac = Ip.FrameFormat.ReadMac(bytes);
        return mac != 0 && !Ip.FrameFormat.IsMulticast(mac);
    }

    private static bool TryNetwork(string text, out uint subnet, out int length)
    {
        subnet = 0;
        length = 0;
        int slash = text.IndexOf('/');
        if (slash < 0 || !IPAddress.TryParse(text[..slash], out IPAddress? address) || address.AddressFamily != AddressFamily.InterNetwork ||
            !int.TryParse(text[(slash + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out length) || length is < 8 or > 28)
        {
            return false;
        }

        subnet = BinaryPrimitives.ReadUInt32BigEndian(address.GetAddressBytes());
        uint top = subnet >> 24;
        return (subnet & (uint.MaxValue >> length)) == 0 && top is not (0 or 127) && top < 224;
    }
}
