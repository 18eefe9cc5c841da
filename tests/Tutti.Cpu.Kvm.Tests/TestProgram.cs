using System.Reflection;
using Xunit.Abstractions;
using Xunit.Sdk;

namespace Tutti.Cpu.Kvm.Tests;

/// <summary>
/// Runs this assembly's tests without an SDK, as the nested test does on a processor with AMD-V; or, started by a test, is the
/// process that gets killed.
/// </summary>
internal static class TestProgram
{
    internal const string HoldArgument = "hold";

    /// <summary>
    /// <c>run [PART...]</c>: the tests whose names have none of the parts, one line for each that fails or is skipped and one at the end.
    /// </summary>
    private static int Main(string[] args)
    {
        if (args is [HoldArgument])
        {
            return HoldingProcess.Run();
        }

        if (args is not ["run", .. string[] without])
        {
            Console.Error.WriteLine($"usage: {HoldArgument} | run [PART...]");
            return 2;
        }

        // While one VM is there the processor's virtualization stays on, instead of going off and on with every test.
        using SmallGuest? held = Kvm.Reason == null ? new SmallGuest() : null;
        using Reports reports = new();
        AssemblyName assembly = typeof(TestProgram).Assembly.GetName();
        XunitTestFramework framework = new(reports);
        using ITestFrameworkExecutor executor = framework.GetExecutor(assembly);
        using (ITestFrameworkDiscoverer discoverer = framework.GetDiscoverer(Reflector.Wrap(typeof(TestProgram).Assembly)))
        {
            discoverer.Find(includeSourceInformation: false, reports, new Options());
            reports.Discovered.Wait();
        }

        executor.RunTests(reports.Cases.Where(c => !without.Any(c.DisplayName.Contains)), reports, new Options());
        reports.Finished.Wait();
        Console.WriteLine($"{reports.Passed} passed, {reports.Failed} failed, {reports.Skipped} skipped");
        return reports.Failed == 0 && reports.Passed > 0 ? 0 : 1;
    }

    /// <summary>No option is set: all have their defaults.</summary>
    private sealed class Options : LongLivedMarshalByRefObject, ITestFrameworkDiscoveryOptions, ITestFrameworkExecutionOptions
    {
        public TValue GetValue<TValue>(string name) => default!;

        public void SetValue<TValue>(string name, TValue value)
        {
            // xunit copies options between objects; these need none.
        }
    }

    private sealed class Reports : LongLivedMarshalByRefObject, IMessageSink, IDisposable
    {
        internal List<ITestCase> Cases { get; } = [];

        internal ManualResetEventSlim Discovered { get; } = new();

        internal ManualResetEventSlim Finished { get; } = new();

        internal int Passed { get; private set; }

        internal int Failed { get; private set; }

        internal int Skipped { get; private set; }

        public bool OnMessage(IMessageSinkMessage message)
        {
            switch (message)
            {
                case ITestCaseDiscoveryMessage found:
                    Cases.Add(found.TestCase);
                    break;
                case IDiscoveryCompleteMessage:
                    Discovered.Set();
                    break;
                case ITestStarting starting:
                    // Whoever looks at a run that hangs wants to know where.
                    Console.WriteLine($"starting: {starting.Test.DisplayName}");
                    break;
                case ITestPassed:
                    Passed++;
                    break;
                case ITestSkipped skipped:
                    Skipped++;
                    Console.WriteLine($"skipped: {skipped.Test.DisplayName}: {skipped.Reason}");
                    break;
                case ITestFailed failed:
                    Failed++;
                    Console.WriteLine($"failed: {failed.Test.DisplayName}: {failed.Messages.FirstOrDefault()?.ReplaceLineEndings(" ")}");
                    Console.WriteLine(failed.StackTraces.FirstOrDefault());
                    break;
                case IErrorMessage error:
                    Failed++;
                    Console.WriteLine($"failed: {error.Messages.FirstOrDefault()?.ReplaceLineEndings(" ")}");
                    break;
                case ITestAssemblyFinished:
                    Finished.Set();
                    break;
            }

            return true;
        }

        public void Dispose()
        {
            Discovered.Dispose();
            Finished.Dispose();
        }
    }
}
