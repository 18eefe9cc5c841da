namespace Tutti.Compare;

/// <summary>What the user has to mend before anything can be measured; one line.</summary>
internal sealed class CompareException(string message) : Exception(message);
