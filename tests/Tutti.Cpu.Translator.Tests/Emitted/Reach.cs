namespace Tutti.Cpu.Translator.Tests.Emitted;

/// <summary>What a <see cref="Reach"/> is of.</summary>
internal enum ReachKind
{
    /// <summary>A number: its root's, and something between the bounds, modulo 2^64.</summary>
    Linear,

    /// <summary>The number of the region in which such a number lies.</summary>
    Index,

    /// <summary>What is to be added to an address of that region.</summary>
    Distance,

    /// <summary>A host address: a place in a region, or one that leads nowhere, and something between the bounds.</summary>
    Host,
}

/// <summary>How far a number is from another one, and what of a window is known by that.</summary>
/// <param name="Root">The other one; 0 for 0 itself, <see cref="Nothing"/> where nothing is known.</param>
internal readonly record struct Reach(ReachKind Kind, int Root, long Low, long High)
{
    public const int Nothing = -1;

    /// <summary>Bounds beyond are no longer followed: sums and products with these fit 64 bits.</summary>
    private const long Farthest = 1L << 40;

    /// <summary>Of a number with bounds farther apart nothing is known, so that it is near to itself.</summary>
    private const long Widest = 40L << 30;

    public static Reach Unknown => new(ReachKind.Linear, Nothing, 0, 0);

    public static Reach Any32 => new(ReachKind.Linear, 0, 0, uint.MaxValue);

    public static Reach AnySigned32 => new(ReachKind.Linear, 0, int.MinValue, int.MaxValue);

    public bool IsNumber => Kind == ReachKind.Linear && Root == 0;

    public bool IsUnsigned32 => IsNumber && Low >= 0 && High <= uint.MaxValue;

    public bool IsSigned32 => IsNumber && Low >= int.MinValue && High <= int.MaxValue;

    public static Reach Between(long low, long high) => new Reach(ReachKind.Linear, 0, low, high).Limited();

    public static Reach Constant(long value) => Between(value, value);

    /// <summary>The sum of two numbers, or of an address and its region's distance.</summary>
    public static Reach Sum(Reach one, Reach two)
    {
        if (one.Root == Nothing || two.Root == Nothing)
        {
            return Unknown;
        }

        if (two.Kind == ReachKind.Distance || one.IsNumber)
        {
            (one, two) = (two, one);
        }

        if (one.Kind == ReachKind.Distance)
        {
            return two.Kind == ReachKind.Linear && two.Root == one.Root ? new Reach(ReachKind.Host, 0, two.Low - one.High, two.High - one.Low).Limited() : Unknown;
        }

        return two.IsNumber && one.Kind is ReachKind.Linear or ReachKind.Host ? (one with { Low = one.Low + two.Low, High = one.High + two.High }).Limited() : Unknown;
    }

    public static Reach Difference(Reach one, Reach two)
    {
        if (one.Kind != ReachKind.Linear || two.Kind != ReachKind.Linear || one.Root == Nothing || (two.Root != 0 && one.Root != two.Root))
        {
            return Unknown;
        }

        return new Reach(ReachKind.Linear, one.Root == two.Root ? 0 : one.Root, one.Low - two.High, one.High - two.Low).Limited();
    }

    public Reach Multiplied(long by)
    {
        if (by == 1)
        {
            return this;
        }

        bool isBounded = IsNumber && by is > -(1 << 22) and < (1 << 22);
        return !isBounded ? Unknown : by < 0 ? Between(High * by, Low * by) : Between(Low * by, High * by);
    }

    /// <summary>What holds of both.</summary>
    public static Reach Either(Reach one, Reach two) => one.Kind == two.Kind && one.Root == two.Root && one.Root != Nothing
        ? (one with { Low = Math.Min(one.Low, two.Low), High = Math.Max(one.High, two.High) }).Limited()
        : Unknown;

    private Reach Limited() => (Kind == ReachKind.Host || High - Low < Widest) && Low is > -Farthest and < Farthest && High is > -Farthest and < Farthest ? this : Unknown;
}
