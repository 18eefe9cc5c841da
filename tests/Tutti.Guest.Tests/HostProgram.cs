using System.Diagnostics;
using System.Net;
using System.Net.Sockets;

namespace Tutti.Guest.Tests;

/// <summary>Programs of the host's that prepare guests and judge what they left.</summary>
internal static class HostProgram
{
    /// <summary>Runs a program to its end, found along PATH or in the folders of the administrator's; gives its exit status and all that it printed.</summary>
    public static (int Status, string Text) Run(string program, params string[] arguments)
    {
        ProcessStartInfo start = new(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["PATH"] += ":/usr/sbin:/sbin";
        using Process process = Process.Start(start)!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string text = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, text + errors.Result);
    }

    /// <summary>A TCP port of 127.0.0.1 that nobody has just now.</summary>
    public static int FreePort()
    {
        using TcpListener listener = new(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}
