using Tutti.Devices.Network;

namespace Tutti.Devices.Tests.Network;

public sealed class MacAddressTests
{
    [Fact]
    public void Text_bytes_and_number_are_the_same_address()
    {
        Assert.True(MacAddress.TryParse("52:54:00:12:34:Fe", out MacAddress address));
        Assert.Equal(0x5254001234FEUL, address.Value);
        Assert.Equal("52:54:00:12:34:fe", address.ToString());
        byte[] bytes = new byte[6];
        address.Write(bytes);
        Assert.Equal([0x52, 0x54, 0, 0x12, 0x34, 0xFE], bytes);
        Assert.Equal(address, MacAddress.Read(bytes));
        Assert.False(address.IsMulticast);
        Assert.True(MacAddress.Broadcast.IsMulticast);
    }

    [Theory]
    [InlineData("")]
    [InlineData("52:54:00:12:34")]
    [InlineData("52:54:00:12:34:5")]
    [InlineData("52-54-00-12-34-56")]
    [InlineData("52:54:00:12:34:5g")]
    [InlineData("52:54:00:12:34: 6")]
    [InlineData("52:54:00:12:34:56:")]
    public void Other_text_is_no_address(string text) => Assert.False(MacAddress.TryParse(text, out _));
}
