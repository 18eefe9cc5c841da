using System.Globalization;

namespace Tutti.Engines.Compare;

/// <summary>One field that two engines left differently.</summary>
/// <param name="Field">What differs: a register's name, "memory" with its address, "io", "ending".</param>
/// <param name="First">The first engine's value in words.</param>
/// <param name="Second">The second engine's value in words.</param>
/// <param name="FirstValue">The same as a number, where it is one.</param>
/// <param name="SecondValue">The same as a number, where it is one.</param>
internal sealed record Difference(string Field, string First, string Second, ulong FirstValue = 0, ulong SecondValue = 0)
{
    /// <summary>Bits that are not the same.</summary>
    public ulong Bits => FirstValue ^ SecondValue;

    /// <summary>The address of a memory difference, an 8-byte word's; else null.</summary>
    public ulong? Address => Field.StartsWith("memory ", StringComparison.Ordinal)
        && ulong.TryParse(Field.AsSpan(7), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong address) ? address : null;

    public static Difference Of(string field, ulong first, ulong second) => new(field, Hex(first), Hex(second), first, second);

    private static string Hex(ulong value) => value.ToString("x", CultureInfo.InvariantCulture);
}
