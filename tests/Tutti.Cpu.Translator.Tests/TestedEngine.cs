using Tutti.Cpu.Translator;

namespace Tutti.Cpu.Interpreter.Tests;

/// <summary>The interpreter's tests run with this engine here.</summary>
internal static class TestedEngine
{
    /// <summary>Whether each instruction is counted as it runs.</summary>
    public static bool CountsInstructions => false;

    public static SoftwareEngine Create() => TranslatingEngine.Create();
}
