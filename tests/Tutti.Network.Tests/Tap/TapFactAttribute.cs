using System.Diagnostics;

namespace Tutti.Network.Tests.Tap;

/// <summary>A test that makes TAP devices and network namespaces of its own; it wants root and the kernel's driver.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class TapFactAttribute : FactAttribute
{
    public TapFactAttribute() => Skip = Missing;

    /// <summary>Why such tests can't be run here; null where they can.</summary>
    internal static string? Missing { get; } = Try();

    private static string? Try()
    {
        if (!Environment.IsPrivilegedProcess)
        {
            return "Only root may make TAP devices and network namespaces.";
        }

        if (!File.Exists("/dev/net/tun"))
        {
            return "This kernel has no TAP driver (/dev/net/tun).";
        }

        string name = $"tutti-try-{Environment.ProcessId}";
        try
        {
            Command.Run("ip", "netns", "add", name);
            Command.Run("ip", "netns", "del", name);
            return null;
        }
        catch (Exception e) when (e is InvalidOperationException or System.ComponentModel.Win32Exception)
        {
            return $"Network namespaces can't be made here: {e.Message}";
        }
    }
}

/// <summary>The same with data.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class TapTheoryAttribute : TheoryAttribute
{
    public TapTheoryAttribute() => Skip = TapFactAttribute.Missing;
}

/// <summary>A program of the host's.</summary>
internal static class Command
{
    /// <summary>Runs it to its end and gives its standard output; throws where it fails.</summary>
    public static string Run(string program, params string[] arguments)
    {
        using Process process = Start(program, arguments);
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return process.ExitCode == 0 ? output : throw new InvalidOperationException($"{program} {string.Join(' ', arguments)}: {errors.Result}{output}");
    }

    public static Process Start(string program, params string[] arguments)
    {
        ProcessStartInfo start = new(program) { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (string argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        return Process.Start(start)!;
    }
}
