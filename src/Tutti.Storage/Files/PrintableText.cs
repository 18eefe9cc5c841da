namespace Tutti.Storage;

/// <summary>What an image, or the name of a file, says: for people's eyes only.</summary>
public static class PrintableText
{
    /// <summary>The text with a question mark for each control character: none of it may talk to the terminal that shows it.</summary>
    public static string Of(string text) => string.Concat(text.Select(c => char.IsControl(c) ? '?' : c));
}
