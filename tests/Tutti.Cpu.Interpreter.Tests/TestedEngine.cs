namespace Tutti.Cpu.Interpreter.Tests;

/// <summary>The engine that this project's tests are of. The translator's tests are these too, with another file in this one's place.</summary>
internal static class TestedEngine
{
    /// <summary>Whether each instruction is counted as it runs.</summary>
    public static bool CountsInstructions => true;

    /// <summary>Whether user code runs as copies on the host's processor, which decides what no manual does: flags that are undefined.</summary>
    public static bool CopiesCode => false;

    /// <summary>Whether guest memory is to be a file's.</summary>
    public static bool SharesMemory => false;

    public static SoftwareEngine Create() => new();
}
