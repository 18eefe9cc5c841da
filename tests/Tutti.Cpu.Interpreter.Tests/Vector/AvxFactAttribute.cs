namespace Tutti.Cpu.Interpreter.Tests.Vector;

/// <summary>A test of what the interpreter runs on the host's AVX units: skipped, with its reason, where there are none.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class AvxFactAttribute : FactAttribute
{
    public AvxFactAttribute()
    {
        Skip = Missing;
    }

    public static string? Missing => global::System.Runtime.Intrinsics.X86.Avx2.IsSupported ? null : "this host has no AVX2";
}

/// <summary>The same for a theory.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class AvxTheoryAttribute : TheoryAttribute
{
    public AvxTheoryAttribute()
    {
        Skip = AvxFactAttribute.Missing;
    }
}
