using System.Globalization;
using System.Text;
using Tutti.Cpu.Interpreter;
using Tutti.Cpu.Kvm;
using Tutti.Machine;
using Tutti.X86;

namespace Tutti.Cli;

/// <summary>The findings of <c>tutti doctor</c> for people: a line a check, and below it what to do when it is not well.</summary>
internal sealed class DoctorText
{
    private const string Indent = "            ";

    private readonly StringBuilder _text = new();

    private DoctorText()
    {
    }

    internal static string Format(DoctorReport report)
    {
        DoctorText text = new();
        text.AddVerdict(report);
        text.AddHost(report);
        text.AddKvm(report.Kvm);
        text.AddSoftware(report);
        text.AddModels(report);
        return text._text.ToString().TrimEnd();
    }

    private void AddVerdict(DoctorReport report)
    {
        AddLine(report.Auto is { } choice
            ? $"--engine auto takes {choice.Engine.Name}, {choice.Reason}."
            : $"No engine can run guests without being named: {report.AutoProblem}.");
        if (report.Auto == null && report.IsKvmUsable)
        {
            AddLine("--engine kvm can, slowly.");
        }
    }

    private void AddHost(DoctorReport report)
    {
        KvmHost host = report.Kvm.Host;
        AddHeading("Host");
        AddFact("processors", Invariant($"{report.Processors}{(host.Processor.Length > 0 ? $", {host.Processor}" : "")}"));
        AddFact("memory", report.Memory.Total == long.MaxValue
            ? "unknown"
            : $"{Quantity.FormatSize(report.Memory.Total)}, {Quantity.FormatSize(report.Memory.Available)} of it free");
        AddFact("kind", host.IsVirtualMachine ? "a virtual machine" : "bare metal, or a virtual machine that does not tell");
        AddFact("virtualization", host.Virtualization ?? "the processor shows neither VT-x nor AMD-V");
        AddFact("modules", host.Modules.Count > 0 ? string.Join(", ", host.Modules) : "none of KVM's");
        if (host.AllowsNesting is { } nesting)
        {
            AddFact("nesting", nesting ? "guests may virtualize in turn" : "guests may not virtualize in turn");
        }
    }

    private void AddKvm(KvmFindings kvm)
    {
        AddHeading("Engine kvm");
        AddCheck("device", kvm.IsOpened, DescribeDevice(kvm));
        if (kvm.ApiVersion is { } version)
        {
            AddCheck("interface", version == KvmFindings.NeededApiVersion, Invariant($"version {version}"));
        }

        if (kvm.Capabilities.Count > 0)
        {
            AddCheck("capabilities", !kvm.Capabilities.Any(c => c.IsRequired && c.Value == 0), DescribeCapabilities(kvm));
        }

        if (kvm.MaxProcessors is { } processors)
        {
            AddCheck("vCPUs", true, Invariant($"up to {processors}"));
        }

        if (kvm.TscKilohertz is { } tsc)
        {
            AddCheck("TSC", true, tsc == 0 ? "of no fixed rate" : Invariant($"{tsc / 1000.0:0.0} MHz"));
        }

        if (kvm.Speed is { } speed)
        {
            string guest = speed.IsTimedOut ? "broken off after a second" : Invariant($"{speed.GuestRate / 1e6:#,0.0} million instructions a second in a guest");
            AddCheck("ring 0", speed.IsHardware, Invariant($"{guest}, {speed.NativeRate / 1e6:#,0} million outside"));
        }

        AddProblem(kvm.Problem, kvm.Remedy);
        AddFact("probe", Invariant($"took {kvm.Duration.TotalMilliseconds:0.0} ms"));
    }

    private void AddSoftware(DoctorReport report)
    {
        AddHeading("Engine software");
        foreach (HostRequirement requirement in report.Software)
        {
            AddCheck(requirement.Name, requirement.Problem == null, requirement.Problem ?? "there");
        }

        AddCheck("translator", report.IsTranslating, report.IsTranslating
            ? "runs 64-bit code"
            : "this host's processor lacks BMI2, which it needs: all code is interpreted, many times slower");
        AddCheck("vCPUs", true, Invariant($"up to {MachineEngines.Software.MaxProcessors}"));
    }

    private void AddModels(DoctorReport report)
    {
        AddHeading("CPU models");
        foreach (CpuModel model in CpuModel.All)
        {
            AddFact(model.Name, string.Join("; ", MachineEngines.All.Select(engine => $"{engine.Name}: {DescribeModel(report.FindMissing(engine.Name, model))}")));
        }
    }

    private static string DescribeModel(IReadOnlyList<string>? missing) => missing switch
    {
        null => "unknown",
        { Count: 0 } => "yes",
        _ => $"lacks {string.Join(", ", missing)}",
    };

    private static string DescribeDevice(KvmFindings kvm)
    {
        KvmHost host = kvm.Host;
        if (host.DeviceOwner is not { } owner)
        {
            return $"no {host.Device}";
        }

        string mode = Convert.ToString((int)owner.Mode, 8);
        string group = host.DeviceGroup ?? owner.Group.ToString(CultureInfo.InvariantCulture);
        return $"{host.Device}, mode {mode}, group {group}, {(kvm.IsOpened ? "opens" : "does not open")}";
    }

    private static string DescribeCapabilities(KvmFindings kvm)
    {
        int required = kvm.Capabilities.Count(c => c.IsRequired);
        int present = kvm.Capabilities.Count(c => c.IsRequired && c.Value != 0);
        string[] absent = [.. kvm.Capabilities.Where(c => !c.IsRequired && c.Value == 0).Select(c => c.Name)];
        return (present == required ? Invariant($"all {required} that are needed") : Invariant($"{present} of the {required} that are needed")) + (absent.Length > 0 ? $"; does without {string.Join(", ", absent)}" : string.Empty);
    }

    private void AddProblem(string? problem, string? remedy)
    {
        if (problem != null)
        {
            AddLine($"{Indent}problem: {problem}");
            AddLine($"{Indent}to mend it: {remedy}");
        }
    }

    private void AddHeading(string name) => AddLine($"\n{name}");

    private void AddCheck(string name, bool isWell, string value) => AddLine($"  {(isWell ? "ok" : "problem"),-8}  {name,-24}{value}");

    private void AddFact(string name, string value) => AddLine($"{Indent}{name,-24}{value}");

    private void AddLine(string line) => _text.Append(line).Append('\n');

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
