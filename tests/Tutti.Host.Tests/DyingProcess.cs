namespace Tutti.Host.Tests;

/// <summary>What a child of the tests does: put its standard input into raw mode, say so, and die in the way it is told.</summary>
internal static class DyingProcess
{
    private static int Main(string[] args)
    {
        using ManualResetEventSlim ended = new();
        int status = 0;
        using TerminationSignals signals = new(signal =>
        {
            status = TerminationSignals.ExitStatus(signal);
            ended.Set();
        });
        using HostTerminal? terminal = HostTerminal.TryEnterRawMode(0);
        using HostStream output = new(1);
        output.Write("raw"u8);
        switch (args[0])
        {
            case "throw":
                new Thread(() => throw new InvalidOperationException("on purpose")).Start();
                break;
            case "failfast":
                Environment.FailFast("on purpose");
                break;
            case "exit":
                Environment.Exit(7);
                break;
            case "return":
                return 8;
            case "ignore":
                // A program that hangs after the first signal.
                ended.Wait();
                Thread.Sleep(Timeout.Infinite);
                break;
        }

        ended.Wait();
        return status;
    }
}
