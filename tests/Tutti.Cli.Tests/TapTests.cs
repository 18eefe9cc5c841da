using System.Diagnostics;
using Tutti.Network;
using Tutti.Network.Tap;

namespace Tutti.Cli.Tests;

/// <summary>What can be wrong with a TAP device: one line that says how to mend it, and status 2. Some of it is provoked by a wrapper around the command.</summary>
public sealed class TapTests : IDisposable
{
    private readonly TuttiProcess _tutti = new();
    private readonly string _kernel;

    public TapTests() => _kernel = _tutti.MakeFile("kernel", new TinyKernel().PowerOff().ToFile());

    public void Dispose() => _tutti.Dispose();

    [Theory]
    [InlineData("tap", "the TAP device's name is missing")]
    [InlineData("tap=", "'' is no name of a network device")]
    [InlineData("tap=sixteencharacter", "1 to 15 characters")]
    [InlineData("tap=a/b", "'a/b' is no name of a network device")]
    [InlineData("tap=tap%d", "none of / : %")]
    [InlineData("tap=tap0,host=allow", "host goes with user")]
    [InlineData("tap=tap0,mtu=9000", "mtu goes with user")]
    [InlineData("tap=tap0,bps=fast", "bits per second")]
    [InlineData("tap=tap0,queues=2", "'queues' is no option")]
    public void Wrong_words(string net, string expected) => CheckRefused(expected, [], "--net", net);

    [Fact]
    public void Published_ports_go_with_the_user_network() => CheckRefused("--publish goes with --net user", [], "--net", "tap=tap0", "--publish", "8080:80");

    [Fact]
    public void A_host_without_the_driver()
    {
        if (CanWrap())
        {
            CheckRefused("this host has no /dev/net/tun. Load its driver", Wrap("mount -t tmpfs none /dev/net"), "--net", "tap=ttc0");
        }
    }

    [Fact]
    public void A_user_who_may_not_open_the_driver()
    {
        if (CanWrap())
        {
            string node = MakeNode("600");
            CheckRefused("no permission to open /dev/net/tun", Wrap($"mount --bind {node} /dev/net/tun", AsNobody), "--net", "tap=ttc0");
        }
    }

    [Fact]
    public void A_user_who_may_not_make_devices()
    {
        if (CanWrap())
        {
            string node = MakeNode("666");
            CheckRefused("sudo ip tuntap add dev ttc0 mode tap user nobody", Wrap($"mount --bind {node} /dev/net/tun", AsNobody), "--net", "tap=ttc0");
        }
    }

    [Fact]
    public void A_device_that_is_no_tap()
    {
        if (CanWrap())
        {
            CheckRefused("it is no TAP device", [], "--net", "tap=lo");
        }
    }

    [Fact]
    public void A_device_that_another_machine_uses()
    {
        if (CanWrap())
        {
            string name = $"ttc{Environment.ProcessId}";
            using TapNetwork other = new(NetworkSpec.Parse($"tap={name}"), _ => { }, _ => { });
            CheckRefused($"Can't use TAP device {name}: it is in use by another VM", [], "--net", $"tap={name}");
        }
    }

    [Fact]
    public void A_guest_starts_with_a_device_that_is_made_for_it_and_goes_with_it()
    {
        if (CanWrap())
        {
            string name = $"ttd{Environment.ProcessId}";
            (int status, _, string error) = _tutti.RunUnder([], "run", "--engine", "software", "--memory", "64M", "--kernel", _kernel, "--net", $"tap={name},mac=52:54:00:01:02:03");
            Assert.Equal((0, string.Empty), (status, error));
            Assert.False(Directory.Exists($"/sys/class/net/{name}"));
        }
    }

    private const string AsNobody = "setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all ";

    /// <summary>Root, namespaces and a TAP driver; without them there is nothing to provoke.</summary>
    private static bool CanWrap()
    {
        if (!Environment.IsPrivilegedProcess || !File.Exists("/dev/net/tun"))
        {
            Console.WriteLine("Not tried: only root may, and only where /dev/net/tun is.");
            return false;
        }

        using Process process = Process.Start(new ProcessStartInfo("unshare", "-m true") { RedirectStandardError = true })!;
        process.WaitForExit();
        return process.ExitCode == 0;
    }

    /// <summary>A mount namespace in which the script has run before the command does.</summary>
    private static string[] Wrap(string script, string prefix = "") => ["unshare", "-m", "sh", "-c", $"{script} && exec {prefix}\"$@\"", "sh"];

    private string MakeNode(string mode)
    {
        string node = Path.Combine(_tutti.Folder, "tun");
        using Process process = Process.Start("mknod", $"-m {mode} {node} c 10 200");
        process.WaitForExit();
        Assert.Equal(0, process.ExitCode);

        // Nobody is to read the kernel file, too.
        File.SetUnixFileMode(_tutti.Folder, (UnixFileMode)0b111_101_101);
        return node;
    }

    private void CheckRefused(string expected, string[] wrapper, params string[] args)
    {
        (int status, string output, string error) = _tutti.RunUnder(wrapper, ["run", "--engine", "software", "--memory", "64M", "--kernel", _kernel, .. args]);
        Assert.Contains(expected, error, StringComparison.Ordinal);
        Assert.Equal((2, string.Empty), (status, output));
        Assert.StartsWith("tutti: ", error, StringComparison.Ordinal);
        Assert.Equal(error.Length - 1, error.IndexOf('\n', StringComparison.Ordinal));
    }
}
