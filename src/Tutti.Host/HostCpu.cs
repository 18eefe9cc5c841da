using System.Runtime.InteropServices;

namespace Tutti.Host;

/// <summary>What kind of processor this process runs on.</summary>
public static class HostCpu
{
    /// <summary>Whether the process runs x86-64 code.</summary>
    public static bool IsX64 => RuntimeInformation.ProcessArchitecture == Architecture.X64;
}
