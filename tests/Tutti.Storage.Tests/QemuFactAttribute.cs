using System.Diagnostics;

namespace Tutti.Storage.Tests;

/// <summary>A test that needs QEMU's image programs; skipped with that reason where they are not installed.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class QemuFactAttribute : FactAttribute
{
    public QemuFactAttribute()
    {
        if (!QemuImage.IsInstalled)
        {
            Skip = QemuImage.Missing;
        }
    }
}

/// <summary>The same for a test with several rows.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class QemuTheoryAttribute : TheoryAttribute
{
    public QemuTheoryAttribute()
    {
        if (!QemuImage.IsInstalled)
        {
            Skip = QemuImage.Missing;
        }
    }
}

/// <summary>QEMU's image programs.</summary>
internal static class QemuImage
{
    public const string Missing = "qemu-img and qemu-io are not installed (Debian package qemu-utils)";

    public static bool IsInstalled { get; } = (Environment.GetEnvironmentVariable("PATH") ?? string.Empty).Split(':')
        .Any(folder => File.Exists(Path.Combine(folder, "qemu-img")) && File.Exists(Path.Combine(folder, "qemu-io")));

    public static (int Status, string Output, string Error) Run(string program, params string[] args)
    {
        using Process process = Start(program, args);
        process.StandardInput.Close();
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        Task<string> error = process.StandardError.ReadToEndAsync();
        Assert.True(process.WaitForExit(60_000), $"{program} does not end");
        return (process.ExitCode, output.Result, error.Result);
    }

    public static Process Start(string program, params string[] args) => Process.Start(new ProcessStartInfo(program, args)
    {
        RedirectStandardInput = true,
        RedirectStandardOutput = true,
        RedirectStandardError = true,
    })!;
}
