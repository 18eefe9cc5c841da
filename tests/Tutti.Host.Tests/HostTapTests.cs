namespace Tutti.Host.Tests;

public sealed unsafe class HostTapTests
{
    [Fact]
    public void Structure_has_the_kernels_layout() => Assert.Equal(40, sizeof(InterfaceRequest));

    [Fact]
    public void The_loopback_device_is_no_tap()
    {
        // Where the host has no TAP driver, or not for this user, the file is what is refused.
        HostException e = Assert.Throws<HostException>(() => HostTap.Open("lo"));
        Assert.True(e is { Call: "open" } or { Call: "TUNSETIFF", Errno: Errno.EINVAL or Errno.EPERM }, e.Message);
    }

    [Fact]
    public void A_name_that_is_too_long_is_refused() => Assert.Throws<ArgumentOutOfRangeException>(() => HostTap.Open("sixteencharacter"));
}
