using System.Diagnostics;

namespace Tutti.Cpu.Kvm.Tests;

/// <summary>A process that is killed leaves nothing of its VMs in the host.</summary>
public sealed class KilledProcessTests
{
    private const string Mark = "TUTTI_TEST_MARK";
    private const int SigKillStatus = 128 + 9;

    [KvmFact]
    public void A_killed_process_leaves_no_vm()
    {
        string mark = Guid.NewGuid().ToString();
        ProcessStartInfo start = new("dotnet")
        {
            ArgumentList = { "exec", typeof(HoldingProcess).Assembly.Location, TestProgram.HoldArgument },
            RedirectStandardOutput = true,
        };
        start.Environment[Mark] = mark;
        using Process process = Process.Start(start)!;
        Assert.Equal("runs", process.StandardOutput.ReadLine());
        string[] users = FindUsers(mark);
        Assert.Equal([process.Id.ToString(System.Globalization.CultureInfo.InvariantCulture)], users);

        process.Kill();

        Assert.True(process.WaitForExit(SmallGuest.Patience), "the process does not end");
        Assert.Equal(SigKillStatus, process.ExitCode);
        Assert.True(SpinWait.SpinUntil(() => FindUsers(mark).Length == 0, SmallGuest.Patience), "somebody still has a VM");
        const string Debug = "/sys/kernel/debug/kvm";
        if (Directory.Exists(Debug))
        {
            Assert.True(
                SpinWait.SpinUntil(() => Directory.GetDirectories(Debug, $"{process.Id}-*").Length == 0, SmallGuest.Patience),
                "the kernel still has a VM");
        }

        using SmallGuest guest = new();
        guest.Start(GuestMode.Long, a => a.@out((byte)SmallGuest.EndPort, Iced.Intel.AssemblerRegisters.al));
        guest.RunToEnd();
    }

    /// <summary>Processes that came from ours and have a VM.</summary>
    private static string[] FindUsers(string mark) =>
        [.. Directory.GetDirectories("/proc").Where(folder => char.IsAsciiDigit(Path.GetFileName(folder)[0]) && IsUser(folder, mark)).Select(folder => Path.GetFileName(folder))];

    private static bool IsUser(string folder, string mark)
    {
        try
        {
            return File.ReadAllText(Path.Combine(folder, "environ")).Contains($"{Mark}={mark}", StringComparison.Ordinal)
                && Directory.GetFiles(Path.Combine(folder, "fd")).Any(path => new FileInfo(path).LinkTarget?.StartsWith("anon_inode:kvm-", StringComparison.Ordinal) == true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It ended meanwhile, or is another user's.
            return false;
        }
    }
}
