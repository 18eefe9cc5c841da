using System.Diagnostics;
using Tutti.Network.Tests.Tap;

namespace Tutti.Network.Tests.Linux;

/// <summary>What becomes of a question of the guest's where one of the host's servers does not answer it: dig asks in the guest, the servers are ours.</summary>
public sealed class DnsServersTests : IDisposable
{
    private const string First = "127.53.53.54";
    private const string Second = "127.53.53.55";

    /// <summary>Where nobody listens.</summary>
    private const string Nobody = "127.53.53.56";

    private readonly string _file = Path.GetTempFileName();

    public void Dispose() => File.Delete(_file);

    [TapTheory]
    [InlineData(2, true)]
    [InlineData(4, true)]
    [InlineData(5, true)]
    [InlineData(0, false)]
    public void The_next_server_is_asked_where_one_fails_refuses_or_only_points_elsewhere(int code, bool recurses)
    {
        using TestResolver first = new(First, query => TestResolver.Refuse(query, code, recurses));
        using TestResolver second = new(Second);
        using LinuxGuest guest = Guest($"nameserver {First}\nnameserver {Second}\n");
        Assert.Contains(TestResolver.Answered, Dig(guest, "one.example"), StringComparison.Ordinal);
        Assert.Contains(TestResolver.Answered, Dig(guest, "+tcp", "two.example"), StringComparison.Ordinal);
        Assert.Equal((2, 2), (first.Queries.Count, second.Queries.Count));
    }

    [TapFact]
    public void The_next_server_is_asked_after_the_time_that_the_host_gives_one()
    {
        using TestResolver first = new(First, _ => null);
        using TestResolver second = new(Second);
        using LinuxGuest guest = Guest($"options timeout:1 attempts:1\nnameserver {First}\nnameserver {Second}\n");
        foreach (string protocol in new[] { "+notcp", "+tcp" })
        {
            Stopwatch watch = Stopwatch.StartNew();
            Assert.Contains(TestResolver.Answered, Dig(guest, protocol, "one.example"), StringComparison.Ordinal);
            Assert.InRange(watch.Elapsed.TotalSeconds, 0.9, 15);
        }
    }

    [TapFact]
    public void A_server_that_is_not_there_costs_no_time()
    {
        using TestResolver second = new(Second);
        using LinuxGuest guest = Guest($"options timeout:9\nnameserver {Nobody}\nnameserver {Second}\n");
        Stopwatch watch = Stopwatch.StartNew();
        Assert.Contains(TestResolver.Answered, Dig(guest, "one.example"), StringComparison.Ordinal);
        Assert.Contains(TestResolver.Answered, Dig(guest, "+tcp", "two.example"), StringComparison.Ordinal);
        Assert.InRange(watch.Elapsed.TotalSeconds, 0, 8);
    }

    [TapFact]
    public void Where_all_turn_it_down_the_guest_gets_what_the_last_one_said_and_where_none_answers_a_failure()
    {
        using TestResolver first = new(First, query => TestResolver.Refuse(query, 2));
        using TestResolver second = new(Second, query => TestResolver.Refuse(query, 5));
        using (LinuxGuest guest = Guest($"options attempts:1\nnameserver {First}\nnameserver {Second}\n"))
        {
            Assert.Contains("status: REFUSED", Dig(guest, "one.example"), StringComparison.Ordinal);
            Assert.Contains("status: REFUSED", Dig(guest, "+tcp", "one.example"), StringComparison.Ordinal);
            Assert.Equal((2, 2), (first.Queries.Count, second.Queries.Count));
        }

        using LinuxGuest other = Guest($"nameserver {Nobody}\n");
        Assert.Contains("status: SERVFAIL", Dig(other, "one.example"), StringComparison.Ordinal);
        Assert.Contains("status: SERVFAIL", Dig(other, "+tcp", "one.example"), StringComparison.Ordinal);
    }

    [TapFact]
    public void A_name_that_does_not_exist_is_an_answer()
    {
        using TestResolver first = new(First, query => TestResolver.Refuse(query, 3));
        using TestResolver second = new(Second);
        using LinuxGuest guest = Guest($"nameserver {First}\nnameserver {Second}\n");
        Assert.Contains("status: NXDOMAIN", Dig(guest, "one.example"), StringComparison.Ordinal);
        Assert.Empty(second.Queries);
    }

    [TapFact]
    public void Questions_take_turns_among_the_servers_where_the_host_says_so()
    {
        using TestResolver first = new(First);
        using TestResolver second = new(Second);
        using LinuxGuest guest = Guest($"options rotate\nnameserver {First}\nnameserver {Second}\n");
        Dig(guest, "a.example", "b.example", "c.example", "d.example");
        Assert.Equal((2, 2), (first.Queries.Count, second.Queries.Count));
    }

    private static string Dig(LinuxGuest guest, params string[] arguments) => guest.Space.Run("dig", ["@10.0.2.3", "+timeout=20", "+tries=1", "+nocookie", .. arguments]);

    private LinuxGuest Guest(string settings)
    {
        File.WriteAllText(_file, settings);
        return new LinuxGuest(new NetworkSpec { Ip6 = Ip6Mode.Off }, _file);
    }
}
