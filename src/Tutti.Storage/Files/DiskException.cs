namespace Tutti.Storage;

/// <summary>A disk can't be used as the user wants it; the message is one line that says what is wrong and how to mend it.</summary>
public sealed class DiskException : IOException
{
    public DiskException(string message)
        : base(message)
    {
    }

    public DiskException(string message, Exception inner)
        : base(message, inner)
    {
    }
}
