namespace Tutti.Cli;

/// <summary>The user can mend this; the message is one line that says what is wrong and how.</summary>
internal sealed class UserException : Exception
{
    internal UserException(string message)
        : base(message)
    {
    }
}
