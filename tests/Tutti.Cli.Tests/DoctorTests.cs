using System.Text.Json;
using Tutti.Cpu.Interpreter;
using Tutti.Cpu.Kvm;
using Tutti.Host;

namespace Tutti.Cli.Tests;

/// <summary>What <c>tutti doctor</c> says of hosts that a test describes, and of this one.</summary>
public sealed class DoctorTests
{
    [Theory]
    [InlineData(nameof(Findings.Fine), "kvm", "hardware", null, null)]
    [InlineData(nameof(Findings.Slow), "software", "emulated", "emulates ring 0 on this host: 1.5 million instructions a second", "nested virtualization")]
    [InlineData(nameof(Findings.Hanging), "software", "emulated", "did not end a short loop", "kvm_amd is loaded")]
    [InlineData(nameof(Findings.NoDevice), "software", "unusable", "there is no /dev/kvm", "nested virtualization")]
    [InlineData(nameof(Findings.NoPermission), "software", "unusable", "no permission for /dev/kvm", "sudo usermod -aG kvm $USER")]
    [InlineData(nameof(Findings.InUse), "software", "unusable", "another hypervisor", "VirtualBox")]
    [InlineData(nameof(Findings.OldInterface), "software", "unusable", "version 10, and 12 is needed", "kernel")]
    [InlineData(nameof(Findings.NoInterruptControllers), "software", "unusable", "lacks KVM_CAP_IRQCHIP (interrupt controllers)", "kernel")]
    public void Each_finding_has_its_verdict_problem_and_remedy(string findings, string engine, string verdict, string? problem, string? remedy)
    {
        DoctorReport report = Report(Findings.Named(findings));
        (int status, string text) = Run(report, json: false);
        Assert.Equal(0, status);
        Assert.StartsWith($"--engine auto takes {engine}, because ", text);
        Assert.Equal(problem != null, text.Contains("to mend it: ", StringComparison.Ordinal));
        Assert.Contains(problem ?? "hardware speed", text);
        Assert.Contains(remedy ?? "ok        ring 0", text);

        (status, string json) = Run(report, json: true);
        Assert.Equal(0, status);
        using JsonDocument document = JsonDocument.Parse(json);
        Assert.Equal(engine, document.RootElement.GetProperty("auto").GetProperty("engine").GetString());
        JsonElement kvm = document.RootElement.GetProperty("engines")[0];
        Assert.Equal(("kvm", verdict), (kvm.GetProperty("name").GetString(), kvm.GetProperty("verdict").GetString()));
        Assert.Equal(verdict != "unusable", kvm.GetProperty("usable").GetBoolean());
        Assert.Contains(problem ?? string.Empty, kvm.GetProperty("problem").GetString() ?? string.Empty);
        Assert.Contains(remedy ?? string.Empty, kvm.GetProperty("remedy").GetString() ?? string.Empty);
    }

    [Fact]
    public void Figures_and_models_are_in_both_forms()
    {
        DoctorReport report = Report(Findings.Fine);
        string text = Run(report, json: false).Output;
        foreach (string word in new[] { "up to 48", "2600.0 MHz", "5,100.0 million", "5,200 million", "16 GiB, 8 GiB of it free", "mode 660, group kvm", "kvm: lacks AVX2, BMI2; software: yes", "all 1 that are needed" })
        {
            Assert.Contains(word, text);
        }

        using JsonDocument document = JsonDocument.Parse(Run(report, json: true).Output);
        JsonElement kvm = document.RootElement.GetProperty("engines")[0];
        Assert.Equal(5_100_000_000, kvm.GetProperty("guestRate").GetInt64());
        Assert.Equal(2_600_000, kvm.GetProperty("tscKilohertz").GetInt64());
        Assert.Equal("660", kvm.GetProperty("device").GetProperty("mode").GetString());
        JsonElement level3 = kvm.GetProperty("cpuModels")[2];
        Assert.Equal(("x86-64-v3", false), (level3.GetProperty("name").GetString(), level3.GetProperty("available").GetBoolean()));
        Assert.Equal(["AVX2", "BMI2"], level3.GetProperty("missing").EnumerateArray().Select(word => word.GetString()));
    }

    [Fact]
    public void Names_in_json_are_the_same_for_every_host()
    {
        string[] fine = [.. NamesOf(Findings.Fine)];
        Assert.All((KvmFindings[])[Findings.Slow, Findings.NoDevice, Findings.NoPermission, Findings.OldInterface], findings => Assert.Equal(fine, NamesOf(findings)));
    }

    [Fact]
    public void Software_engine_that_can_not_run_is_a_problem_of_its_own()
    {
        (int status, string text) = Run(Report(Findings.Fine, Findings.SoftwareFails), json: false);
        Assert.Equal(0, status);
        Assert.Contains("problem   executable memory", text);
    }

    [Theory]
    [InlineData(true, "ok        translator")]
    [InlineData(false, "problem   translator              this host's processor lacks BMI2")]
    public void Host_where_the_software_engine_only_interprets_is_told_so(bool isTranslating, string line)
    {
        DoctorReport report = Report(Findings.NoDevice, isTranslating: isTranslating);
        (int status, string text) = Run(report, json: false);
        Assert.Equal(0, status);
        Assert.Contains(line, text);
        using JsonDocument document = JsonDocument.Parse(Run(report, json: true).Output);
        Assert.Equal(isTranslating, document.RootElement.GetProperty("engines")[1].GetProperty("translates").GetBoolean());
    }

    [Fact]
    public void Status_tells_when_no_engine_can_run()
    {
        DoctorReport report = Report(Findings.NoDevice, Findings.SoftwareFails);
        (int status, string text) = Run(report, json: false);
        Assert.Equal(1, status);
        Assert.Contains(Findings.SoftwareFails[0].Problem!, text.Split('\n')[0]);
        (status, string json) = Run(report, json: true);
        Assert.Equal(1, status);
        using JsonDocument document = JsonDocument.Parse(json);
        Assert.False(document.RootElement.GetProperty("canRun").GetBoolean());
        Assert.Equal(JsonValueKind.Null, document.RootElement.GetProperty("auto").GetProperty("engine").ValueKind);
    }

    [Fact]
    public void Slow_kvm_is_the_last_resort_and_only_by_name()
    {
        (int status, string text) = Run(Report(Findings.Slow, Findings.SoftwareFails), json: false);
        Assert.Equal(0, status);
        Assert.Contains("--engine kvm can, slowly", text);
    }

    [Fact]
    public void This_host_is_judged_by_what_was_measured_on_it()
    {
        using TuttiProcess tutti = new();
        (int status, string output, string error) = tutti.Run("doctor", "--json");
        Assert.Equal((0, string.Empty), (status, error));
        using JsonDocument document = JsonDocument.Parse(output);
        JsonElement kvm = document.RootElement.GetProperty("engines")[0];
        bool isFast = kvm.GetProperty("guestRate").ValueKind == JsonValueKind.Number
            && !kvm.GetProperty("timedOut").GetBoolean()
            && kvm.GetProperty("guestRate").GetInt64() >= kvm.GetProperty("nativeRate").GetInt64() / 4;
        Assert.Equal(isFast ? "kvm" : "software", document.RootElement.GetProperty("auto").GetProperty("engine").GetString());
        bool isOpen = kvm.GetProperty("device").GetProperty("opened").GetBoolean();
        Assert.Equal(isOpen, kvm.GetProperty("apiVersion").ValueKind == JsonValueKind.Number);
    }

    [Fact]
    public void Help_tells_the_exit_status()
    {
        using TuttiProcess tutti = new();
        Assert.Contains("exit status is 0 when some engine can run guests", tutti.Run("doctor", "--help").Output);
    }

    private static DoctorReport Report(KvmFindings kvm, IReadOnlyList<HostRequirement>? software = null, bool isTranslating = true) => new DoctorReport
    {
        Kvm = kvm,
        Software = software ?? Findings.SoftwareRuns,
        IsTranslating = isTranslating,
        SoftwareMissing = new Dictionary<string, IReadOnlyList<string>> { ["host"] = [], ["x86-64-v2"] = [], ["x86-64-v3"] = [] },
        Memory = new HostMemory(16L << 30, 8L << 30),
        Processors = 4,
    }.Decide();

    private static (int Status, string Output) Run(DoctorReport report, bool json)
    {
        using StringWriter output = new();
        return (DoctorCommand.Run(report, output, json), output.ToString());
    }

    private static IEnumerable<string> NamesOf(KvmFindings findings)
    {
        using JsonDocument document = JsonDocument.Parse(Run(Report(findings), json: true).Output);
        return [.. Walk(document.RootElement, string.Empty).Where(name => !name.Contains("capabilities.", StringComparison.Ordinal))];

        static IEnumerable<string> Walk(JsonElement element, string path) => element.ValueKind switch
        {
            JsonValueKind.Object => element.EnumerateObject().SelectMany(p => Walk(p.Value, $"{path}.{p.Name}").Prepend($"{path}.{p.Name}")),
            JsonValueKind.Array => element.EnumerateArray().SelectMany((item, i) => item.ValueKind == JsonValueKind.Object ? Walk(item, $"{path}.{i}") : []),
            _ => [],
        };
    }
}
