using Tutti.Cpu;
using Tutti.Cpu.Interpreter;
using Tutti.Cpu.Kvm;
using Tutti.Cpu.Translator;

namespace Tutti.Machine;

/// <summary>The engines that this build has. None looks at the host before it is used.</summary>
public static class MachineEngines
{
    /// <summary>Hardware virtualization, where the host has it.</summary>
    public static IEngine Kvm { get; } = new KvmEngine();

    /// <summary>Runs everywhere.</summary>
    public static IEngine Software { get; } = TranslatingEngine.Create();

    /// <summary>Best first.</summary>
    public static IReadOnlyList<IEngine> All { get; } = [Kvm, Software];
}
