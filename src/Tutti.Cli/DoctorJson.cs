using System.Text.Json;
using Tutti.Cpu;
using Tutti.Cpu.Interpreter;
using Tutti.Cpu.Kvm;
using Tutti.Machine;
using Tutti.X86;

namespace Tutti.Cli;

/// <summary>
/// The findings of <c>tutti doctor</c> for programs. Names stay as they are; all are there always, with null for what is
/// not known. Sizes are bytes, rates are a second.
/// </summary>
internal static class DoctorJson
{
    internal static string Format(DoctorReport report) => JsonText.Format(json =>
    {
        json.WriteStartObject();
        json.WriteString("version", VersionCommand.Version);
        json.WriteBoolean("canRun", report.CanRun);
        json.WriteStartObject("auto");
        json.WriteString("engine", report.Auto?.Engine.Name);
        json.WriteString("reason", report.Auto?.Reason ?? report.AutoProblem);
        json.WriteEndObject();
        WriteHost(json, report);
        json.WriteStartArray("engines");
        WriteKvm(json, report);
        WriteSoftware(json, report);
        json.WriteEndArray();
        json.WriteEndObject();
    });

    private static void WriteHost(Utf8JsonWriter json, DoctorReport report)
    {
        KvmHost host = report.Kvm.Host;
        json.WriteStartObject("host");
        json.WriteString("processor", host.Processor);
        json.WriteNumber("processors", report.Processors);
        WriteNumber(json, "memory", report.Memory.Total == long.MaxValue ? null : report.Memory.Total);
        WriteNumber(json, "availableMemory", report.Memory.Available == long.MaxValue ? null : report.Memory.Available);
        json.WriteBoolean("virtualMachine", host.IsVirtualMachine);
        json.WriteString("virtualization", host.Virtualization);
        WriteWords(json, "modules", host.Modules);
        WriteBoolean(json, "nesting", host.AllowsNesting);
        json.WriteEndObject();
    }

    private static void WriteKvm(Utf8JsonWriter json, DoctorReport report)
    {
        KvmFindings kvm = report.Kvm;
        json.WriteStartObject();
        json.WriteString("name", MachineEngines.Kvm.Name);
        json.WriteBoolean("usable", report.IsKvmUsable);
        json.WriteString("verdict", kvm.Verdict switch
        {
            KvmVerdict.Hardware => "hardware",
            KvmVerdict.Emulated => "emulated",
            _ => "unusable",
        });
        json.WriteString("problem", kvm.Problem);
        json.WriteString("remedy", kvm.Remedy);
        WriteNumber(json, "maxProcessors", kvm.MaxProcessors);
        WriteDevice(json, kvm);
        WriteNumber(json, "apiVersion", kvm.ApiVersion);
        WriteNumber(json, "tscKilohertz", kvm.TscKilohertz);
        WriteNumber(json, "guestRate", (long?)kvm.Speed?.GuestRate);
        WriteNumber(json, "nativeRate", (long?)kvm.Speed?.NativeRate);
        WriteBoolean(json, "timedOut", kvm.Speed?.IsTimedOut);
        json.WriteNumber("probeMicroseconds", (long)kvm.Duration.TotalMicroseconds);
        json.WriteStartArray("capabilities");
        foreach (KvmCapabilityFinding capability in kvm.Capabilities)
        {
            json.WriteStartObject();
            json.WriteString("name", capability.Name);
            json.WriteString("purpose", capability.Purpose);
            json.WriteBoolean("required", capability.IsRequired);
            json.WriteNumber("value", capability.Value);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        WriteModels(json, report, MachineEngines.Kvm);
        json.WriteEndObject();
    }

    private static void WriteDevice(Utf8JsonWriter json, KvmFindings kvm)
    {
        KvmHost host = kvm.Host;
        json.WriteStartObject("device");
        json.WriteString("path", host.Device);
        json.WriteBoolean("exists", host.DeviceOwner != null);
        json.WriteBoolean("opened", kvm.IsOpened);
        json.WriteString("mode", host.DeviceOwner is { } owner ? Convert.ToString((int)owner.Mode, 8) : null);
        json.WriteString("group", host.DeviceGroup);
        json.WriteBoolean("inGroup", host.HasDeviceGroup);
        json.WriteEndObject();
    }

    private static void WriteSoftware(Utf8JsonWriter json, DoctorReport report)
    {
        json.WriteStartObject();
        json.WriteString("name", MachineEngines.Software.Name);
        json.WriteBoolean("usable", report.IsSoftwareUsable);
        json.WriteString("problem", report.Software.FirstOrDefault(requirement => requirement.Problem != null)?.Problem);
        json.WriteBoolean("translates", report.IsTranslating);
        json.WriteNumber("maxProcessors", MachineEngines.Software.MaxProcessors);
        json.WriteStartArray("requirements");
        foreach (HostRequirement requirement in report.Software)
        {
            json.WriteStartObject();
            json.WriteString("name", requirement.Name);
            json.WriteString("problem", requirement.Problem);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        WriteModels(json, report, MachineEngines.Software);
        json.WriteEndObject();
    }

    private static void WriteModels(Utf8JsonWriter json, DoctorReport report, IEngine engine)
    {
        json.WriteStartArray("cpuModels");
        foreach (CpuModel model in CpuModel.All)
        {
            IReadOnlyList<string>? missing = report.FindMissing(engine.Name, model);
            json.WriteStartObject();
            json.WriteString("name", model.Name);
            WriteBoolean(json, "available", missing == null ? null : missing.Count == 0);
            WriteWords(json, "missing", missing ?? []);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static void WriteWords(Utf8JsonWriter json, string name, IReadOnlyList<string> words)
    {
        json.WriteStartArray(name);
        foreach (string word in words)
        {
            json.WriteStringValue(word);
        }

        json.WriteEndArray();
    }

    private static void WriteNumber(Utf8JsonWriter json, string name, long? value)
    {
        if (value is { } number)
        {
            json.WriteNumber(name, number);
        }
        else
        {
            json.WriteNull(name);
        }
    }

    private static void WriteBoolean(Utf8JsonWriter json, string name, bool? value)
    {
        if (value is { } truth)
        {
            json.WriteBoolean(name, truth);
        }
        else
        {
            json.WriteNull(name);
        }
    }
}
