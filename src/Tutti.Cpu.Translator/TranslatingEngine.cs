using System.Runtime.Intrinsics.X86;
using Tutti.Cpu.Interpreter;

namespace Tutti.Cpu.Translator;

/// <summary>Makes the software engine: the translator where the host can run its code, else the interpreter alone.</summary>
public static class TranslatingEngine
{
    /// <summary>Whether the host has what translated code needs: BMI2, for lookups that leave the flags alone.</summary>
    public static bool IsSupported => Bmi2.X64.IsSupported;

    public static SoftwareEngine Create() =>
        Create(everythingIsHot: false, everythingHasWindow: false, runsDirectly: Environment.GetEnvironmentVariable("TUTTI_DIRECT") == "1");

    /// <param name="everythingIsHot">Code is translated from the start as if it had been found running often: for tests.</param>
    /// <param name="everythingHasWindow">User mode's memory is shown by the host's page tables from the start: for tests.</param>
    /// <param name="runsDirectly">User code that computes runs untranslated, in processes of its own.</param>
    internal static SoftwareEngine Create(bool everythingIsHot, bool everythingHasWindow = false, bool runsDirectly = false) =>
        new(IsSupported ? new Factory(everythingIsHot, everythingHasWindow, runsDirectly) : null);

    private sealed class Factory(bool everythingIsHot, bool everythingHasWindow, bool runsDirectly) : ITranslationTierFactory
    {
        public int BytesBefore => StateLayout.StackSize + StateLayout.Cpu;

        public int BytesInAll => StateLayout.StackSize + StateLayout.Size;

        public ITranslationTier Create(SoftwareProcessor processor) => new Translator(processor, everythingIsHot, everythingHasWindow, runsDirectly);
    }
}
