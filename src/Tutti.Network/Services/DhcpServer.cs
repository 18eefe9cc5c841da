using System.Buffers.Binary;
using System.Text;
using Tutti.Network.Ip;

namespace Tutti.Network.Services;

/// <summary>Leases IPv4 addresses to the guest's cards (RFC 2131, 2132): the first gets .15, others on the same cable those behind.</summary>
internal sealed class DhcpServer
{
    public const ushort ServerPort = 67;
    public const ushort ClientPort = 68;

    private const int FixedLength = 240;
    private const uint Cookie = 0x6382_5363;
    private const uint LeaseSeconds = 86400;
    private const byte Discover = 1;
    private const byte Offer = 2;
    private const byte Request = 3;
    private const byte Ack = 5;
    private const byte Nak = 6;
    private const byte Release = 7;
    private const byte Inform = 8;

    private readonly NetworkAddresses _addresses;
    private readonly IpOutput _output;
    private readonly string _hostName;
    private readonly string _domain;
    private readonly (ulong Mac, bool IsReleased)[] _leases;

    public DhcpServer(NetworkAddresses addresses, IpOutput output, string hostName, string domain)
    {
        _addresses = addresses;
        _output = output;
        _hostName = hostName;
        _domain = domain;
        _leases = new (ulong, bool)[Math.Min(32, (int)(addresses.Broadcast4 - addresses.Guest4))];
    }

    /// <summary>A message to the server's port, UDP's header taken off.</summary>
    public void Take(ReadOnlySpan<byte> message)
    {
        // BOOTREQUEST, Ethernet.
        if (message.Length < FixedLength || message[0] != 1 || message[1] != 1 || message[2] != 6 || BinaryPrimitives.ReadUInt32BigEndian(message[236..]) != Cookie)
        {
            return;
        }

        ulong mac = FrameFormat.ReadMac(message[28..]);
        uint clientAddress = BinaryPrimitives.ReadUInt32BigEndian(message[12..]);
        uint server = Option(message, 54);
        byte type = (byte)(Option(message, 53) >> 24);
        if (FrameFormat.IsMulticast(mac) || mac == 0 || (server != 0 && server != _addresses.Host4))
        {
            return;
        }

        switch (type)
        {
            case Discover:
                if (Lease(mac) is uint offered and not 0)
                {
                    Answer(message, Offer, offered, mac);
                }

                break;
            case Request:
                uint wanted = Option(message, 50) is uint asked and not 0 ? asked : clientAddress;
                uint leased = Lease(mac);
                Answer(message, wanted == leased && leased != 0 ? Ack : Nak, leased, mac);
                break;
            case Inform:
                Answer(message, Ack, 0, mac);
                break;
            case Release:
                GiveBack(mac, clientAddress);
                break;
            default:
                // Decline: the address stays the card's, which is to get the same again.
                break;
        }
    }

    private static uint Option(ReadOnlySpan<byte> message, byte code)
    {
        ReadOnlySpan<byte> options = message[FixedLength..];
        while (options.Length >= 2 && options[0] != 255)
        {
            if (options[0] == 0)
            {
                options = options[1..];
                continue;
            }

            int length = options[1];
            if (options.Length < 2 + length)
            {
                return 0;
            }

            if (options[0] == code && length > 0)
            {
                uint value = 0;
                for (int i = 0; i < 4; i++)
                {
                    value = (value << 8) | (i < length ? options[2 + i] : 0u);
                }

                return value;
            }

            options = options[(2 + length)..];
        }

        return 0;
    }

    /// <summary>The card's address, the same as before where it had one; 0 when all are taken. One that was given back is another's only when no others are left.</summary>
    private uint Lease(ulong mac)
    {
        int free = -1;
        for (int i = 0; i < _leases.Length; i++)
        {
            if (_leases[i].Mac == mac)
            {
                free = i;
                break;
            }

            if (free < 0 ? _leases[i].IsReleased || _leases[i].Mac == 0 : _leases[i].Mac == 0 && _leases[free].IsReleased)
            {
                free = i;
            }
        }

        if (free < 0)
        {
            return 0;
        }

        _leases[free] = (mac, false);
        return _addresses.Guest4 + (uint)free;
    }

    private void GiveBack(ulong mac, uint address)
    {
        uint index = address - _addresses.Guest4;
        if (index < _leases.Length && _leases[index].Mac == mac)
        {
            _leases[index].IsReleased = true;
        }
    }

    private void Answer(ReadOnlySpan<byte> request, byte type, uint address, ulong mac)
    {
        Span<byte> answer = _output.Transport[FrameFormat.UdpHeader..][..576];
        answer.Clear();
        answer[0] = 2;
        answer[1] = 1;
        answer[2] = 6;
        request[4..8].CopyTo(answer[4..]);
        request[10..12].CopyTo(answer[10..]);
        uint client = BinaryPrimitives.ReadUInt32BigEndian(request[12..]);
        if (type != Nak)
        {
            BinaryPrimitives.WriteUInt32BigEndian(answer[12..], client);
            BinaryPrimitives.WriteUInt32BigEndian(answer[16..], address);
            BinaryPrimitives.WriteUInt32BigEndian(answer[20..], _addresses.Host4);
        }

        request[28..44].CopyTo(answer[28..]);
        BinaryPrimitives.WriteUInt32BigEndian(answer[236..], Cookie);
        int at = FixedLength;
        Put(answer, ref at, 53, (uint)type << 24, 1);
        Put(answer, ref at, 54, _addresses.Host4, 4);
        if (type != Nak)
        {
            if (address != 0)
            {
                Put(answer, ref at, 51, LeaseSeconds, 4);
                Put(answer, ref at, 58, LeaseSeconds / 2, 4);
                Put(answer, ref at, 59, LeaseSeconds / 8 * 7, 4);
            }

            Put(answer, ref at, 1, _addresses.Mask, 4);
            Put(answer, ref at, 28, _addresses.Broadcast4, 4);
            Put(answer, ref at, 3, _addresses.Host4, 4);
            Put(answer, ref at, 6, _addresses.Resolver4, 4);
            Put(answer, ref at, 26, (uint)_output.Mtu << 16, 2);
            PutText(answer, ref at, 12, _hostName);
            PutText(answer, ref at, 15, _domain);
        }

        answer[at++] = 255;
        // Old clients want BOOTP's 300 bytes. Section 4.1: where the answer goes.
        bool isBroadcast = type == Nak || (client == 0 && (request[10] & 0x80) != 0);
        uint to = isBroadcast ? uint.MaxValue : client != 0 ? client : address;
        if (!isBroadcast && client == 0)
        {
            _output.LearnGuest(address, mac);
        }

        _output.SendUdp(new IpEndpoints(false, _addresses.Host4, to), ServerPort, ClientPort, Math.Max(at, 300));
    }

    private static void Put(Span<byte> answer, ref int at, byte code, uint value, byte length)
    {
        answer[at] = code;
        answer[at + 1] = length;
        for (int i = 0; i < length; i++)
        {
            answer[at + 2 + i] = (byte)(value >> (24 - (8 * i)));
        }

        at += 2 + length;
    }

    private static void PutText(Span<byte> answer, ref int at, byte code, string text)
    {
        if (text.Length is > 0 and <= 63)
        {
            answer[at] = code;
            answer[at + 1] = (byte)Encoding.ASCII.GetBytes(text, answer[(at + 2)..]);
            at += 2 + answer[at + 1];
        }
    }
}
