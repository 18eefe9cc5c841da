using Tutti.Cpu.Interpreter.Tests.Oracle;

namespace Tutti.Cpu.Translator.Tests.Kernel;

/// <summary>One part of a program.</summary>
/// <param name="Seed">Everything in it follows from this.</param>
/// <param name="Removed">Instructions of its fragment that are left out, one bit each.</param>
internal readonly record struct KernelStep(ulong Seed, ulong Removed = 0);

/// <summary>A random program as what it is made from, so that parts of it can be left out.</summary>
internal sealed record KernelProgram(ulong ImageSeed, IReadOnlyList<KernelStep> Steps)
{
    public const int MaxInstructions = 64;
    private const int MaxSteps = 24;

    public static KernelProgram Random(ulong seed)
    {
        var random = new SeededRandom(seed);
        ulong image = random.Next();
        return new KernelProgram(image, [.. Enumerable.Range(0, 2 + random.Below(MaxSteps)).Select(_ => new KernelStep(random.Next()))]);
    }

    /// <summary>All programs with a part less, big parts first.</summary>
    public IEnumerable<KernelProgram> Smaller()
    {
        for (int size = Steps.Count / 2; size > 0; size /= 2)
        {
            for (int at = 0; at + size <= Steps.Count; at += size)
            {
                yield return this with { Steps = [.. Steps.Take(at), .. Steps.Skip(at + size)] };
            }
        }

        for (int step = 0; step < Steps.Count; step++)
        {
            for (int size = MaxInstructions / 2; size > 0; size /= 2)
            {
                for (int at = 0; at < MaxInstructions; at += size)
                {
                    ulong removed = Steps[step].Removed | (((1UL << size) - 1) << at);
                    if (removed != Steps[step].Removed)
                    {
                        yield return this with { Steps = [.. Steps.Take(step), Steps[step] with { Removed = removed }, .. Steps.Skip(step + 1)] };
                    }
                }
            }
        }
    }
}
