using System.Globalization;
using Spectre.Console;
using Tutti.Guests;
using Tutti.Host;

namespace Tutti.Cli;

/// <summary>Shows how far a pull is on standard error: a bar on a terminal, else a line a stage. Shows nothing when nothing is reported.</summary>
internal static class PullProgress
{
    internal static Task<T> RunAsync<T>(Func<IProgress<ImageProgress>, Task<T>> pull) =>
        HostTerminal.IsTerminal(HostStream.StandardError) ? RunWithBarAsync(pull) : pull(new LineReport());

    private static async Task<T> RunWithBarAsync<T>(Func<IProgress<ImageProgress>, Task<T>> pull)
    {
        // The bar, and the drawing library with it, comes only once there is something to show: mostly there is not.
        BarReport report = new();
        Task<T> work = pull(report);
        await Task.WhenAny(work, report.Started);
        if (!work.IsCompleted)
        {
            await Draw(work, report);
        }

        return await work;
    }

    private static Task Draw(Task work, BarReport report)
    {
        IAnsiConsole console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(Console.Error) });
        return console.Progress()
            .AutoClear(true)
            .Columns(new TaskDescriptionColumn { Alignment = Justify.Left }, new ProgressBarColumn(), new PercentageColumn())
            .StartAsync(async context =>
            {
                ProgressTask task = context.AddTask("image");
                while (!work.IsCompleted)
                {
                    ImageProgress latest = report.Latest;
                    task.Description = Markup.Escape(latest.Stage);
                    task.Value = latest.Fraction * 100;
                    await Task.WhenAny(work, Task.Delay(100));
                }
            });
    }

    private sealed class BarReport : IProgress<ImageProgress>
    {
        private readonly TaskCompletionSource _started = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly Lock _lock = new();
        private ImageProgress _latest;

        internal Task Started => _started.Task;

        internal ImageProgress Latest
        {
            get
            {
                lock (_lock)
                {
                    return _latest;
                }
            }
        }

        public void Report(ImageProgress value)
        {
            lock (_lock)
            {
                _latest = value;
            }

            _started.TrySetResult();
        }
    }

    private sealed class LineReport : IProgress<ImageProgress>
    {
        private readonly Lock _lock = new();
        private string? _stage;

        public void Report(ImageProgress value)
        {
            lock (_lock)
            {
                if (value.Stage == _stage)
                {
                    return;
                }

                _stage = value.Stage;
                Notices.Write(string.Create(CultureInfo.InvariantCulture, $"{value.Stage} ({value.Fraction:P0})"));
            }
        }
    }
}
