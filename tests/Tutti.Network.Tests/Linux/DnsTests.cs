using Tutti.Network.Tests.Tap;

namespace Tutti.Network.Tests.Linux;

/// <summary>BIND's dig in the guest asks the network's resolver, behind which is a server of ours on the host's loopback.</summary>
public sealed class DnsTests : IDisposable
{
    private readonly string _file = Path.GetTempFileName();

    public void Dispose() => File.Delete(_file);

    [TapFact]
    public void Dig_gets_answers_by_both_protocols_and_both_versions_and_many_at_once()
    {
        if (!File.Exists("/usr/bin/dig"))
        {
            Console.WriteLine("Not tried: dig is not installed.");
            return;
        }

        using TestResolver resolver = new();
        File.WriteAllText(_file, $"nameserver {TestResolver.Address}\n");
        using LinuxGuest guest = new(new NetworkSpec { Ip6 = Ip6Mode.On }, _file);
        guest.WaitForIp6();
        Assert.Equal(TestResolver.Answered, Dig(guest, "@10.0.2.3", "one.example"));
        Assert.Equal(TestResolver.Answered, Dig(guest, "@10.0.2.3", "+tcp", "two.example"));
        Assert.Equal(TestResolver.Answered, Dig(guest, "@fec0::3", "three.example"));
        Assert.Equal(TestResolver.Answered, Dig(guest, "@fec0::3", "+tcp", "four.example"));
        string[] names = [.. Enumerable.Range(0, 100).Select(i => $"n{i}.example")];
        Assert.Equal(100, Dig(guest, ["@10.0.2.3", .. names]).Split('\n').Count(line => line == TestResolver.Answered));
    }

    private static string Dig(LinuxGuest guest, params string[] arguments) => guest.Space.Run("dig", ["+short", "+timeout=5", .. arguments]).Trim();
}
