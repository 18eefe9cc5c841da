using System.Diagnostics;

namespace Tutti.Cli.Tests;

/// <summary>The command as built, in a process of its own with a cache folder of its own.</summary>
internal sealed class TuttiProcess : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    public TuttiProcess()
    {
        Folder = Directory.CreateTempSubdirectory("tutti-cli-test").FullName;
    }

    /// <summary>A folder for files of the test; the cache is in it too.</summary>
    public string Folder { get; }

    public string Cache => Path.Combine(Folder, "cache");

    /// <summary>Hides the host's AVX from the process, by a setting of the runtime.</summary>
    public bool HidesAvx { get; set; }

    public string MakeFile(string name, byte[] content)
    {
        string path = Path.Combine(Folder, name);
        File.WriteAllBytes(path, content);
        return path;
    }

    /// <summary>Runs to the end with no input.</summary>
    public (int Status, string Output, string Error) Run(params string[] args) => RunUnder([], args);

    /// <summary>The same, started by another program; the command follows that one's arguments.</summary>
    public (int Status, string Output, string Error) RunUnder(string[] wrapper, params string[] args)
    {
        ProcessStartInfo start = Describe(args);
        if (wrapper.Length > 0)
        {
            string[] command = [.. wrapper[1..], start.FileName, .. start.ArgumentList];
            start.FileName = wrapper[0];
            start.ArgumentList.Clear();
            foreach (string word in command)
            {
                start.ArgumentList.Add(word);
            }
        }

        using Process process = Process.Start(start)!;
        process.StandardInput.Close();
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        Task<string> error = process.StandardError.ReadToEndAsync();
        Wait(process);
        return (process.ExitCode, output.Result, error.Result);
    }

    /// <summary>Starts with a terminal as its three streams.</summary>
    public Process StartOn(string terminal, params string[] args)
    {
        ProcessStartInfo tutti = Describe(args);
        ProcessStartInfo start = new("/bin/sh") { ArgumentList = { "-c", "exec \"$@\" <\"$0\" >\"$0\" 2>&1", terminal, tutti.FileName } };
        foreach (string argument in tutti.ArgumentList)
        {
            start.ArgumentList.Add(argument);
        }

        start.Environment["XDG_CACHE_HOME"] = Cache;
        return Process.Start(start)!;
    }

    public static void Wait(Process process)
    {
        if (!process.WaitForExit(Patience))
        {
            process.Kill();
            Assert.Fail("tutti did not end");
        }
    }

    public void Dispose() => Directory.Delete(Folder, recursive: true);

    private ProcessStartInfo Describe(string[] args)
    {
        ProcessStartInfo start = new(Environment.ProcessPath!.EndsWith("/dotnet", StringComparison.Ordinal) ? Environment.ProcessPath : "dotnet")
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            ArgumentList = { "exec", typeof(CommandLine).Assembly.Location },
        };
        foreach (string argument in args)
        {
            start.ArgumentList.Add(argument);
        }

        start.Environment["XDG_CACHE_HOME"] = Cache;
        if (HidesAvx)
        {
            start.Environment["DOTNET_EnableAVX"] = "0";
        }

        return start;
    }
}
