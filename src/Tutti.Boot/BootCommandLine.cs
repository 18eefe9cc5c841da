using System.Text;

namespace Tutti.Boot;

/// <summary>The kernel command line as bytes.</summary>
internal static class BootCommandLine
{
    /// <summary>UTF-8 with a NUL at the end. A NUL inside would cut the line short unseen, so it is an error.</summary>
    public static byte[] Encode(string commandLine)
    {
        if (commandLine.Contains('\0', StringComparison.Ordinal))
        {
            throw new BootException("The kernel command line contains a NUL character, which would cut it short: take it out.");
        }

        byte[] bytes = new byte[Encoding.UTF8.GetByteCount(commandLine) + 1];
        Encoding.UTF8.GetBytes(commandLine, bytes);
        return bytes;
    }

    /// <param name="commandLine">With its NUL.</param>
    /// <param name="limit">Most bytes that the kernel takes, without the NUL.</param>
    public static void CheckLength(byte[] commandLine, uint limit)
    {
        int length = commandLine.Length - 1;
        if ((uint)length > limit)
        {
            throw new BootException($"The kernel command line is {length} bytes long and this kernel takes at most {limit}: shorten it.");
        }
    }
}
