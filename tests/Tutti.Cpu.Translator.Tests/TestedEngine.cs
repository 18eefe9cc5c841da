using Tutti.Cpu.Translator;

namespace Tutti.Cpu.Interpreter.Tests;

/// <summary>The interpreter's tests run with this engine here.</summary>
internal static class TestedEngine
{
    /// <summary>Whether each instruction is counted as it runs.</summary>
    public static bool CountsInstructions => false;

    /// <summary>Whether user code runs as copies on the host's processor, which decides what no manual does: flags that are undefined.</summary>
    public static bool CopiesCode => true;

    private static int s_created;

    /// <summary>Whether guest memory is to be a file's, so that the host's page tables can show it.</summary>
    public static bool SharesMemory => true;

    /// <summary>Whether the engines that this thread makes run user code directly.</summary>
    [ThreadStatic]
    public static bool RunsDirectly;

    /// <summary>
    /// One in three translates all code as hot code, one lets the host's page tables show user mode's memory, so that each test, where it makes many or
    /// few, is not always of the one kind.
    /// </summary>
    public static SoftwareEngine Create()
    {
        if (RunsDirectly)
        {
            return TranslatingEngine.Create(everythingIsHot: false, runsDirectly: true);
        }

        uint kind = (uint)Interlocked.Increment(ref s_created) % 3;
        return TranslatingEngine.Create(everythingIsHot: kind == 1, everythingHasWindow: kind == 2);
    }
}
