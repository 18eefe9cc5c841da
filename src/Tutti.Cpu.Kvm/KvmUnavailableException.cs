using Tutti.Host;

namespace Tutti.Cpu.Kvm;

/// <summary>The host's KVM can't be used; the message says why and how to mend it, in one line.</summary>
public sealed class KvmUnavailableException : PlatformNotSupportedException
{
    internal KvmUnavailableException(string problem, string remedy, Exception? cause = null)
        : base($"{problem}; {remedy}", cause)
    {
        Problem = problem;
        Remedy = remedy;
    }

    internal KvmUnavailableException((string Problem, string Remedy) advice, Exception? cause = null)
        : this(advice.Problem, $"{advice.Remedy}, or use --engine software", cause)
    {
    }

    /// <summary>What is wrong, without a full stop.</summary>
    public string Problem { get; }

    /// <summary>What to do about it, without a full stop.</summary>
    public string Remedy { get; }

    /// <summary>Turns what opening the device or making a VM failed with into words for the host's owner.</summary>
    internal static KvmUnavailableException From(HostException error) =>
        new(KvmAdvice.Explain(KvmFailure.From(error), KvmHost.Read()), error);
}
