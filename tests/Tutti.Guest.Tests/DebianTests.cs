using System.Diagnostics;
using System.Globalization;

namespace Tutti.Guest.Tests;

/// <summary>The stock Debian kernel in the software engine, at its shell. One guest at a time: they need the processor.</summary>
[Collection("guests")]
public class DebianTests
{
    /// <summary>Pipes, forks, signals and floating point, with an answer that depends on all of it.</summary>
    private const string Work =
        """
        n=0; trap 'n=$((n+1))' USR1; i=0; while [ $i -lt 50 ]; do (exit $((i % 7))); s=$((s + $?)); kill -USR1 $$; i=$((i+1)); done; seq 1 1000 | sort -rn | awk '{ t += 1.5 / $1 - $1 / 7 } END { printf "%.9f ", t }'; echo "$s $n $(seq 1 3000 | md5sum | cut -c1-8)"
        """;

    [DebianFact]
    public void Boots_to_a_shell_that_answers_and_powers_off()
    {
        using var guest = new GuestSession();
        guest.ExpectShell();
        Assert.StartsWith("Linux tutti 6.", guest.Run("uname -a"), StringComparison.Ordinal);
        Assert.Equal("42", guest.Run("echo $((6 * 7))"));
        Assert.Contains("x86_64", guest.Run("uname -m"), StringComparison.Ordinal);
        Assert.Contains("kvm-clock", guest.Run("cat /sys/devices/system/clocksource/clocksource0/available_clocksource"), StringComparison.Ordinal);

        string log = guest.Run("dmesg");
        Assert.Contains("Linux version", log, StringComparison.Ordinal);
        Assert.Empty(GuestSession.Complaints(log));

        guest.Send("poweroff\n");
        Assert.Equal(0, guest.WaitForExit());
    }

    [DebianFact]
    public void Forks_pipes_signals_and_floating_point_work()
    {
        using var guest = new GuestSession();
        guest.ExpectShell();
        for (int round = 0; round < 3; round++)
        {
            string[] answer = guest.Run(Work.Trim()).Split(' ', '\n')[^4..];
            double expected = Enumerable.Range(1, 1000).Sum(i => (1.5 / i) - (i / 7.0));
            Assert.Equal(expected, double.Parse(answer[0], CultureInfo.InvariantCulture), 1e-6);
            Assert.Equal(Enumerable.Range(0, 50).Sum(i => i % 7) * (round + 1), int.Parse(answer[1], CultureInfo.InvariantCulture));
            Assert.Equal("50", answer[2]);
            string digest = Digest(string.Concat(Enumerable.Range(1, 3000).Select(i => $"{i}\n")))[..8];
            Assert.Equal(digest, answer[3]);
        }

        Assert.Empty(GuestSession.Complaints(guest.Run("dmesg")));
        guest.Send("poweroff\n");
        Assert.Equal(0, guest.WaitForExit());
    }

    [DebianFact]
    public void Guest_that_rests_gives_its_translations_back_and_goes_on()
    {
        using var guest = new GuestSession();
        guest.ExpectShell();
        var watch = Stopwatch.StartNew();
        // Booting takes more than 10 MiB of them.
        while (guest.TranslatedBytes() > 3 << 20)
        {
            Assert.True(watch.Elapsed < TimeSpan.FromMinutes(1), $"Translations still take {guest.TranslatedBytes()} bytes.");
            Thread.Sleep(50);
        }

        Assert.Equal("500500", guest.Run("seq 1 1000 | awk '{ t += $1 } END { print t }'")[^6..]);
        Assert.InRange(guest.TranslatedBytes(), 256 << 10, 64 << 20);
        Assert.Empty(GuestSession.Complaints(guest.Run("dmesg")));
        guest.Send("poweroff\n");
        Assert.Equal(0, guest.WaitForExit());
    }

    [DebianFact]
    public void Two_processors_share_the_work()
    {
        using var guest = new GuestSession("--cpus", "2");
        guest.ExpectShell();
        Assert.Equal("2", guest.Run("nproc"));
        string work = "i=0; while [ $i -lt 200 ]; do (exit 0); i=$((i+1)); done";
        guest.Run($"({work}) & ({work}) & ({work}) & wait; seq 1 20000 | sort -rn | sort -n | tail -n 1");
        Assert.EndsWith("20000", guest.Run("seq 1 20000 | sort -rn | sort -n | tail -n 1"), StringComparison.Ordinal);
        Assert.Empty(GuestSession.Complaints(guest.Run("dmesg")));
        guest.Send("poweroff\n");
        Assert.Equal(0, guest.WaitForExit());
    }

    [DebianFact]
    public void Runs_in_128_MiB()
    {
        using var guest = new GuestSession("--memory", "128M");
        guest.ExpectShell();
        int total = int.Parse(guest.Run("awk '/MemTotal/ { print $2 }' /proc/meminfo"), CultureInfo.InvariantCulture);
        Assert.InRange(total, 60_000, 131_072);
        guest.Send("poweroff\n");
        Assert.Equal(0, guest.WaitForExit());
    }

    [DebianFact]
    public void Memory_above_4_GiB_holds_what_is_written_there()
    {
        using var guest = new GuestSession("--memory", "4G");
        guest.ExpectShell();
        int total = int.Parse(guest.Run("awk '/MemTotal/ { print $2 }' /proc/meminfo"), CultureInfo.InvariantCulture);
        Assert.InRange(total, 3_900_000, 4_194_304);
        Assert.Contains("100000000-13fffffff : System RAM", guest.Run("cat /proc/iomem"), StringComparison.Ordinal);

        // The kernel hands out high memory first: 200 MB of it, written and read back.
        guest.Run("for i in $(seq 1 100); do cat /bin/busybox; done > /tmp/f");
        Assert.Equal("same", guest.Run("for i in $(seq 1 100); do cat /bin/busybox; done | cmp - /tmp/f && echo same"));
        guest.Send("poweroff\n");
        Assert.Equal(0, guest.WaitForExit());
    }

    [DebianFact]
    public void Piped_input_is_typed_and_its_end_does_not_stop_the_guest()
    {
        using var guest = new GuestSession();
        guest.Send("uname -a; poweroff -f\n");
        guest.EndInput();
        guest.Expect("Linux tutti 6.");
        Assert.Equal(0, guest.WaitForExit());
    }

    [DebianFact]
    public void A_kernel_panic_has_its_own_exit_status()
    {
        using var guest = new GuestSession();
        guest.ExpectShell();
        guest.Send("echo c > /proc/sysrq-trigger\n");
        Assert.Equal(3, guest.WaitForExit());
    }

    [DebianFact]
    public void The_time_limit_has_its_own_exit_status()
    {
        using var guest = new GuestSession("--timeout", "500ms");
        Assert.Equal(124, guest.WaitForExit());
    }

    [DebianFact]
    public void Reboot_starts_the_machine_again()
    {
        using var guest = new GuestSession();
        guest.ExpectShell();
        guest.Send("reboot\n");
        guest.Expect("Linux version");
        guest.ExpectShell();
        guest.Send("poweroff\n");
        Assert.Equal(0, guest.WaitForExit());
    }

#pragma warning disable CA5351 // The guest has md5sum everywhere; nothing is protected by it.
    private static string Digest(string text) =>
        Convert.ToHexStringLower(System.Security.Cryptography.MD5.HashData(System.Text.Encoding.ASCII.GetBytes(text)));
#pragma warning restore CA5351
}
