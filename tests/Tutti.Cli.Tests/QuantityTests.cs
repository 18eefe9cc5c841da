namespace Tutti.Cli.Tests;

public sealed class QuantityTests
{
    [Theory]
    [InlineData("512", 512L << 20)]
    [InlineData("512M", 512L << 20)]
    [InlineData("512m", 512L << 20)]
    [InlineData("4G", 4L << 30)]
    [InlineData("4GiB", 4L << 30)]
    [InlineData("1.5G", 3L << 29)]
    [InlineData("65536K", 64L << 20)]
    [InlineData("100B", 100)]
    [InlineData("1T", 1L << 40)]
    public void SizeIsParsed(string text, long expected)
    {
        Assert.True(Quantity.TryParseSize(text, out long bytes));
        Assert.Equal(expected, bytes);
    }

    [Theory]
    [InlineData("")]
    [InlineData("M")]
    [InlineData("-1")]
    [InlineData("1X")]
    [InlineData("1 G")]
    [InlineData("1G G")]
    [InlineData("..")]
    [InlineData("0x10")]
    [InlineData("9999999999999T")]
    [InlineData("99999999999999999999999999999999999999")]
    public void NonsenseIsNoSize(string text) => Assert.False(Quantity.TryParseSize(text, out _));

    [Theory]
    [InlineData("30", 30_000)]
    [InlineData("30s", 30_000)]
    [InlineData("500ms", 500)]
    [InlineData("5m", 300_000)]
    [InlineData("2h", 7_200_000)]
    [InlineData("0.25s", 250)]
    public void TimeIsParsed(string text, double milliseconds)
    {
        Assert.True(Quantity.TryParseTime(text, out TimeSpan time));
        Assert.Equal(milliseconds, time.TotalMilliseconds);
    }

    [Theory]
    [InlineData("")]
    [InlineData("s")]
    [InlineData("-3s")]
    [InlineData("3d")]
    [InlineData("99999999999999h")]
    public void NonsenseIsNoTime(string text) => Assert.False(Quantity.TryParseTime(text, out _));

    [Theory]
    [InlineData(0, "0 B")]
    [InlineData(1023, "1023 B")]
    [InlineData(1536, "1.5 KiB")]
    [InlineData(64L << 30, "64 GiB")]
    public void SizeIsWrittenForPeople(long bytes, string expected) => Assert.Equal(expected, Quantity.FormatSize(bytes));
}
