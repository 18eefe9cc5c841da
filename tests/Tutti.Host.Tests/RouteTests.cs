using System.Runtime.CompilerServices;

namespace Tutti.Host.Tests;

/// <summary>Questions to the kernel's routing tables.</summary>
public sealed class RouteTests
{
    [Fact]
    public void The_structures_have_the_kernels_sizes()
    {
        Assert.Equal(12, Unsafe.SizeOf<NetlinkAddress>());
        Assert.Equal(16, Unsafe.SizeOf<NetlinkHeader>());
        Assert.Equal(12, Unsafe.SizeOf<RouteMessage>());
    }

    [Theory]
    [InlineData("127.0.0.1", HostRouteType.Local)]
    [InlineData("127.99.99.99", HostRouteType.Local)]
    [InlineData("::1", HostRouteType.Local)]
    [InlineData("255.255.255.255", HostRouteType.Broadcast)]
    public void The_loopbacks_addresses_are_the_hosts_own(string address, HostRouteType type)
    {
        using HostRoutes routes = HostRoutes.TryOpen(out _)!;
        HostEndpoint to = HostEndpoint.From(System.Net.IPAddress.Parse(address), 80);
        int answer = routes.Find(to, 17, 0, out HostRoute route);
        Assert.True(answer == 0 || type == HostRouteType.Broadcast, $"{answer}");
        Assert.Equal(answer == 0 ? type : HostRouteType.Unspecified, route.Type);
    }

    [Fact]
    public void A_question_allocates_nothing()
    {
        using HostRoutes routes = HostRoutes.TryOpen(out _)!;
        HostEndpoint to = HostEndpoint.Loopback4(80);
        Assert.Equal(0, routes.Find(to, 6, 0, out _));
        long before = GC.GetAllocatedBytesForCurrentThread();
        int errors = 0;
        for (int i = 0; i < 100; i++)
        {
            errors += routes.Find(to, 6, 0, out _);
        }

        Assert.Equal((0, 0), (errors, GC.GetAllocatedBytesForCurrentThread() - before));
    }

    [Fact]
    [Trait("Category", "Fuzz")]
    public void Random_answers_do_no_harm()
    {
        Random random = new(1);
        byte[] room = new byte[200];
        int routes = 0;
        for (int i = 0; i < 200_000; i++)
        {
            Span<byte> message = room.AsSpan(0, random.Next(room.Length + 1));
            random.NextBytes(message);
            if (message.Length >= 44 && random.Next(4) > 0)
            {
                message[..16].Clear();
                (message[0], message[4], message[8]) = ((byte)random.Next(message.Length + 10), 24, 7);
                (message[16], message[28], message[29], message[30], message[31]) = (2, (byte)random.Next(12), 0, (byte)random.Next(9), 0);
            }

            routes += HostRoutes.TryRead(message, 7, false, out int error, out _) && error == 0 ? 1 : 0;
        }

        Assert.True(routes > 1000, $"{routes}: the fuzz does not get far.");
    }
}
