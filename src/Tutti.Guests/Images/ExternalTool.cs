using System.ComponentModel;
using System.Diagnostics;
using System.Text;

namespace Tutti.Guests;

/// <summary>What a tool left behind.</summary>
/// <param name="ExitCode">0 for success.</param>
/// <param name="Output">Standard output, as far as nobody else took it.</param>
/// <param name="Errors">Standard error, at most 64 KiB of it.</param>
internal sealed record ToolResult(int ExitCode, string Output, string Errors);

/// <summary>Runs programs of the host in English, without a terminal, and ends them when the caller gives up.</summary>
internal static class ExternalTool
{
    private const int MaxText = 1 << 16;

    /// <summary>apt reports at least each second while it works, and waits for a silent server for two minutes at most. One that is quiet for longer hangs, as it does on some full disks.</summary>
    private static readonly TimeSpan Silence = TimeSpan.FromSeconds(150);

    /// <summary>Absolute path of a program, or null.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="searchPath">Where to look, in the form of PATH.</param>
    public static string? Find(string name, string searchPath) => searchPath
        .Split(':', StringSplitOptions.RemoveEmptyEntries)
        .Select(folder => Path.Combine(folder, name))
        .FirstOrDefault(File.Exists);

    /// <summary>Runs a program to its end.</summary>
    /// <param name="path">Absolute path.</param>
    /// <param name="arguments">Passed on as they are.</param>
    /// <param name="folder">Working folder.</param>
    /// <param name="onLine">Takes each line of standard output; null collects it, at most 64 KiB, in the result.</param>
    /// <param name="silence">How long it may write no line to standard output; null for 150 seconds.</param>
    /// <exception cref="ImageException">It cannot be started, or was silent for too long.</exception>
    public static async Task<ToolResult> RunAsync(
        string path, IReadOnlyList<string> arguments, string folder, Action<string>? onLine, CancellationToken cancellationToken, TimeSpan? silence = null)
    {
        using Process process = Start(path, arguments, folder);
        using CancellationTokenSource silent = new(silence ?? Silence);
        await using CancellationTokenRegistration registration = cancellationToken.Register(() => End(process));
        await using CancellationTokenRegistration watchdog = silent.Token.Register(() => End(process));
        Task<string> errors = ReadAsync(process.StandardError, null);
        string output = await ReadAsync(process.StandardOutput, onLine is null ? null : Note).ConfigureAwait(false);
        string errorText = await errors.ConfigureAwait(false);
        await process.WaitForExitAsync(CancellationToken.None).ConfigureAwait(false);
        cancellationToken.ThrowIfCancellationRequested();
        if (silent.IsCancellationRequested)
        {
            throw new ImageException($"{Path.GetFileName(path)} has hung and was ended: check the network and that the disk of the image cache is not full, then try again.");
        }

        return new ToolResult(process.ExitCode, output, errorText);

        void Note(string line)
        {
            silent.CancelAfter(silence ?? Silence);
            onLine(line);
        }
    }

    /// <summary>Runs a program and gives its standard output to <paramref name="read"/>; when that returns, the program is ended.</summary>
    public static async Task<ToolResult> ReadOutputAsync(string path, IReadOnlyList<string> arguments, string folder, Func<Stream, Task> read, CancellationToken cancellationToken)
    {
        using Process process = Start(path, arguments, folder);
        await using CancellationTokenRegistration registration = cancellationToken.Register(() => End(process));
        Task<string> errors = ReadAsync(process.StandardError, null);
        try
        {
            await read(process.StandardOutput.BaseStream).ConfigureAwait(false);
        }
        catch (Exception) when (cancellationToken.IsCancellationRequested)
        {
            throw new OperationCanceledException(cancellationToken);
        }
        finally
        {
            // A program that has failed by itself ends within this time; one that still writes would never end.
            using CancellationTokenSource patience = new(TimeSpan.FromMilliseconds(200));
            try
            {
                await process.WaitForExitAsync(patience.Token).ConfigureAwait(false);
            }
            catch (OperationCanceledException)
            {
                End(process);
                await process.WaitForExitAsync(CancellationToken.None).ConfigureAwait(false);
            }
        }

        return new ToolResult(process.ExitCode, string.Empty, await errors.ConfigureAwait(false));
    }

    private static Process Start(string path, IReadOnlyList<string> arguments, string folder)
    {
        ProcessStartInfo start = new(path, arguments)
        {
            WorkingDirectory = folder,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            StandardOutputEncoding = Encoding.UTF8,
            StandardErrorEncoding = Encoding.UTF8,
        };
        start.Environment["LC_ALL"] = "C";
        start.Environment["DEBIAN_FRONTEND"] = "noninteractive";
        try
        {
            Process process = Process.Start(start) ?? throw new ImageException($"'{path}' could not be started.");
            process.StandardInput.Close();
            return process;
        }
        catch (Win32Exception error)
        {
            throw new ImageException($"'{path}' could not be started: {error.Message}.", error);
        }
    }

    private static void End(Process process)
    {
        try
        {
            process.Kill(entireProcessTree: true);
        }
        catch (Exception error) when (error is InvalidOperationException or Win32Exception)
        {
            // It has ended by itself in between.
        }
    }

    private static async Task<string> ReadAsync(StreamReader reader, Action<string>? onLine)
    {
        StringBuilder text = new();
        while (await reader.ReadLineAsync().ConfigureAwait(false) is string line)
        {
            if (onLine is not null)
            {
                onLine(line);
            }
            else if (text.Length + line.Length < MaxText)
            {
                text.Append(line).Append('\n');
            }
        }

        return text.ToString();
    }
}
