namespace Tutti.Boot;

/// <summary>A kernel cannot be loaded; the message is one sentence that says why and how to mend it.</summary>
public sealed class BootException : Exception
{
    public BootException(string message)
        : base(message)
    {
    }

    public BootException(string message, Exception inner)
        : base(message, inner)
    {
    }
}
