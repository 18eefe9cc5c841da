using Tutti.Host;

namespace Tutti.Cpu.Kvm.Tests;

/// <summary>A test that needs <c>/dev/kvm</c>; where that can't be used it is skipped and says why.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class KvmFactAttribute : FactAttribute
{
    public KvmFactAttribute() => Skip = Reason;

    /// <summary>Why the tests can't run here; null where they can.</summary>
    internal static string? Reason { get; } = FindReason();

    private static string? FindReason()
    {
        try
        {
            using KvmSystem system = KvmSystem.Open();
            using FileDescriptor vm = system.CreateVm();
            return null;
        }
        catch (KvmUnavailableException e)
        {
            return e.Message;
        }
    }
}
