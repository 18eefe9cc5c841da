using System.Globalization;
using Tutti.Host;

namespace Tutti.Cpu.Kvm;

/// <summary>What a host shows of its virtualization without being asked to do any: processor, modules, and who may use the device.</summary>
public sealed record KvmHost
{
    /// <summary>The group that distributions give the device to.</summary>
    private const string UsualGroup = "kvm";

    private const string Root = "0";

    /// <summary>The processor's name; empty where the host does not tell.</summary>
    public string Processor { get; init; } = string.Empty;

    /// <summary>"VT-x" or "AMD-V" when the processor shows it, else null.</summary>
    public string? Virtualization { get; init; }

    /// <summary>The module that drives <see cref="Virtualization"/>; null without it.</summary>
    public string? Module => Virtualization switch
    {
        "VT-x" => "kvm_intel",
        "AMD-V" => "kvm_amd",
        _ => null,
    };

    /// <summary>Whether the processor says that a hypervisor is below it.</summary>
    public bool IsVirtualMachine { get; init; }

    /// <summary>KVM's modules that are loaded or built in, sorted.</summary>
    public IReadOnlyList<string> Modules { get; init; } = [];

    /// <summary>Whether guests of this host may virtualize in turn; null where no module tells.</summary>
    public bool? AllowsNesting { get; init; }

    /// <summary>The path of the device.</summary>
    public string Device { get; init; } = KvmSystem.DevicePath;

    /// <summary>Owner and permissions of the device; null where there is none.</summary>
    public FileOwner? DeviceOwner { get; init; }

    /// <summary>The name of the device's group; null where that has none.</summary>
    public string? DeviceGroup { get; init; }

    /// <summary>Whether this process has the device's group.</summary>
    public bool HasDeviceGroup { get; init; }

    /// <summary>Whether the user is listed in the device's group: a process may be older than that.</summary>
    public bool IsListedInDeviceGroup { get; init; }

    /// <summary>Whether this process has the rights of root.</summary>
    public bool IsRoot { get; init; }

    /// <summary>Reads all of it; what can't be read counts as not there.</summary>
    public static KvmHost Read(KvmHostPaths? paths = null)
    {
        paths ??= new KvmHostPaths();
        Dictionary<string, string> processor = ReadFirstProcessor(Path.Combine(paths.Proc, "cpuinfo"));
        string[] flags = processor.GetValueOrDefault("flags", string.Empty).Split(' ');
        string[] modules = ListModules(Path.Combine(paths.Sys, "module"));
        FileOwner? owner = FileOwner.Find(paths.Device);
        (string? group, string[] members) = owner is { } o ? FindGroup(paths.Groups, o.Group) : (null, []);
        string groupNumber = owner is { } held ? held.Group.ToString(CultureInfo.InvariantCulture) : string.Empty;
        Dictionary<string, string> status = ReadFields(paths.Proc, "self/status");
        return new KvmHost
        {
            Processor = processor.GetValueOrDefault("model name", string.Empty),
            Virtualization = flags.Contains("vmx") ? "VT-x" : flags.Contains("svm") ? "AMD-V" : null,
            IsVirtualMachine = flags.Contains("hypervisor"),
            Modules = modules,
            AllowsNesting = FindNesting(paths.Sys, modules),
            Device = paths.Device,
            DeviceOwner = owner,
            DeviceGroup = group,
            HasDeviceGroup = WordsOf(status, "Gid").Contains(groupNumber) || WordsOf(status, "Groups").Contains(groupNumber),
            IsListedInDeviceGroup = FindUserName() is { } user && members.Contains(user),
            IsRoot = WordsOf(status, "Uid") is [_, Root, ..],
        };
    }

    /// <summary>How to get permission for the device, as a command where one does it.</summary>
    internal string ExplainPermission()
    {
        bool groupMayUse = DeviceOwner is { } owner
            && (owner.Mode & (UnixFileMode.GroupRead | UnixFileMode.GroupWrite)) == (UnixFileMode.GroupRead | UnixFileMode.GroupWrite);
        string group = DeviceGroup is { } name && name != "root" ? name : UsualGroup;
        if (groupMayUse && group == DeviceGroup)
        {
            return IsListedInDeviceGroup && !HasDeviceGroup
                ? $"you are in its group {group}, but this session is older than that: log in again"
                : HasDeviceGroup
                    ? "it is open to your group, so a container's device rules or a security module refuse it: allow it there"
                    : $"join its group (sudo usermod -aG {group} $USER, then log in again)";
        }

        return IsRoot
            ? "a container's device rules or a security module refuse it: allow it there (docker run --device /dev/kvm)"
            : $"open it to the group {group} (sudo chgrp {group} {Device} && sudo chmod 660 {Device}), and join that (sudo usermod -aG {group} $USER, then log in again)";
    }

    /// <summary>How to get virtualization that the processor does not show.</summary>
    internal string ExplainVirtualization() => IsVirtualMachine
        ? "this host is itself a VM and shows no VT-x or AMD-V: switch nested virtualization on where it runs (the cloud's machine type; kvm_intel.nested=1 or kvm_amd.nested=1)"
        : "switch VT-x or AMD-V (SVM) on in the firmware's setup";

    /// <summary>How to get the device.</summary>
    internal string ExplainDevice() => Module is not { } module
        ? ExplainVirtualization()
        : Modules.Contains(module)
            ? $"the module {module} is loaded, so the device is only hidden: give it to this container (docker run --device {KvmSystem.DevicePath}), or restart udev"
            : $"load the module (sudo modprobe {module}); dmesg tells if the firmware has switched {Virtualization} off";

    /// <summary>The account's name; null where there is no list of accounts, as in containers without a distribution.</summary>
    private static string? FindUserName()
    {
        try
        {
            return Environment.UserName;
        }
        catch (IOException)
        {
            return null;
        }
    }

    private static bool? FindNesting(string sys, string[] modules)
    {
        foreach (string module in modules)
        {
            string? text = ReadLines(Path.Combine(sys, "module", module, "parameters", "nested")).FirstOrDefault();
            if (text != null)
            {
                return text is "Y" or "1";
            }
        }

        return null;
    }

    private static string[] ListModules(string folder)
    {
        try
        {
            return [.. Directory.EnumerateDirectories(folder, "kvm*").Select(path => Path.GetFileName(path)!).Order(StringComparer.Ordinal)];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }

    private static (string? Name, string[] Members) FindGroup(string file, uint number)
    {
        string wanted = number.ToString(CultureInfo.InvariantCulture);
        foreach (string line in ReadLines(file))
        {
            string[] fields = line.Split(':');
            if (fields.Length >= 4 && fields[2] == wanted)
            {
                return (fields[0], fields[3].Split(','));
            }
        }

        return (null, []);
    }

    private static string[] WordsOf(Dictionary<string, string> status, string name) => status
        .GetValueOrDefault(name, string.Empty)
        .Split((char[])[' ', '\t'], StringSplitOptions.RemoveEmptyEntries);

    /// <summary>Fields of the first processor only: a large host has hundreds, and asking for all of them takes long.</summary>
    private static Dictionary<string, string> ReadFirstProcessor(string path) => ToFields(ReadLines(path).TakeWhile(line => line.Length > 0));

    private static Dictionary<string, string> ReadFields(string folder, string file) => ToFields(ReadLines(Path.Combine(folder, file)));

    private static Dictionary<string, string> ToFields(IEnumerable<string> lines)
    {
        Dictionary<string, string> fields = new(StringComparer.Ordinal);
        foreach (string line in lines)
        {
            int colon = line.IndexOf(':', StringComparison.Ordinal);
            if (colon > 0)
            {
                fields.TryAdd(line[..colon].Trim(), line[(colon + 1)..].Trim());
            }
        }

        return fields;
    }

    /// <summary>Lines as they are asked for; none where the file can't be read.</summary>
    private static IEnumerable<string> ReadLines(string path)
    {
        StreamReader reader;
        try
        {
            reader = new StreamReader(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            yield break;
        }

        using (reader)
        {
            while (TryReadLine(reader) is { } line)
            {
                yield return line;
            }
        }
    }

    private static string? TryReadLine(StreamReader reader)
    {
        try
        {
            return reader.ReadLine();
        }
        catch (IOException)
        {
            return null;
        }
    }
}
