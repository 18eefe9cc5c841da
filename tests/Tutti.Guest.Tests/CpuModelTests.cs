namespace Tutti.Guest.Tests;

/// <summary>What a real kernel makes of a processor of a named model.</summary>
[Collection("guests")]
public class CpuModelTests
{
    [DebianFact]
    public void A_guest_of_level_2_sees_that_level_and_no_more()
    {
        using var guest = new GuestSession("--engine", "software", "--cpu", "x86-64-v2");
        guest.ExpectShell();
        string info = guest.Run("cat /proc/cpuinfo");
        string[] flags = Value(info, "flags").Split(' ');

        // Word for word, as tests/nested has it for KVM: what the kernel adds of its own shows what it takes the processor for.
        string[] level =
        [
            "fpu", "de", "pse", "tsc", "msr", "pae", "cx8", "apic", "sep", "mtrr", "pge", "cmov", "pat", "pse36", "clflush", "mmx", "fxsr", "sse", "sse2",
            "syscall", "nx", "rdtscp", "lm", "rep_good", "nopl", "cpuid", "extd_apicid", "tsc_known_freq", "pni", "ssse3", "cx16", "sse4_1", "sse4_2",
            "x2apic", "popcnt", "tsc_deadline_timer", "hypervisor", "lahf_lm", "3dnowprefetch", "vmmcall", "arat",
        ];
        Assert.Equal(level.Order(), flags.Order());
        Assert.Equal("Tutti x86-64-v2 CPU", Value(info, "model name"));
        Assert.Equal("39 bits physical, 48 bits virtual", Value(info, "address sizes"));
        Assert.Empty(GuestSession.Complaints(guest.Run("dmesg")));
        guest.Send("poweroff\n");
        Assert.Equal(0, guest.WaitForExit());
    }

    [DebianFact]
    public void Single_features_go_with_what_needs_them_and_come_with_what_they_need()
    {
        using (var guest = new GuestSession("--engine", "software", "--net", "none", "--cpu", "host,-avx,-rdrand,-pcid"))
        {
            guest.ExpectShell();
            string[] flags = Value(guest.Run("cat /proc/cpuinfo"), "flags").Split(' ');
            Assert.Empty(flags.Intersect(["avx", "avx2", "fma", "f16c", "vaes", "vpclmulqdq", "rdrand", "pcid", "invpcid"]));
            Assert.Empty(((string[])["xsave", "aes", "sse4_2", "bmi2", "rdseed", "smep"]).Except(flags));
            Assert.Empty(GuestSession.Complaints(guest.Run("dmesg")));
            guest.Send("poweroff\n");
            Assert.Equal(0, guest.WaitForExit());
        }

        using (var guest = new GuestSession("--engine", "software", "--net", "none", "--cpu", "x86-64-v2,+sha_ni,+xsaveopt,-tsc_deadline_timer"))
        {
            guest.ExpectShell();
            string[] flags = Value(guest.Run("cat /proc/cpuinfo"), "flags").Split(' ');
            Assert.Empty(((string[])["sha_ni", "xsave", "xsaveopt"]).Except(flags));
            Assert.Empty(flags.Intersect(["avx", "aes", "tsc_deadline_timer"]));
            Assert.Empty(GuestSession.Complaints(guest.Run("dmesg")));
            guest.Send("poweroff\n");
            Assert.Equal(0, guest.WaitForExit());
        }
    }

    /// <summary>
    /// The kernel saves and restores the upper halves of the YMM registers where it switches processes; the C library of
    /// the shell uses them for its string functions too.
    /// </summary>
    [DebianFact]
    public void A_guest_of_level_3_uses_AVX()
    {
        if (!System.Runtime.Intrinsics.X86.Avx2.IsSupported)
        {
            using var refused = new GuestSession("--engine", "software", "--cpu", "x86-64-v3");
            Assert.Equal(2, refused.WaitForExit());
            return;
        }

        using var guest = new GuestSession("--engine", "software", "--cpu", "x86-64-v3");
        guest.ExpectShell();
        string[] flags = Value(guest.Run("cat /proc/cpuinfo"), "flags").Split(' ');
        Assert.Empty(((string[])["avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "movbe", "abm", "xsave", "xsaveopt"]).Except(flags));
        Assert.DoesNotContain("avx512f", flags);
        string log = guest.Run("dmesg");
        Assert.Contains("xstate features 0x7, context size is 832 bytes", log, StringComparison.Ordinal);
        Assert.Empty(GuestSession.Complaints(log));

        // The shell takes lines of up to 1023 characters.
        foreach (char[] piece in Convert.ToBase64String(YmmKeeper.Program()).Chunk(900))
        {
            guest.Run($"echo {new string(piece)} >> /tmp/keep64");
        }

        guest.Run("base64 -d /tmp/keep64 > /tmp/keep; chmod +x /tmp/keep");
        Assert.EndsWith("kept 0 0 0", guest.Run(
            "/tmp/keep & a=$!; /tmp/keep & b=$!; /tmp/keep; c=$?; wait $a; d=$?; wait $b; echo kept $c $d $?"), StringComparison.Ordinal);
        guest.Send("poweroff\n");
        Assert.Equal(0, guest.WaitForExit());
    }

    private static string Value(string info, string name) =>
        info.Split('\n').First(line => line.StartsWith(name, StringComparison.Ordinal)).Split(':')[1].Trim();
}
