using Tutti.Host;

namespace Tutti.Network;

/// <summary>How many flows a guest may have at a time, and with them how many of the host's descriptors.</summary>
/// <param name="Connections">TCP connections; more are refused.</param>
/// <param name="UdpFlows">UDP flows; the one that was quiet longest goes for a new one.</param>
internal readonly record struct FlowLimit(int Connections, int UdpFlows)
{
    /// <summary>TCP connections where nothing is said.</summary>
    public const int CustomaryFlows = 2048;

    public const int LeastFlows = 16;

    /// <summary>As many ports as there are.</summary>
    public const int MostFlows = 65536;

    /// <summary>UDP flows, of which most are one question and its answer, are a part of the connections.</summary>
    private const int UdpPart = 4;

    /// <summary>Descriptors that are left to the rest of the process: disks, processors, echo, names, published ports.</summary>
    private const int SpareDescriptors = 512;

    /// <summary>What a process may have that may have so many descriptors.</summary>
    /// <param name="asked">TCP connections as asked for; null for the customary number, or fewer.</param>
    /// <param name="descriptors">RLIMIT_NOFILE.</param>
    /// <exception cref="NetworkException">More are asked for than there can be.</exception>
    public static FlowLimit For(int? asked, long descriptors)
    {
        int flows = asked ?? (int)Math.Clamp((descriptors - SpareDescriptors) * UdpPart / (UdpPart + 1), LeastFlows, CustomaryFlows);
        long wanted = flows + (flows / UdpPart) + SpareDescriptors;
        return asked == null || wanted <= descriptors
            ? new FlowLimit(flows, flows / UdpPart)
            : throw new NetworkException($"--net flows={flows} takes up to {wanted} descriptors, and this process may have {descriptors}. Raise that limit (ulimit -Hn), or ask for fewer.");
    }

    /// <summary>With the limit of descriptors raised as far as it goes.</summary>
    /// <exception cref="NetworkException">More are asked for than there can be.</exception>
    public static FlowLimit For(int? asked) => For(asked, DescriptorLimit.Raise());
}
