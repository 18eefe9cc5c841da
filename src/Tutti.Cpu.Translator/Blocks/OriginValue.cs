namespace Tutti.Cpu.Translator;

/// <summary>What is known of a 64-bit number: it is that of an origin and something between two bounds, modulo 2^64.</summary>
/// <param name="Origin">Whose value; <see cref="Nothing"/> where nothing is known, <see cref="Zero"/> where the bounds are those of the number itself.</param>
internal readonly record struct OriginValue(int Origin, long Low, long High)
{
    private const int Nothing = 0;

    /// <summary>Of what is a small number by itself.</summary>
    public const int Zero = 1;

    /// <summary>Bounds are not followed farther. Their sums, differences and products by a scale fit 64 bits.</summary>
    private const long MaxBound = 1L << 37;

    /// <summary>Nor are they where they are farther apart: what is known reaches itself, with any displacement, in its region's guards.</summary>
    private const long MaxWidth = 40L << 30;

    private const long MaxScale = 1 << 20;

    public static OriginValue Unknown => default;

    /// <summary>Any number of 32 bits.</summary>
    public static OriginValue Word => new(Zero, 0, uint.MaxValue);

    /// <summary>Any number of 32 bits with a sign.</summary>
    public static OriginValue SignedWord => new(Zero, int.MinValue, int.MaxValue);

    public bool IsKnown => Origin != Nothing;

    public bool IsNumber => Origin == Zero;

    public static OriginValue Number(long low, long high) => Bounded(Zero, low, high);

    /// <summary>Whether the bounds, too, are those of a number of so many bits without a sign.</summary>
    public bool IsWithin(long low, long high) => IsNumber && Low >= low && High <= high;

    public OriginValue Plus(long constant) =>
        IsKnown && constant is > -MaxBound and < MaxBound ? Bounded(Origin, Low + constant, High + constant) : Unknown;

    /// <summary>The sum of two numbers, one of which is small.</summary>
    public OriginValue Plus(OriginValue other)
    {
        if (!IsKnown || !other.IsKnown || !(IsNumber || other.IsNumber))
        {
            return Unknown;
        }

        return Bounded(IsNumber ? other.Origin : Origin, Low + other.Low, High + other.High);
    }

    /// <summary>The difference of numbers: small itself where both have one origin.</summary>
    public OriginValue Minus(OriginValue other)
    {
        bool isShared = IsKnown && Origin == other.Origin;
        return isShared || (IsKnown && other.IsNumber) ? Bounded(isShared ? Zero : Origin, Low - other.High, High - other.Low) : Unknown;
    }

    /// <summary>Multiplied by a constant: small, where that is.</summary>
    public OriginValue Times(long factor)
    {
        if (factor == 1)
        {
            return this;
        }

        if (!IsNumber || factor is < -MaxScale or > MaxScale)
        {
            return Unknown;
        }

        return Bounded(Zero, Math.Min(Low * factor, High * factor), Math.Max(Low * factor, High * factor));
    }

    /// <summary>One of the two.</summary>
    public OriginValue Or(OriginValue other) =>
        IsKnown && Origin == other.Origin ? Bounded(Origin, Math.Min(Low, other.Low), Math.Max(High, other.High)) : Unknown;

    /// <summary>Whether all numbers of the two are nearer to each other than <paramref name="reach"/>.</summary>
    public bool IsNear(OriginValue other, long reach) =>
        IsKnown && Origin == other.Origin && High - other.Low < reach && other.High - Low < reach;

    private static OriginValue Bounded(int origin, long low, long high) =>
        low > -MaxBound && high < MaxBound && high - low < MaxWidth ? new OriginValue(origin, low, high) : Unknown;
}
