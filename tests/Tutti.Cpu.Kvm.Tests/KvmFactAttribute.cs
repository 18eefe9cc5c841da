using Tutti.Host;

namespace Tutti.Cpu.Kvm.Tests;

/// <summary>A test that needs <c>/dev/kvm</c>; where that can't be used it is skipped and says why.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class KvmFactAttribute : FactAttribute
{
    public KvmFactAttribute() => Skip = Kvm.Reason;

    /// <param name="ability">What the test needs besides: found out once, by trying.</param>
    public KvmFactAttribute(KvmAbility ability) => Skip = Kvm.FindReason(ability);
}

/// <summary>The same with parameters.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class KvmTheoryAttribute : TheoryAttribute
{
    public KvmTheoryAttribute() => Skip = Kvm.Reason;

    /// <param name="ability">What the test needs besides: found out once, by trying.</param>
    public KvmTheoryAttribute(KvmAbility ability) => Skip = Kvm.FindReason(ability);
}
