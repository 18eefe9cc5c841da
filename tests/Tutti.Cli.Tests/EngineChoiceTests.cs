using Tutti.Cpu.Interpreter;

namespace Tutti.Cli.Tests;

/// <summary>Which engine a word and a host lead to.</summary>
public sealed class EngineChoiceTests
{
    [Theory]
    [InlineData(nameof(Findings.Fine), "kvm", 48, "hardware speed")]
    [InlineData(nameof(Findings.Slow), "software", 64, "emulates ring 0 on this host: 1.5 million")]
    [InlineData(nameof(Findings.Hanging), "software", 64, "within a second")]
    [InlineData(nameof(Findings.NoDevice), "software", 64, "there is no /dev/kvm")]
    [InlineData(nameof(Findings.NoPermission), "software", 64, "no permission for /dev/kvm")]
    [InlineData(nameof(Findings.InUse), "software", 64, "another hypervisor")]
    [InlineData(nameof(Findings.OldInterface), "software", 64, "version 10")]
    [InlineData(nameof(Findings.NoInterruptControllers), "software", 64, "KVM_CAP_IRQCHIP (interrupt controllers)")]
    public void Auto_takes_kvm_at_hardware_speed_only(string findings, string engine, int maxProcessors, string reason)
    {
        EngineChoice choice = Engines.Choose("auto", () => Findings.Named(findings), () => Findings.SoftwareRuns);
        Assert.Equal((engine, maxProcessors, null), (choice.Engine.Name, choice.MaxProcessors, choice.Notice));
        Assert.StartsWith("because ", choice.Reason);
        Assert.Contains(reason, choice.Reason);
    }

    [Theory]
    [InlineData(nameof(Findings.NoDevice), "nested virtualization")]
    [InlineData(nameof(Findings.NoPermission), "sudo usermod -aG kvm $USER")]
    [InlineData(nameof(Findings.InUse), "VirtualBox")]
    [InlineData(nameof(Findings.OldInterface), "version 10, and 12 is needed")]
    [InlineData(nameof(Findings.NoInterruptControllers), "KVM_CAP_IRQCHIP")]
    public void Kvm_that_can_not_be_used_is_refused_in_one_line_that_says_how_to_mend_it(string findings, string expected)
    {
        UserException e = Assert.Throws<UserException>(() => Engines.Choose("kvm", () => Findings.Named(findings), () => Findings.SoftwareRuns));
        Assert.Contains(expected, e.Message);
        Assert.Contains("--engine software", e.Message);
        Assert.DoesNotContain('\n', e.Message);
    }

    [Fact]
    public void Slow_kvm_can_be_forced_and_says_that_it_is_slow()
    {
        EngineChoice choice = Engines.Choose("kvm", () => Findings.Slow, () => Findings.SoftwareRuns);
        Assert.Equal("kvm", choice.Engine.Name);
        Assert.Contains("1.5 million instructions a second; --engine software would be faster", choice.Notice);
        Assert.Null(Engines.Choose("kvm", () => Findings.Fine, () => Findings.SoftwareRuns).Notice);
    }

    [Fact]
    public void Software_is_taken_without_a_look_at_kvm()
    {
        EngineChoice choice = Engines.Choose("software", () => throw new InvalidOperationException("probed"), () => Findings.SoftwareRuns);
        Assert.Equal("software", choice.Engine.Name);
    }

    [Theory]
    [InlineData("software")]
    [InlineData("auto")]
    public void Host_that_can_not_run_the_software_engine_either_is_told_why(string name)
    {
        UserException e = Assert.Throws<UserException>(() => Engines.Choose(name, () => Findings.NoDevice, () => Findings.SoftwareFails));
        Assert.Equal(Findings.SoftwareFails[0].Problem, e.Message);
    }

    [Fact]
    public void Kvm_at_hardware_speed_does_not_need_the_software_engine() =>
        Assert.Equal("kvm", Engines.Choose("auto", () => Findings.Fine, () => Findings.SoftwareFails).Engine.Name);

    [Fact]
    public void Unknown_engine_is_refused_before_the_host_is_looked_at() =>
        Assert.Contains("engines: auto, kvm, software", Assert.Throws<UserException>(() => Engines.Choose(
            "xen", () => throw new InvalidOperationException("probed"), () => throw new InvalidOperationException("checked"))).Message);

    [Fact]
    public void This_host_runs_the_software_engine() =>
        Assert.All(SoftwareEngine.CheckHost(), requirement => Assert.Null(requirement.Problem));
}
