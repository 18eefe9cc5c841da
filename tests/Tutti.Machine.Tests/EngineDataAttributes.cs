using System.Reflection;
using Tutti.Cpu;
using Tutti.Host;
using Tutti.Memory;
using Tutti.X86;
using Xunit.Sdk;

namespace Tutti.Machine.Tests;

/// <summary>Runs a theory on the software engine.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class SoftwareDataAttribute : DataAttribute
{
    public override IEnumerable<object[]> GetData(MethodInfo testMethod) => [[MachineEngines.Software.Name]];
}

/// <summary>Runs a theory on <c>/dev/kvm</c>; where that can't be used the row is skipped and says why.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class KvmDataAttribute : DataAttribute
{
    private static readonly Lazy<string?> NotUsable = new(FindReason);
    private static readonly Lazy<string?> NoTscOffset = new(FindTscReason);

    /// <param name="movesTsc">Whether the theory needs a time-stamp counter that can be moved.</param>
    public KvmDataAttribute(bool movesTsc = false) => Skip = NotUsable.Value ?? (movesTsc ? NoTscOffset.Value : null);

    public override IEnumerable<object[]> GetData(MethodInfo testMethod) => [[MachineEngines.Kvm.Name]];

    private static string? FindReason()
    {
        try
        {
            return MachineEngines.Kvm.MaxProcessors < 2 ? "KVM gives only one vCPU here" : null;
        }
        catch (PlatformNotSupportedException e)
        {
            return e.Message;
        }
    }

    /// <summary>KVM without hardware behind it takes an offset and lets guests read the host's counter all the same.</summary>
    private static string? FindTscReason()
    {
        if (Environment.OSVersion.Version < new Version(5, 16))
        {
            return "KVM can hold the time-stamp counter from Linux 5.16 on";
        }

        using HostMapping mapping = new(1 << 20);
        Lock chipset = new();
        using HostClock clock = new(chipset, DateTimeOffset.UnixEpoch);
        using IPartition partition = MachineEngines.Kvm.CreatePartition(new PartitionOptions
        {
            Memory = new GuestMemory(GuestMemoryLayout.Pc(1 << 20), mapping.Address),
            Io = new SystemBus(chipset),
            Clock = clock,
            Cpu = CpuModel.Host,
        });
        ProcessorRegisters registers = new();
        partition.Processors[0].GetRegisters(registers);
        ulong before = registers.Msrs[Msr.Tsc];
        const ulong Forward = 1UL << 60;
        registers.Msrs[Msr.Tsc] = before + Forward;
        partition.Processors[0].SetRegisters(registers);
        partition.Processors[0].GetRegisters(registers);
        return registers.Msrs[Msr.Tsc] - before < Forward ? "KVM can't move the time-stamp counter here: guests see the host's" : null;
    }
}
