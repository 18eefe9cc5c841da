namespace Tutti.Network;

/// <summary>A network can't be had as asked for: the message is one line that says what is wrong and how to mend it.</summary>
public sealed class NetworkException(string message) : Exception(message);
