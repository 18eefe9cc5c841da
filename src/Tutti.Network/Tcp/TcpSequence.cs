namespace Tutti.Network.Tcp;

/// <summary>Order of sequence numbers, modulo 2^32 (RFC 9293, 3.4).</summary>
internal static class TcpSequence
{
    internal static bool IsBefore(uint a, uint b) => (int)(a - b) < 0;

    internal static bool IsAfter(uint a, uint b) => (int)(a - b) > 0;

    internal static uint Later(uint a, uint b) => IsBefore(a, b) ? b : a;
}
