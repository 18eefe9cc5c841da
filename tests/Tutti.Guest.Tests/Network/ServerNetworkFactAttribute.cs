using Tutti.Network.Tests.Tap;

namespace Tutti.Guest.Tests.Network;

/// <summary>A test of the image debian-server on a host that is a network namespace of the test's: skipped, with its reason, where one of them cannot be had.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class ServerNetworkFactAttribute : FactAttribute
{
    public ServerNetworkFactAttribute() => Skip = new ServerFactAttribute().Skip ?? TapFactAttribute.Missing;
}
