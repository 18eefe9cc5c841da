using Tutti.Bench;

namespace Tutti.Programs;

/// <summary>
/// One place with a console that takes names of programs, started when it is first asked: a guest, or a shell in the root folder. What hangs
/// is ended, and what ends by itself is started anew for the next program.
/// </summary>
/// <param name="start">Starts it.</param>
/// <param name="limit">How long a program may take.</param>
/// <param name="isGuest">Whether the process itself does the work: then its processor time is that of the program.</param>
internal sealed class ProgramSession(Func<GuestRun> start, TimeSpan limit, bool isGuest) : IDisposable
{
    private static readonly TimeSpan BootPatience = TimeSpan.FromMinutes(4);
    private static readonly TimeSpan EndPatience = TimeSpan.FromSeconds(30);

    private GuestRun? _run;

    /// <summary>What the process has said on standard error when it ended.</summary>
    internal string LastErrors { get; private set; } = string.Empty;

    /// <summary>Measures one program.</summary>
    /// <param name="command">What is typed.</param>
    /// <param name="name">Whose result is waited for.</param>
    internal ProgramRun Measure(string command, string name)
    {
        GuestRun run = _run ??= start();
        if (run.WaitFor(ProgramLines.Ready, BootPatience) is null)
        {
            return Fail($"it did not start: {run.LastWords}");
        }

        int before = run.Output.Length;
        try
        {
            run.Type(command);
        }
        catch (IOException)
        {
            return Fail($"it has ended: {run.LastWords}");
        }

        TimeSpan until = run.Elapsed + limit;
        bool isDone(string output) => ProgramLines.CountDone(output[before..]) > 0;
        run.WaitFor(output => ProgramLines.HasStarted(output[before..], name) || isDone(output), until);
        double processor = isGuest && !run.HasEnded ? run.ProcessorSeconds() : 0;
        run.WaitFor(output => ProgramLines.Find(output[before..], name) is not null || isDone(output), until);
        processor = isGuest && !run.HasEnded ? run.ProcessorSeconds() - processor : 0;
        if (run.WaitFor(isDone, until) is null)
        {
            return Fail(run.HasEnded ? $"it ended: {run.LastWords}" : $"not done in {limit.TotalSeconds:F0} s: {run.LastWords}");
        }

        ProgramRun result = ProgramLines.Find(run.Output[before..], name) ?? ProgramRun.Failed($"no result: {run.LastWords}");
        return isGuest ? result with { Processor = processor } : result;
    }

    /// <summary>Switches it off in an orderly way.</summary>
    /// <returns>Whether it did so.</returns>
    internal bool End()
    {
        bool isOff = _run?.End(ProgramLines.Off, EndPatience) ?? true;
        Stop();
        return isOff;
    }

    public void Dispose() => Stop();

    private ProgramRun Fail(string why)
    {
        Stop();
        return ProgramRun.Failed(why);
    }

    private void Stop()
    {
        LastErrors = _run?.Errors ?? LastErrors;
        _run?.Dispose();
        _run = null;
    }
}
