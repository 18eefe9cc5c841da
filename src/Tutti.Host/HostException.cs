using System.Runtime.InteropServices;

namespace Tutti.Host;

/// <summary>A call to the host's kernel has failed.</summary>
public sealed class HostException : IOException
{
    /// <param name="call">Name of the call.</param>
    /// <param name="errno">The kernel's error number, above 0.</param>
    public HostException(string call, int errno)
        : base($"{call}: {Marshal.GetPInvokeErrorMessage(errno)} (errno {errno})")
    {
        Call = call;
        Errno = errno;
    }

    /// <summary>Name of the call.</summary>
    public string Call { get; }

    /// <summary>The kernel's error number.</summary>
    public int Errno { get; }

    /// <summary>Makes the exception for the last P/Invoke of this thread.</summary>
    public static HostException FromLastError(string call) => new(call, Marshal.GetLastPInvokeError());
}
