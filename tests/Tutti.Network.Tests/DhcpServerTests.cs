using Tutti.Network.Ip;

namespace Tutti.Network.Tests;

/// <summary>Leases of many cards on one cable, as a guest's own bridges and containers make them.</summary>
public sealed class DhcpServerTests
{
    [Fact]
    public void Addresses_that_were_given_back_go_to_new_cards_when_no_others_are_left_and_those_in_use_do_not()
    {
        using TestGuest guest = new(new NetworkSpec { Ip6 = Ip6Mode.Off });
        for (byte card = 1; card <= 32; card++)
        {
            Assert.Equal(0x0A00_0200u + 14 + card, Lease(guest, card));
        }

        Assert.Null(Lease(guest, 33));
        guest.Send(Message(7, 7, 21));
        guest.Send(Message(7, 20, 34));
        Assert.Equal(0x0A00_0200u + 21, Lease(guest, 33));
        Assert.Equal(0x0A00_0200u + 34, Lease(guest, 34));
        Assert.Null(Lease(guest, 35));

        // A card that comes back has its address again.
        Assert.Equal(0x0A00_0200u + 15, Lease(guest, 1));
    }

    private static uint? Lease(TestGuest guest, byte card)
    {
        guest.Send(Message(1, card));
        guest.Network.Loop.Run(() => { });
        return guest.TryTake() is byte[] offer ? System.Buffers.Binary.BinaryPrimitives.ReadUInt32BigEndian(offer.AsSpan(42 + 16)) : null;
    }

    private static byte[] Message(byte type, byte card, byte client = 0)
    {
        byte[] message = new byte[300];
        (message[0], message[1], message[2], message[10]) = (1, 1, 6, 0x80);
        if (client != 0)
        {
            (message[12], message[14], message[15]) = (10, 2, client);
        }

        FrameFormat.WriteMac(message.AsSpan(28), 0x5254_0000_0000UL + card);
        byte[] options = [0x63, 0x82, 0x53, 0x63, 53, 1, type, 255];
        options.CopyTo(message, 236);
        return TestGuest.Udp(uint.MaxValue, 68, 67, message, 0);
    }
}
