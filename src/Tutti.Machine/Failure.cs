using Tutti.Host;

namespace Tutti.Machine;

/// <summary>What an exception that ends a machine tells its user.</summary>
internal static class Failure
{
    /// <summary>One line for what the host's kernel refuses, which its message explains; all there is for anything else, which is a bug.</summary>
    internal static string Describe(Exception e) => e is HostException ? e.Message : e.ToString();
}
