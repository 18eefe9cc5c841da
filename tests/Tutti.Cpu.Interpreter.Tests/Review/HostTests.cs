using Tutti.Host;

namespace Tutti.Cpu.Interpreter.Tests.Review;

public sealed class HostTests
{
    [Fact]
    public void HostWithoutTheInstructionsIsRefusedInOneLine()
    {
        string message = Assert.Throws<PlatformNotSupportedException>(() => SoftwareEngine.RequireHost(false, () => { })).Message;
        Assert.Contains("x86-64-v2", message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', message);
    }

    [Fact]
    public void HostThatForbidsExecutableMemoryIsRefusedInOneLine()
    {
        string message = Assert.Throws<PlatformNotSupportedException>(() => SoftwareEngine.RequireHost(true, () => throw Refusal())).Message;
        Assert.Contains("executable memory", message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', message);
    }

    /// <summary>The host's own refusal: two such mappings are more than user space has addresses for.</summary>
    private static HostException Refusal() => Assert.Throws<HostException>(() =>
    {
        using HostMapping first = new(1L << 46);
        using HostMapping second = new(1L << 46);
    });
}
