using System.Reflection;
using Tutti.Cpu;
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
    private static readonly string? Reason = FindReason();

    public KvmDataAttribute() => Skip = Reason;

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
}
