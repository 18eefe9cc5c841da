using Tutti.Cpu;
using Tutti.Cpu.Interpreter;

namespace Tutti.Machine;

/// <summary>The engines that this build has.</summary>
public static class MachineEngines
{
    /// <summary>Best first.</summary>
    public static IReadOnlyList<IEngine> All { get; } = [new SoftwareEngine()];
}
